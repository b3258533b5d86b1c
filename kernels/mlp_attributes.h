#ifndef TFSAC_KERNELS_MLP_ATTRIBUTES_H_
#define TFSAC_KERNELS_MLP_ATTRIBUTES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "mlp_call.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace tfsac {

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
