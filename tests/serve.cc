// Acts with an exported policy, without Python: serve MODEL OBSERVATION...
//
// Prints a line of actions for each row of observations, for example
// `serve saved_models/pendulum/1 1.0 0.0 0.0`.

#include <algorithm>
#include <cstdint>
#include <iostream>
#include <string>
#include <vector>

#include "tensorflow/cc/saved_model/loader.h"

int main(int argc, char** argv) {
  if (argc < 2) {
    std::cerr << "usage: serve MODEL OBSERVATION...\n";
    return 2;
  }
  tensorflow::SavedModelBundleLite model;
  TF_CHECK_OK(tensorflow::LoadSavedModel({}, {}, argv[1], {"serve"}, &model));
  const auto& signature = model.GetSignatures().at("serving_default");
  const auto& input = signature.inputs().at("observations");

  std::vector<float> values;
  for (int i = 2; i < argc; ++i) values.push_back(std::stof(argv[i]));
  const std::int64_t size = input.tensor_shape().dim(1).size();
  const std::int64_t rows = values.size() / size;
  tensorflow::Tensor observations(tensorflow::DT_FLOAT, {rows, size});
  std::copy_n(values.begin(), rows * size, observations.flat<float>().data());

  std::vector<tensorflow::Tensor> outputs;
  TF_CHECK_OK(model.GetSession()->Run(
      {{input.name(), observations}},
      {signature.outputs().at("actions").name()}, {}, &outputs));
  const auto actions = outputs[0].matrix<float>();
  std::cout.precision(9);
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t i = 0; i < actions.dimension(1); ++i) {
      std::cout << (i > 0 ? " " : "") << actions(row, i);
    }
    std::cout << "\n";
  }
  return 0;
}
