#ifndef TFSAC_KERNELS_MLP_ATTRIBUTES_H_
#define TFSAC_KERNELS_MLP_ATTRIBUTES_H_

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "mlp_call.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace tfsac {

// Whether the lists of MlpGradient have the lengths that its attributes say.
// TensorFlow asks when it builds a graph; who calls the op at once asks the
// kernel.
template <typename Context>
absl::Status CheckCounts(Context* context) {
  std::vector<bool> wanted_inputs;
  bool wants_weights;
  int num_inputs, num_layers, num_hidden, num_wanted, num_weights;
  TF_RETURN_IF_ERROR(context->GetAttr("wanted_inputs", &wanted_inputs));
  TF_RETURN_IF_ERROR(context->GetAttr("wants_weights", &wants_weights));
  TF_RETURN_IF_ERROR(context->GetAttr("M", &num_inputs));
  TF_RETURN_IF_ERROR(context->GetAttr("L", &num_layers));
  TF_RETURN_IF_ERROR(context->GetAttr("H", &num_hidden));
  TF_RETURN_IF_ERROR(context->GetAttr("W", &num_wanted));
  TF_RETURN_IF_ERROR(context->GetAttr("G", &num_weights));
  if (static_cast<int>(wanted_inputs.size()) == num_inputs &&
      std::count(wanted_inputs.begin(), wanted_inputs.end(), true) ==
          num_wanted &&
      num_hidden == num_layers - 1 &&
      num_weights == (wants_weights ? 2 * num_layers : 0)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      "expected a wanted_inputs of M flags, W of them true, H = L - 1, and "
      "G = 2 L for wants_weights, else 0");
}

// Reads the attributes of Mlp or MlpGradient.
inline absl::Status GetAttributes(tensorflow::OpKernelConstruction* context,
                                  bool is_gradient, MlpCall* call) {
  call->is_gradient = is_gradient;
  std::string activation;
  TF_RETURN_IF_ERROR(context->GetAttr("activation", &activation));
  call->activation =
      activation == "tanh" ? Activation::kTanh : Activation::kRelu;
  TF_RETURN_IF_ERROR(context->GetAttr("M", &call->num_inputs));
  TF_RETURN_IF_ERROR(context->GetAttr("L", &call->num_layers));
  if (!is_gradient) return absl::OkStatus();
  TF_RETURN_IF_ERROR(CheckCounts(context));
  std::vector<bool> wanted_inputs;
  TF_RETURN_IF_ERROR(context->GetAttr("wanted_inputs", &wanted_inputs));
  if (wanted_inputs.size() > 64) {
    return absl::UnimplementedError("expected at most 64 inputs");
  }
  for (size_t i = 0; i < wanted_inputs.size(); ++i) {
    if (wanted_inputs[i]) call->wanted_inputs |= uint64_t{1} << i;
  }
  return context->GetAttr("wants_weights", &call->wants_weights);
}

}  // namespace tfsac

#endif  // TFSAC_KERNELS_MLP_ATTRIBUTES_H_
