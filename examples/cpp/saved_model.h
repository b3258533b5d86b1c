// A SavedModel whose signatures are called by name.

#ifndef TFSAC_EXAMPLES_SAVED_MODEL_H_
#define TFSAC_EXAMPLES_SAVED_MODEL_H_

#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "tensorflow/cc/saved_model/loader.h"

class SavedModel {
 public:
  using Tensors = std::map<std::string, tensorflow::Tensor>;

  // Loads the model in `folder`, which holds saved_model.pb. This and what
  // follows throws std::runtime_error with TensorFlow's message.
  explicit SavedModel(const std::string& folder) {
    Check(tensorflow::LoadSavedModel({}, {}, folder, {"serve"}, &model_));
  }

  // Calls a signature; may be called from any thread.
  Tensors Call(const std::string& signature, const Tensors& inputs) const {
    const auto& found = Find(signature);
    std::vector<std::pair<std::string, tensorflow::Tensor>> feeds;
    for (const auto& [name, info] : found.inputs()) {
      const auto input = inputs.find(name);
      if (input == inputs.end() || input->second.dtype() != info.dtype()) {
        throw std::runtime_error("Expected an input '" + name + "' of type " +
                                 tensorflow::DataType_Name(info.dtype()) +
                                 " for '" + signature + "'.");
      }
      feeds.emplace_back(info.name(), input->second);
    }
    std::vector<std::string> names, fetches;
    for (const auto& [name, info] : found.outputs()) {
      names.push_back(name);
      fetches.push_back(info.name());
    }
    std::vector<tensorflow::Tensor> values;
    Check(model_.GetSession()->Run(feeds, fetches, {}, &values));
    Tensors outputs;
    for (std::size_t i = 0; i < names.size(); ++i)
      outputs[names[i]] = values[i];
    return outputs;
  }

  // Sizes of an input's axes, with -1 where any will do.
  std::vector<std::int64_t> InputShape(const std::string& signature,
                                       const std::string& input) const {
    std::vector<std::int64_t> sizes;
    const auto& inputs = Find(signature).inputs();
    for (const auto& axis : inputs.at(input).tensor_shape().dim()) {
      sizes.push_back(axis.size());
    }
    return sizes;
  }

 private:
  const tensorflow::SignatureDef& Find(const std::string& signature) const {
    const auto& signatures = model_.GetSignatures();
    const auto found = signatures.find(signature);
    if (found == signatures.end()) {
      throw std::runtime_error("The model has no signature '" + signature +
                               "'.");
    }
    return found->second;
  }

  template <typename Status>
  static void Check(const Status& status) {
    if (!status.ok()) throw std::runtime_error(status.ToString());
  }

  tensorflow::SavedModelBundleLite model_;
};

#endif  // TFSAC_EXAMPLES_SAVED_MODEL_H_
