#ifndef TFSAC_KERNELS_MLP_SHARDS_H_
#define TFSAC_KERNELS_MLP_SHARDS_H_

#include <cstdint>

#include "mlp.h"
#include "parallel.h"

namespace tfsac {

// Below so many multiplications waking a thread takes longer than it helps.
inline constexpr int64_t kSerialWork = int64_t{1} << 18;

inline int64_t CeilOfRatio(int64_t a, int64_t b) { return (a + b - 1) / b; }

inline Workers ForWork(const Workers& workers, const Mlp& mlp) {
  int64_t work = 0;
  for (size_t layer = 0; layer < mlp.layers.size(); ++layer) {
    work += mlp.in(layer) * mlp.layers[layer].width;
  }
  return work * mlp.members * mlp.batch < kSerialWork ? Workers{} : workers;
}

}  // namespace tfsac

#endif  // TFSAC_KERNELS_MLP_SHARDS_H_
