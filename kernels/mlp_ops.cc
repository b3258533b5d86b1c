// The ops of dense layers: names, documentation, shapes. The kernels are in
// mlp_kernels.cc, and for XLA in mlp_xla.cc.

#include <cstdint>
#include <vector>

#include "mlp_attributes.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfsac {
namespace {

using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

// What the inputs and kernels say, as far as it is known.
struct MlpShapes {
  int num_inputs, num_layers;
  DimensionHandle batch, members;
  std::vector<ShapeHandle> inputs, kernels;
};

absl::Status GetShapes(InferenceContext* c, MlpShapes* shapes) {
  TF_RETURN_IF_ERROR(c->GetAttr("M", &shapes->num_inputs));
  TF_RETURN_IF_ERROR(c->GetAttr("L", &shapes->num_layers));
  // Two of them: one handle for both would tell TensorFlow that B equals N.
  shapes->batch = c->UnknownDim();
  shapes->members = c->UnknownDim();
  DimensionHandle in = c->MakeDim(int64_t{0});
  for (int i = 0; i < shapes->num_inputs; ++i) {
    ShapeHandle input;
    TF_RETURN_IF_ERROR(c->WithRank(c->input(i), 2, &input));
    TF_RETURN_IF_ERROR(
        c->Merge(shapes->batch, c->Dim(input, 0), &shapes->batch));
    TF_RETURN_IF_ERROR(c->Add(in, c->Dim(input, 1), &in));
    shapes->inputs.push_back(input);
  }
  for (int i = 0; i < shapes->num_layers; ++i) {
    ShapeHandle kernel;
    TF_RETURN_IF_ERROR(
        c->WithRank(c->input(shapes->num_inputs + i), 3, &kernel));
    TF_RETURN_IF_ERROR(
        c->Merge(shapes->members, c->Dim(kernel, 0), &shapes->members));
    TF_RETURN_IF_ERROR(c->Merge(in, c->Dim(kernel, 1), &in));
    in = c->Dim(kernel, 2);
    shapes->kernels.push_back(kernel);
  }
  return absl::OkStatus();
}

absl::Status MlpShape(InferenceContext* c) {
  MlpShapes shapes;
  TF_RETURN_IF_ERROR(GetShapes(c, &shapes));
  for (int i = 0; i < shapes.num_layers; ++i) {
    const DimensionHandle width = c->Dim(shapes.kernels[i], 2);
    ShapeHandle unused;
    TF_RETURN_IF_ERROR(
        c->Merge(c->input(shapes.num_inputs + shapes.num_layers + i),
                 c->MakeShape({shapes.members, width}), &unused));
    c->set_output(i, c->MakeShape({shapes.members, shapes.batch, width}));
  }
  return absl::OkStatus();
}

absl::Status MlpGradientShape(InferenceContext* c) {
  MlpShapes shapes;
  TF_RETURN_IF_ERROR(GetShapes(c, &shapes));
  TF_RETURN_IF_ERROR(CheckCounts(c));
  std::vector<bool> wanted_inputs;
  bool wants_weights;
  TF_RETURN_IF_ERROR(c->GetAttr("wanted_inputs", &wanted_inputs));
  TF_RETURN_IF_ERROR(c->GetAttr("wants_weights", &wants_weights));
  for (int i = 0; i < shapes.num_layers; ++i) {
    ShapeHandle unused;
    TF_RETURN_IF_ERROR(
        c->Merge(c->input(shapes.num_inputs + shapes.num_layers + i),
                 c->MakeShape({shapes.members, shapes.batch,
                               c->Dim(shapes.kernels[i], 2)}),
                 &unused));
  }
  int output = 0;
  for (int i = 0; i < shapes.num_inputs; ++i) {
    if (wanted_inputs[i]) c->set_output(output++, shapes.inputs[i]);
  }
  for (int i = 0; wants_weights && i < shapes.num_layers; ++i) {
    c->set_output(output + i, shapes.kernels[i]);
    c->set_output(output + shapes.num_layers + i,
                  c->MakeShape({shapes.members, c->Dim(shapes.kernels[i], 2)}));
  }
  return absl::OkStatus();
}

REGISTER_OP("Tfsac>Mlp")
    .Input("inputs: M * float")
    .Input("kernels: L * float")
    .Input("biases: L * float")
    .Attr("M: int >= 1")
    .Attr("L: int >= 1")
    .Attr("activation: {'relu', 'tanh'} = 'relu'")
    .Output("outputs: L * float")
    .SetShapeFn(MlpShape)
    .Doc(R"doc(
Applies N stacks of L dense layers, an ensemble, to the same rows.

Layer i returns activation(x kernels[i] + biases[i]), the last one without
activation. Gradients pass through the last output alone; the others are there
for them.

inputs: [B, I_m] each. The first layer sees them side by side.
kernels: [N, in, width] each.
biases: [N, width] each.
outputs: What each layer returns, [N, B, width].
)doc");

REGISTER_OP("Tfsac>MlpGradient")
    .Input("inputs: M * float")
    .Input("kernels: L * float")
    .Input("hidden: H * float")
    .Input("output_gradient: float")
    .Attr("M: int >= 1")
    .Attr("L: int >= 1")
    .Attr("H: int >= 0")
    .Attr("activation: {'relu', 'tanh'} = 'relu'")
    .Attr("wanted_inputs: list(bool)")
    .Attr("wants_weights: bool")
    .Attr("W: int >= 0")
    .Attr("G: int >= 0")
    .Output("input_gradients: W * float")
    .Output("weight_gradients: G * float")
    .SetShapeFn(MlpGradientShape)
    .Doc(R"doc(
Computes the gradients of Mlp that are wanted, and no others.

Rows of `output_gradient` that are zero cost nothing where no gradients of
weights are wanted.

inputs: As of Mlp.
kernels: As of Mlp.
hidden: All outputs of Mlp but the last.
output_gradient: [N, B, width], for the last output.
activation: As of Mlp.
wanted_inputs: For each input, whether its gradient is wanted.
wants_weights: Whether those of kernels and biases are.
input_gradients: [B, I_m] each, summed over the N stacks.
weight_gradients: Those of the L kernels and then of the L biases, or none.
)doc");

}  // namespace
}  // namespace tfsac
