// CPU kernels of the replay buffer's ops: they check tensors against the
// buffer's layout and hand their memory to the core. And the C function that
// inserts, since TensorFlow's dispatch of an op takes longer than that.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "replay_buffer.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/resource_base.h"
#include "tensorflow/core/framework/resource_handle.h"
#include "tensorflow/core/framework/resource_mgr.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/framework/types.h"
#include "tensorflow/core/lib/core/refcount.h"
#include "tensorflow/core/lib/core/threadpool.h"
#include "to_absl.h"

namespace tfsac {
namespace {

using tensorflow::DataType;
using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::ResourceHandle;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::tstring;
using tensorflow::thread::ThreadPool;

// The buffer as TensorFlow holds it: freed when the last tensor that holds its
// handle is.
class ReplayResource : public tensorflow::ResourceBase {
 public:
  explicit ReplayResource(std::unique_ptr<ReplayBuffer> buffer)
      : buffer_(std::move(buffer)) {}

  std::string DebugString() const override {
    return absl::StrCat("tfsac replay buffer (",
                        buffer_->layout().DebugString(),
                        ", capacity=", buffer_->capacity(), ")");
  }
  int64_t MemoryUsed() const override { return buffer_->MemoryUsed(); }
  ReplayBuffer* buffer() const { return buffer_.get(); }

 private:
  const std::unique_ptr<ReplayBuffer> buffer_;
};

// Input 0 as a buffer, owned by the handle for as long as the kernel runs.
absl::Status GetBuffer(OpKernelContext* context, ReplayBuffer** buffer) {
  const Tensor& handle = context->input(0);
  if (!tensorflow::TensorShapeUtils::IsScalar(handle.shape())) {
    return absl::InvalidArgumentError(
        absl::StrCat("handle: expected a scalar, received shape ",
                     handle.shape().DebugString()));
  }
  const auto resource =
      handle.scalar<ResourceHandle>()().GetResource<ReplayResource>();
  if (!resource.ok()) return resource.status();
  if (*resource == nullptr) {
    return absl::InvalidArgumentError("handle: this is no living buffer");
  }
  *buffer = (*resource)->buffer();
  return absl::OkStatus();
}

absl::Status CheckShape(const Tensor& tensor, const char* name,
                        const TensorShape& expected) {
  if (tensor.shape() == expected) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(name, ": expected shape ", expected.DebugString(),
                   ", received ", tensor.shape().DebugString()));
}

absl::Status CheckType(DataType received, const ReplayLayout& layout) {
  const auto expected = static_cast<DataType>(layout.observation_type);
  if (received == expected) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("observation: expected dtype ", DataTypeString(expected),
                   ", received ", DataTypeString(received)));
}

class ReplayCreateOp : public OpKernel {
 public:
  explicit ReplayCreateOp(OpKernelConstruction* context) : OpKernel(context) {
    DataType type;
    OP_REQUIRES_OK(context, context->GetAttr("capacity", &capacity_));
    OP_REQUIRES_OK(context, context->GetAttr("observation_size",
                                             &layout_.observation_size));
    OP_REQUIRES_OK(context,
                   context->GetAttr("action_size", &layout_.action_size));
    OP_REQUIRES_OK(context, context->GetAttr("observation_dtype", &type));
    OP_REQUIRES_OK(context, context->GetAttr("seed", &seed_));
    layout_.observation_type = static_cast<ObservationType>(type);
  }

  void Compute(OpKernelContext* context) override {
    std::unique_ptr<ReplayBuffer> buffer;
    OP_REQUIRES_OK(context, ToAbsl(ReplayBuffer::Create(layout_, capacity_,
                                                        seed_, &buffer)));
    Tensor* handle;
    OP_REQUIRES_OK(context, context->allocate_output(0, {}, &handle));
    handle->scalar<ResourceHandle>()() = ResourceHandle::MakeRefCountingHandle(
        new ReplayResource(std::move(buffer)), context->device()->name());
  }

 private:
  ReplayLayout layout_;
  int64_t capacity_;
  int64_t seed_;
};

class ReplayInsertOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    ReplayBuffer* buffer;
    OP_REQUIRES_OK(context, GetBuffer(context, &buffer));
    OP_REQUIRES_OK(context, CheckInputs(context, buffer->layout()));
    buffer->Insert(
        context->input(3).NumElements(),
        {context->input(1).data(), context->input(2).flat<float>().data(),
         context->input(3).flat<float>().data(), context->input(4).data(),
         context->input(5).flat<bool>().data(),
         context->input(6).flat<bool>().data(),
         context->input(7).flat<int32_t>().data()});
  }

  bool IsExpensive() override { return false; }

 private:
  static absl::Status CheckInputs(OpKernelContext* context,
                                  const ReplayLayout& layout) {
    const Tensor& reward = context->input(3);
    if (reward.dims() != 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("reward: expected shape [n], received ",
                       reward.shape().DebugString()));
    }
    const int64_t n = reward.dim_size(0);
    TF_RETURN_IF_ERROR(CheckType(context->input(1).dtype(), layout));
    TF_RETURN_IF_ERROR(CheckShape(context->input(1), "observation",
                                  {n, layout.observation_size}));
    TF_RETURN_IF_ERROR(
        CheckShape(context->input(2), "action", {n, layout.action_size}));
    TF_RETURN_IF_ERROR(CheckShape(context->input(4), "next_observation",
                                  {n, layout.observation_size}));
    TF_RETURN_IF_ERROR(CheckShape(context->input(5), "terminated", {n}));
    TF_RETURN_IF_ERROR(CheckShape(context->input(6), "truncated", {n}));
    return CheckShape(context->input(7), "env_index", {n});
  }
};

class ReplayAddressOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    ReplayBuffer* buffer;
    OP_REQUIRES_OK(context, GetBuffer(context, &buffer));
    Tensor* address;
    OP_REQUIRES_OK(context, context->allocate_output(0, {}, &address));
    address->scalar<int64_t>()() = reinterpret_cast<int64_t>(buffer);
  }

  bool IsExpensive() override { return false; }
};

class ReplaySampleOp : public OpKernel {
 public:
  explicit ReplaySampleOp(OpKernelConstruction* context) : OpKernel(context) {
    int64_t updates, batch_size, observation_size, action_size;
    OP_REQUIRES_OK(context, context->GetAttr("updates", &updates));
    OP_REQUIRES_OK(context, context->GetAttr("batch_size", &batch_size));
    OP_REQUIRES_OK(context,
                   context->GetAttr("observation_size", &observation_size));
    OP_REQUIRES_OK(context, context->GetAttr("action_size", &action_size));
    OP_REQUIRES_OK(context, context->GetAttr("T", &type_));
    OP_REQUIRES(context, updates >= 1 && batch_size >= 1,
                absl::InvalidArgumentError(absl::StrCat(
                    "expected updates >= 1 and batch_size >= 1, received ",
                    updates, " and ", batch_size)));
    OP_REQUIRES_OK(context, TensorShape::BuildTensorShape({updates, batch_size},
                                                          &scalars_));
    OP_REQUIRES_OK(context, TensorShape::BuildTensorShape(
                                {updates, batch_size, action_size}, &actions_));
    OP_REQUIRES_OK(
        context, TensorShape::BuildTensorShape(
                     {updates, batch_size, observation_size}, &observations_));
  }

  void Compute(OpKernelContext* context) override {
    ReplayBuffer* buffer;
    OP_REQUIRES_OK(context, GetBuffer(context, &buffer));
    const ReplayLayout& layout = buffer->layout();
    OP_REQUIRES_OK(context, CheckType(type_, layout));
    OP_REQUIRES(context,
                observations_.dim_size(2) == layout.observation_size &&
                    actions_.dim_size(2) == layout.action_size,
                absl::InvalidArgumentError(absl::StrCat(
                    "expected observation_size=", layout.observation_size,
                    " and action_size=", layout.action_size, ", received ",
                    observations_.dim_size(2), " and ", actions_.dim_size(2))));
    Tensor* outputs[7];
    const TensorShape* shapes[7] = {&observations_, &actions_, &scalars_,
                                    &observations_, &scalars_, &scalars_,
                                    &scalars_};
    for (int i = 0; i < 7; ++i) {
      OP_REQUIRES_OK(context,
                     context->allocate_output(i, *shapes[i], &outputs[i]));
    }
    const TransitionSink sink{outputs[0]->data(),
                              outputs[1]->flat<float>().data(),
                              outputs[2]->flat<float>().data(),
                              outputs[3]->data(),
                              outputs[4]->flat<bool>().data(),
                              outputs[5]->flat<bool>().data(),
                              outputs[6]->flat<int32_t>().data()};
    OP_REQUIRES_OK(
        context, ToAbsl(buffer->Sample(scalars_.num_elements(), sink,
                                       Workers(context, layout.row_bytes()))));
  }

 private:
  // Shares a large sample among the threads of the device.
  static ReplayBuffer::ParallelFor Workers(OpKernelContext* context,
                                           int64_t row_bytes) {
    // Below about a megabyte, waking a thread costs more than it copies.
    constexpr int64_t kSerialBytes = int64_t{1} << 20;
    return [=](int64_t n, const std::function<void(int64_t, int64_t)>& work) {
      if (n * row_bytes < kSerialBytes) return work(0, n);
      const auto one_cycle_a_byte =
          ThreadPool::SchedulingParams::Adaptive(row_bytes);
      context->device()->tensorflow_cpu_worker_threads()->workers->ParallelFor(
          n, one_cycle_a_byte, work);
    };
  }

  DataType type_;
  TensorShape scalars_, actions_, observations_;
};

class ReplayCountOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    ReplayBuffer* buffer;
    OP_REQUIRES_OK(context, GetBuffer(context, &buffer));
    Tensor *size, *inserted;
    OP_REQUIRES_OK(context, context->allocate_output(0, {}, &size));
    OP_REQUIRES_OK(context, context->allocate_output(1, {}, &inserted));
    buffer->Count(size->flat<int64_t>().data(),
                  inserted->flat<int64_t>().data());
  }

  bool IsExpensive() override { return false; }
};

// Calls Save or Restore with the directory and the index's name.
template <auto method>
class ReplayFileOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    ReplayBuffer* buffer;
    OP_REQUIRES_OK(context, GetBuffer(context, &buffer));
    const Tensor& directory = context->input(1);
    const Tensor& index = context->input(2);
    OP_REQUIRES_OK(context, CheckShape(directory, "directory", {}));
    OP_REQUIRES_OK(context, CheckShape(index, "index", {}));
    OP_REQUIRES_OK(context,
                   ToAbsl((buffer->*method)(directory.scalar<tstring>()(),
                                            index.scalar<tstring>()())));
  }
};

using ReplaySaveOp = ReplayFileOp<&ReplayBuffer::Save>;
using ReplayRestoreOp = ReplayFileOp<&ReplayBuffer::Restore>;

REGISTER_KERNEL_BUILDER(
    Name("Tfsac>ReplayCreate").Device(tensorflow::DEVICE_CPU), ReplayCreateOp);
REGISTER_KERNEL_BUILDER(
    Name("Tfsac>ReplayInsert").Device(tensorflow::DEVICE_CPU), ReplayInsertOp);
REGISTER_KERNEL_BUILDER(
    Name("Tfsac>ReplayAddress").Device(tensorflow::DEVICE_CPU),
    ReplayAddressOp);
REGISTER_KERNEL_BUILDER(
    Name("Tfsac>ReplaySample").Device(tensorflow::DEVICE_CPU), ReplaySampleOp);
REGISTER_KERNEL_BUILDER(
    Name("Tfsac>ReplayCount").Device(tensorflow::DEVICE_CPU), ReplayCountOp);
REGISTER_KERNEL_BUILDER(Name("Tfsac>ReplaySave").Device(tensorflow::DEVICE_CPU),
                        ReplaySaveOp);
REGISTER_KERNEL_BUILDER(
    Name("Tfsac>ReplayRestore").Device(tensorflow::DEVICE_CPU),
    ReplayRestoreOp);

}  // namespace
}  // namespace tfsac

// Appends `count` transitions, whose fields have the buffer's types and sizes
// without gaps, as ReplayInsert does. `buffer` is the address that
// ReplayAddress returned. Any number of threads may call it at once.
extern "C" __attribute__((visibility("default"))) void tfsac_replay_insert(
    int64_t buffer, int64_t count, const void* observation, const float* action,
    const float* reward, const void* next_observation, const bool* terminated,
    const bool* truncated, const int32_t* env_index) {
  reinterpret_cast<tfsac::ReplayBuffer*>(buffer)->Insert(
      count, {observation, action, reward, next_observation, terminated,
              truncated, env_index});
}
