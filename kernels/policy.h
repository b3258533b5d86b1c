#ifndef TFSAC_KERNELS_POLICY_H_
#define TFSAC_KERNELS_POLICY_H_

#include <cstdint>
#include <vector>

#include "mlp.h"
#include "normal.h"
#include "parallel.h"
#include "simd.h"

namespace tfsac {

// What does not change between calls: the squashed Gaussian's bounds.
struct PolicyBounds {
  float log_std_min, log_std_max;
  std::vector<float> low, high;  // of the actions, in the env's units
};

// Observations, [B, O]: one pointer, the other is null.
struct Rows {
  const float* floats;
  const uint8_t* bytes;
  int64_t batch, width;
};

// The built-in actor's policy. Writes actions [B, A] in the env's units: tanh
// of the mean for a null `seed`, else sampled with the seed's noise. `layers`
// are a stack of dense layers without an ensemble, the last of which returns
// A means and A log standard deviations. A row that holds NaN is answered with
// NaN. It is the twin of `Policy` in tfsac/acting.py.
void Act(const Rows& rows, Activation activation,
         const std::vector<Mlp::Layer>& layers, const PolicyBounds& bounds,
         const Seed* seed, const Workers& workers, const Simd& simd,
         float* actions);

}  // namespace tfsac

#endif  // TFSAC_KERNELS_POLICY_H_
