// Learns from recorded batches: train_batches MODEL COUNT SAVE < BATCHES
//
// BATCHES are the fields of each batch, `[1, B, ...]`, one after the other, as
// they lie in memory. Prints a line of names and a line of metrics for each,
// and saves what was learned.

#include <cstdint>
#include <iostream>
#include <string>
#include <vector>

#include "saved_model.h"

namespace {

tensorflow::Tensor Read(const SavedModel& model, const std::string& name) {
  const std::vector<std::int64_t> shape = model.InputShape("train", name);
  tensorflow::TensorShape sizes({1});
  for (std::size_t i = 1; i < shape.size(); ++i) sizes.AddDim(shape[i]);
  const bool is_bool = name == "terminated";
  tensorflow::Tensor tensor(
      is_bool ? tensorflow::DT_BOOL : tensorflow::DT_FLOAT, sizes);
  std::cin.read(static_cast<char*>(tensor.data()), tensor.TotalBytes());
  return tensor;
}

}  // namespace

int main(int, char** argv) {
  const SavedModel model(argv[1]);
  std::cout.precision(9);
  for (int i = 0; i < std::stoi(argv[2]); ++i) {
    SavedModel::Tensors batch;
    for (const char* name : {"observation", "action", "reward",
                             "next_observation", "terminated"}) {
      batch[name] = Read(model, name);
    }
    const auto metrics = model.Call("train", batch);
    if (i == 0) {
      for (const auto& [name, value] : metrics) std::cout << name << " ";
      std::cout << "\n";
    }
    for (const auto& [name, value] : metrics) {
      std::cout << value.scalar<float>()() << " ";
    }
    std::cout << "\n";
  }
  tensorflow::Tensor path(tensorflow::DT_STRING, {});
  path.scalar<tensorflow::tstring>()() = argv[3];
  model.Call("save", {{"path", path}});
  return 0;
}
