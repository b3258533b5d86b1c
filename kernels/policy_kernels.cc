// CPU kernel of the policy's op, and the C function that acts. TensorFlow's
// dispatch of an op takes longer than acting does.

#include <cstdint>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "policy.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/resource_base.h"
#include "tensorflow/core/framework/resource_handle.h"
#include "tensorflow/core/framework/resource_mgr.h"
#include "tensorflow/core/framework/resource_var.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/lib/core/refcount.h"
#include "to_workers.h"

namespace tfsac {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::ResourceHandle;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::Var;
using tensorflow::core::RefCountPtr;

// A weight of the policy: the variable, and the shape that it must have.
struct Weight {
  RefCountPtr<Var> variable;
  TensorShape shape;
};

// The value of a variable now. It is a reference: whoever writes to the
// variable while this tensor lives writes to a copy of its own.
Tensor Value(const Weight& weight) {
  const tensorflow::tf_shared_lock lock(*weight.variable->mu());
  return *weight.variable->tensor();
}

class PolicyResource : public tensorflow::ResourceBase {
 public:
  PolicyResource(std::vector<Weight> weights, Activation activation,
                 PolicyBounds bounds, bool takes_bytes, Workers workers)
      : weights_(std::move(weights)),
        activation_(activation),
        bounds_(std::move(bounds)),
        takes_bytes_(takes_bytes),
        workers_(std::move(workers)) {}

  std::string DebugString() const override {
    return absl::StrCat("tfsac policy of ", weights_.size() / 2, " layers");
  }

  // Returns null, or what is wrong. It changes nothing of the policy, so
  // threads may act at once.
  const char* Act(const void* rows, int64_t batch, const Seed* seed,
                  float* actions) const {
    std::vector<Tensor> values;  // until the end, so that they stay in place
    for (const Weight& weight : weights_) {
      values.push_back(Value(weight));
      if (values.back().dtype() != tensorflow::DT_FLOAT ||
          values.back().shape() != weight.shape) {
        return "a weight has another shape than it had, or no value";
      }
    }
    const size_t num_layers = weights_.size() / 2;
    std::vector<Mlp::Layer> layers;
    for (size_t i = 0; i < num_layers; ++i) {
      layers.push_back({values[i].flat<float>().data(),
                        values[num_layers + i].flat<float>().data(),
                        weights_[i].shape.dim_size(1)});
    }
    Rows all{nullptr, nullptr, batch, weights_[0].shape.dim_size(0)};
    if (takes_bytes_) {
      all.bytes = static_cast<const uint8_t*>(rows);
    } else {
      all.floats = static_cast<const float*>(rows);
    }
    tfsac::Act(all, activation_, layers, bounds_, seed, workers_, BestSimd(),
               actions);
    return nullptr;
  }

 private:
  const std::vector<Weight> weights_;  // all kernels, then all biases
  const Activation activation_;
  const PolicyBounds bounds_;
  const bool takes_bytes_;
  const Workers workers_;
};

class PolicyCreateOp : public OpKernel {
 public:
  explicit PolicyCreateOp(OpKernelConstruction* context) : OpKernel(context) {
    std::string activation;
    tensorflow::DataType type;
    OP_REQUIRES_OK(context, context->GetAttr("activation", &activation));
    OP_REQUIRES_OK(context, context->GetAttr("log_std_min", &log_std_min_));
    OP_REQUIRES_OK(context, context->GetAttr("log_std_max", &log_std_max_));
    OP_REQUIRES_OK(context, context->GetAttr("observation_dtype", &type));
    activation_ = activation == "tanh" ? Activation::kTanh : Activation::kRelu;
    takes_bytes_ = type == tensorflow::DT_UINT8;
  }

  void Compute(OpKernelContext* context) override {
    const int num_layers = (num_inputs() - 2) / 2;
    PolicyBounds bounds{log_std_min_, log_std_max_, {}, {}};
    OP_REQUIRES_OK(context, GetVector(context, 2 * num_layers, &bounds.low));
    OP_REQUIRES_OK(context,
                   GetVector(context, 2 * num_layers + 1, &bounds.high));
    std::vector<Weight> weights;
    for (int i = 0; i < 2 * num_layers; ++i) {
      Weight weight;
      OP_REQUIRES_OK(context, GetWeight(context, i, &weight));
      weights.push_back(std::move(weight));
    }
    OP_REQUIRES_OK(context, CheckShapes(weights, bounds));
    Tensor *handle, *address;
    OP_REQUIRES_OK(context, context->allocate_output(0, {}, &handle));
    OP_REQUIRES_OK(context, context->allocate_output(1, {}, &address));
    auto* policy =
        new PolicyResource(std::move(weights), activation_, std::move(bounds),
                           takes_bytes_, ToWorkers(context));
    handle->scalar<ResourceHandle>()() = ResourceHandle::MakeRefCountingHandle(
        policy, context->device()->name());
    address->scalar<int64_t>()() = reinterpret_cast<int64_t>(policy);
  }

 private:
  static absl::Status GetVector(OpKernelContext* context, int input,
                                std::vector<float>* values) {
    const Tensor& tensor = context->input(input);
    if (tensor.dims() != 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("low, high: expected shape [A], received ",
                       tensor.shape().DebugString()));
    }
    const auto flat = tensor.flat<float>();
    values->assign(flat.data(), flat.data() + flat.size());
    return absl::OkStatus();
  }

  static absl::Status GetWeight(OpKernelContext* context, int input,
                                Weight* weight) {
    const Tensor& handle = context->input(input);
    if (handle.dims() != 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("kernels, biases: expected scalars, received shape ",
                       handle.shape().DebugString()));
    }
    TF_RETURN_IF_ERROR(LookupResource(
        context, handle.scalar<ResourceHandle>()(), &weight->variable));
    weight->shape = Value(*weight).shape();
    return absl::OkStatus();
  }

  // That the layers follow one another, and end in two numbers an action.
  static absl::Status CheckShapes(const std::vector<Weight>& weights,
                                  const PolicyBounds& bounds) {
    const size_t num_layers = weights.size() / 2;
    const int64_t size = bounds.low.size();
    bool fit = bounds.high.size() == bounds.low.size();
    std::string shapes;
    for (size_t i = 0; i < num_layers; ++i) {
      const TensorShape& kernel = weights[i].shape;
      const TensorShape& bias = weights[num_layers + i].shape;
      absl::StrAppend(&shapes, " ", kernel.DebugString(), " ",
                      bias.DebugString());
      fit = fit && kernel.dims() == 2 &&
            bias == TensorShape({kernel.dim_size(1)}) &&
            (i == 0 || weights[i - 1].shape.dim_size(1) == kernel.dim_size(0));
    }
    if (fit && weights[num_layers - 1].shape.dim_size(1) == 2 * size) {
      return absl::OkStatus();
    }
    return absl::InvalidArgumentError(absl::StrCat(
        "expected kernels [in, width] and biases [width] of layers that follow "
        "one another, the last of width 2 A, and low and high [A], received",
        shapes, ", and bounds of ", size, " and ", bounds.high.size(),
        " actions"));
  }

  Activation activation_;
  float log_std_min_, log_std_max_;
  bool takes_bytes_;
};

REGISTER_KERNEL_BUILDER(
    Name("Tfsac>PolicyCreate").Device(tensorflow::DEVICE_CPU), PolicyCreateOp);

}  // namespace
}  // namespace tfsac

// Acts for `batch` observations, one after the other in `rows`, and writes
// [batch, A] to `actions`: tanh of the mean, or sampled with the noise of the
// two seeds. `policy` is the address that PolicyCreate returned. Returns null,
// or what is wrong. Any number of threads may call it at once.
extern "C" __attribute__((visibility("default"))) const char* tfsac_act(
    int64_t policy, const void* rows, int64_t batch, bool is_sampled,
    uint64_t seed0, uint64_t seed1, float* actions) {
  const tfsac::Seed seed{seed0, seed1};
  try {
    return reinterpret_cast<const tfsac::PolicyResource*>(policy)->Act(
        rows, batch, is_sampled ? &seed : nullptr, actions);
  } catch (const std::bad_alloc&) {
    return "the memory does not suffice";
  }
}
