#include "mlp_call.h"

#include <string>
#include <utility>

#include "simd.h"

namespace tfsac {
namespace {

std::string ToString(const Shape& shape) {
  std::string text = "[";
  for (const int64_t size : shape) {
    text += (text.size() > 1 ? ", " : "") + std::to_string(size);
  }
  return text + "]";
}

Status CheckShape(const std::string& name, const Shape& shape,
                  const Shape& expected) {
  if (shape == expected) return Status();
  return Status(Code::kInvalidArgument, name + ": expected shape " +
                                            ToString(expected) + ", received " +
                                            ToString(shape));
}

Status CheckRank(const std::string& name, const Shape& shape, size_t rank) {
  if (shape.size() == rank) return Status();
  return Status(Code::kInvalidArgument,
                name + ": expected rank " + std::to_string(rank) +
                    ", received shape " + ToString(shape));
}

std::string Name(const char* field, int64_t i) {
  return std::string(field) + "[" + std::to_string(i) + "]";
}

}  // namespace

Status MlpCall::CheckOperands(const std::vector<Shape>& operands) const {
  const int64_t num_hidden = num_layers - 1;
  const int64_t count =
      num_inputs + num_layers + (is_gradient ? num_hidden + 1 : num_layers);
  if (static_cast<int64_t>(operands.size()) != count) {
    return Status(Code::kInvalidArgument, "expected " + std::to_string(count) +
                                              " operands, received " +
                                              std::to_string(operands.size()));
  }
  const Shape* inputs = operands.data();
  const Shape* kernels = inputs + num_inputs;
  const Shape* others = kernels + num_layers;
  Status status = CheckRank(Name("inputs", 0), inputs[0], 2);
  if (status.ok()) status = CheckRank(Name("kernels", 0), kernels[0], 3);
  if (!status.ok()) return status;
  const int64_t batch = inputs[0][0], members = kernels[0][0];
  int64_t in = 0;
  for (int64_t i = 0; i < num_inputs && status.ok(); ++i) {
    status = CheckRank(Name("inputs", i), inputs[i], 2);
    if (!status.ok()) return status;
    status = CheckShape(Name("inputs", i), inputs[i], {batch, inputs[i][1]});
    in += inputs[i][1];
  }
  for (int64_t i = 0; i < num_layers && status.ok(); ++i) {
    status = CheckRank(Name("kernels", i), kernels[i], 3);
    if (!status.ok()) return status;
    const int64_t width = kernels[i][2];
    status = CheckShape(Name("kernels", i), kernels[i], {members, in, width});
    if (!status.ok()) return status;
    if (!is_gradient) {
      status = CheckShape(Name("biases", i), others[i], {members, width});
    } else {
      status = CheckShape(
          i < num_hidden ? Name("hidden", i) : std::string("output_gradient"),
          others[i], {members, batch, width});
    }
    in = width;
  }
  return status;
}

Status MlpCall::ResultShapes(const std::vector<Shape>& operands,
                             std::vector<Shape>* results) const {
  const Status status = CheckOperands(operands);
  if (!status.ok()) return status;
  results->clear();
  const Shape* kernels = operands.data() + num_inputs;
  if (!is_gradient) {
    for (int64_t i = 0; i < num_layers; ++i) {
      results->push_back({kernels[i][0], operands[0][0], kernels[i][2]});
    }
    return Status();
  }
  for (int64_t i = 0; i < num_inputs; ++i) {
    if (wanted_inputs >> i & 1) results->push_back(operands[i]);
  }
  if (wants_weights) {
    results->insert(results->end(), kernels, kernels + num_layers);
    for (int64_t i = 0; i < num_layers; ++i) {
      results->push_back({kernels[i][0], kernels[i][2]});
    }
  }
  return Status();
}

Status MlpCall::Run(const std::vector<Array<const float>>& operands,
                    const std::vector<Array<float>>& results,
                    const Workers& workers) const {
  std::vector<Shape> shapes, expected;
  for (const auto& operand : operands) shapes.push_back(operand.shape);
  const Status status = ResultShapes(shapes, &expected);
  if (!status.ok()) return status;
  if (results.size() != expected.size()) {
    return Status(Code::kInvalidArgument, "expected other results");
  }
  const auto* kernels = operands.data() + num_inputs;
  const auto* others = kernels + num_layers;
  Mlp mlp{activation, kernels[0].shape[0], operands[0].shape[0], {}, {}};
  for (int64_t i = 0; i < num_inputs; ++i) {
    mlp.inputs.push_back({operands[i].data, operands[i].shape[1]});
  }
  for (int64_t i = 0; i < num_layers; ++i) {
    const float* bias = is_gradient ? nullptr : others[i].data;
    mlp.layers.push_back({kernels[i].data, bias, kernels[i].shape[2]});
  }
  if (!is_gradient) {
    std::vector<float*> outputs;
    for (const auto& result : results) outputs.push_back(result.data);
    MlpForward(mlp, outputs, workers, BestSimd());
    return Status();
  }
  const Array<float>* result = results.data();
  MlpGradients gradients;
  for (int64_t i = 0; i < num_inputs; ++i) {
    const bool is_wanted = wanted_inputs >> i & 1;
    gradients.inputs.push_back(is_wanted ? (result++)->data : nullptr);
  }
  for (int64_t i = 0; wants_weights && i < num_layers; ++i) {
    gradients.kernels.push_back(result[i].data);
    gradients.biases.push_back(result[num_layers + i].data);
  }
  std::vector<const float*> hidden;
  for (int64_t i = 0; i + 1 < num_layers; ++i) hidden.push_back(others[i].data);
  MlpBackward(mlp, hidden, others[num_layers - 1].data, gradients, workers,
              BestSimd());
  return Status();
}

}  // namespace tfsac
