// CPU kernels of the ops of dense layers: they hand TensorFlow's memory and
// threads to the core.

#include <cstdint>
#include <vector>

#include "mlp_attributes.h"
#include "mlp_call.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/tensor.h"
#include "to_absl.h"
#include "to_workers.h"

namespace tfsac {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;

Shape ShapeOf(const Tensor& tensor) {
  const auto sizes = tensor.shape().dim_sizes();
  return Shape(sizes.begin(), sizes.end());
}

template <bool is_gradient>
class MlpOp : public OpKernel {
 public:
  explicit MlpOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, GetAttributes(context, is_gradient, &call_));
  }

  void Compute(OpKernelContext* context) override {
    std::vector<Array<const float>> operands;
    std::vector<Shape> shapes, result_shapes;
    for (int i = 0; i < context->num_inputs(); ++i) {
      const Tensor& tensor = context->input(i);
      shapes.push_back(ShapeOf(tensor));
      operands.push_back({tensor.flat<float>().data(), shapes.back()});
    }
    OP_REQUIRES_OK(context, ToAbsl(call_.ResultShapes(shapes, &result_shapes)));
    std::vector<Array<float>> results;
    for (size_t i = 0; i < result_shapes.size(); ++i) {
      Tensor* tensor;
      OP_REQUIRES_OK(
          context, context->allocate_output(
                       i, tensorflow::TensorShape(result_shapes[i]), &tensor));
      results.push_back({tensor->flat<float>().data(), result_shapes[i]});
    }
    OP_REQUIRES_OK(context,
                   ToAbsl(call_.Run(operands, results, ToWorkers(context))));
  }

 private:
  MlpCall call_;
};

REGISTER_KERNEL_BUILDER(Name("Tfsac>Mlp").Device(tensorflow::DEVICE_CPU),
                        MlpOp<false>);
REGISTER_KERNEL_BUILDER(
    Name("Tfsac>MlpGradient").Device(tensorflow::DEVICE_CPU), MlpOp<true>);

}  // namespace
}  // namespace tfsac
