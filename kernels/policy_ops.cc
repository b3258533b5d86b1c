// The policy's op: name, documentation, shapes. Its kernel, and the C function
// that acts, are in policy_kernels.cc.

#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfsac {
namespace {

using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

absl::Status PolicyCreateShape(InferenceContext* c) {
  int num_layers;
  TF_RETURN_IF_ERROR(c->GetAttr("L", &num_layers));
  ShapeHandle low, unused;
  for (int i = 0; i < 2 * num_layers; ++i) {
    TF_RETURN_IF_ERROR(c->WithRank(c->input(i), 0, &unused));
  }
  TF_RETURN_IF_ERROR(c->WithRank(c->input(2 * num_layers), 1, &low));
  TF_RETURN_IF_ERROR(c->Merge(low, c->input(2 * num_layers + 1), &unused));
  c->set_output(0, c->Scalar());
  c->set_output(1, c->Scalar());
  return absl::OkStatus();
}

REGISTER_OP("Tfsac>PolicyCreate")
    .Input("kernels: L * resource")
    .Input("biases: L * resource")
    .Input("low: float")
    .Input("high: float")
    .Attr("L: int >= 1")
    .Attr("activation: {'relu', 'tanh'} = 'relu'")
    .Attr("log_std_min: float")
    .Attr("log_std_max: float")
    .Attr("observation_dtype: {float, uint8} = DT_FLOAT")
    .Output("handle: resource")
    .Output("address: int64")
    .SetIsStateful()
    .SetShapeFn(PolicyCreateShape)
    .Doc(R"doc(
Makes a policy of the variables of a stack of dense layers.

The C function `tfsac_act` acts with it. It reads the variables at each call,
and so with the weights that they hold then. The last layer returns A means and
A log standard deviations.

kernels: Scalars. Variables of shape [in, width], float.
biases: Scalars. Variables of shape [width], float.
low: [A]. Lower bounds of the actions, in the env's units.
high: [A]. Their upper bounds.
activation: That of every layer but the last.
log_std_min: Lower bound of the log standard deviation.
log_std_max: Its upper bound.
observation_dtype: The type of the observations.
handle: Scalar. The policy, which lives as long as a tensor holds this.
address: Scalar. What `tfsac_act` calls the policy while it lives.
)doc");

}  // namespace
}  // namespace tfsac
