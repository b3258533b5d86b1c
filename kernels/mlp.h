#ifndef TFSAC_KERNELS_MLP_H_
#define TFSAC_KERNELS_MLP_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "parallel.h"
#include "simd.h"

namespace tfsac {

enum class Activation { kRelu, kTanh };

// N networks of dense layers side by side, an ensemble, on the same rows. The
// activation follows every layer but the last. All arrays are float, row by
// row, without gaps.
struct Mlp {
  struct Input {
    const float* rows;  // [B, width]
    int64_t width;
  };
  struct Layer {
    const float* kernel;  // [N, in, width]
    const float* bias;    // [N, width]; not read by MlpBackward
    int64_t width;
  };

  Activation activation;
  int64_t members;            // N
  int64_t batch;              // B
  std::vector<Input> inputs;  // the first layer sees them side by side
  std::vector<Layer> layers;

  int64_t in(size_t layer) const;  // the width that the layer receives
};

// Computes what each layer returns, [N, B, width], the last one's included.
void MlpForward(const Mlp& mlp, const std::vector<float*>& outputs,
                const Workers& workers, const Simd& simd);

// Where gradients go; a null pointer where one is not wanted.
struct MlpGradients {
  std::vector<float*> inputs;  // [B, width] each, summed over the members
  // All layers' or none's, as in Mlp::Layer.
  std::vector<float*> kernels, biases;

  bool wants_weights() const { return !kernels.empty(); }
  bool wants_inputs() const;
};

// Computes gradients from that of the last layer's output, [N, B, width], and
// from what the layers before it returned, `hidden`. Where only gradients of
// inputs are wanted, rows whose output gradient is zero cost nothing.
void MlpBackward(const Mlp& mlp, const std::vector<const float*>& hidden,
                 const float* output_gradient, const MlpGradients& gradients,
                 const Workers& workers, const Simd& simd);

}  // namespace tfsac

#endif  // TFSAC_KERNELS_MLP_H_
