#ifndef TFSAC_KERNELS_MLP_CALL_H_
#define TFSAC_KERNELS_MLP_CALL_H_

#include <cstdint>
#include <vector>

#include "mlp.h"
#include "parallel.h"
#include "status.h"

namespace tfsac {

using Shape = std::vector<int64_t>;

// A float array as TensorFlow and XLA hand it over.
template <typename Float>
struct Array {
  Float* data;
  Shape shape;
};

// One call of the op Mlp or MlpGradient, on whichever runtime: what the op's
// attributes say, and from there on the same for all. Operands and results are
// in the order of mlp_ops.cc.
struct MlpCall {
  bool is_gradient = false;
  Activation activation = Activation::kRelu;
  int64_t num_inputs = 1;
  int64_t num_layers = 1;
  uint64_t wanted_inputs = 0;  // bit i: whether the gradient of input i is
  bool wants_weights = false;

  // Checks that the operands' shapes fit together, and derives the results'.
  Status ResultShapes(const std::vector<Shape>& operands,
                      std::vector<Shape>* results) const;

  // Computes the results, whose memory is the runtime's.
  Status Run(const std::vector<Array<const float>>& operands,
             const std::vector<Array<float>>& results,
             const Workers& workers) const;

 private:
  Status CheckOperands(const std::vector<Shape>& operands) const;
};

}  // namespace tfsac

#endif  // TFSAC_KERNELS_MLP_CALL_H_
