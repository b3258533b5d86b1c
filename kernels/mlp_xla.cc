// The ops of dense layers inside XLA on the CPU: each becomes a custom call,
// which runs the same core on XLA's memory and TensorFlow's threads.

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "mlp_attributes.h"
#include "mlp_call.h"
#include "tensorflow/compiler/tf2xla/xla_op_kernel.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "to_absl.h"
#include "xla/ffi/api/ffi.h"
#include "xla/hlo/builder/xla_builder.h"
#include "xla/shape_util.h"

extern "C" const XLA_FFI_Api* XLA_FFI_GetApi();

namespace tfsac {
namespace {

namespace ffi = xla::ffi;

constexpr char kTarget[] = "tfsac_mlp";

// At run time ---------------------------------------------------------------

template <typename Float, typename Buffer>
Array<Float> ToArray(const Buffer& buffer) {
  const auto sizes = buffer.dimensions();
  return {static_cast<Float*>(buffer.untyped_data()),
          Shape(sizes.begin(), sizes.end())};
}

ffi::Error Run(ffi::ThreadPool pool, ffi::RemainingArgs arguments,
               ffi::RemainingRets results, bool is_gradient, int64_t activation,
               int64_t num_inputs, int64_t num_layers, int64_t wanted_inputs,
               bool wants_weights) {
  std::vector<Array<const float>> operands;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const auto buffer = arguments.get<ffi::AnyBuffer>(i);
    if (!buffer.has_value()) return buffer.error();
    operands.push_back(ToArray<const float>(*buffer));
  }
  std::vector<Array<float>> outputs;
  for (size_t i = 0; i < results.size(); ++i) {
    auto buffer = results.get<ffi::AnyBuffer>(i);
    if (!buffer.has_value()) return buffer.error();
    outputs.push_back(ToArray<float>(**buffer));
  }
  const MlpCall call{
      is_gradient, static_cast<Activation>(activation),  num_inputs,
      num_layers,  static_cast<uint64_t>(wanted_inputs), wants_weights};
  const Workers workers{
      static_cast<int>(pool.num_threads()),
      [&pool](std::function<void()> work) { pool.Schedule(std::move(work)); }};
  const Status status = call.Run(operands, outputs, workers);
  return status.ok() ? ffi::Error::Success()
                     : ffi::Error::InvalidArgument(status.message());
}

XLA_FFI_DEFINE_HANDLER(kRun, Run,
                       ffi::Ffi::Bind()
                           .Ctx<ffi::ThreadPool>()
                           .RemainingArgs()
                           .RemainingRets()
                           .Attr<bool>("is_gradient")
                           .Attr<int64_t>("activation")
                           .Attr<int64_t>("num_inputs")
                           .Attr<int64_t>("num_layers")
                           .Attr<int64_t>("wanted_inputs")
                           .Attr<bool>("wants_weights"));

XLA_FFI_REGISTER_HANDLER(XLA_FFI_GetApi(), kTarget, "Host", kRun);

// At compile time -----------------------------------------------------------

std::string ToMlir(const MlpCall& call) {
  return absl::StrCat(
      "{is_gradient = ", call.is_gradient ? "true" : "false",
      ", activation = ", static_cast<int64_t>(call.activation),
      " : i64, num_inputs = ", call.num_inputs,
      " : i64, num_layers = ", call.num_layers,
      " : i64, wanted_inputs = ", static_cast<int64_t>(call.wanted_inputs),
      " : i64, wants_weights = ", call.wants_weights ? "true" : "false", "}");
}

xla::Shape ToXla(const Shape& shape) {
  return xla::ShapeUtil::MakeShapeWithDescendingLayout(xla::F32, shape);
}

template <bool is_gradient>
class MlpXlaOp : public tensorflow::XlaOpKernel {
 public:
  explicit MlpXlaOp(tensorflow::OpKernelConstruction* context)
      : XlaOpKernel(context) {
    OP_REQUIRES_OK(context, GetAttributes(context, is_gradient, &call_));
  }

  void Compile(tensorflow::XlaOpKernelContext* context) override {
    std::vector<xla::XlaOp> operands;
    std::vector<xla::Shape> operand_shapes, result_shapes;
    std::vector<Shape> shapes, results;
    for (int i = 0; i < context->num_inputs(); ++i) {
      const auto shape = context->InputXlaShape(i);
      OP_REQUIRES_OK(context, shape.status());
      const auto sizes = shape->dimensions();
      shapes.emplace_back(sizes.begin(), sizes.end());
      operand_shapes.push_back(ToXla(shapes.back()));
      operands.push_back(context->Input(i));
    }
    OP_REQUIRES_OK(context, ToAbsl(call_.ResultShapes(shapes, &results)));
    for (const Shape& shape : results) result_shapes.push_back(ToXla(shape));
    const xla::XlaOp all = xla::CustomCallWithLayout(
        context->builder(), kTarget, operands,
        xla::ShapeUtil::MakeTupleShape(result_shapes), operand_shapes,
        ToMlir(call_), /*has_side_effect=*/false,
        /*output_operand_aliasing=*/{}, /*literal=*/nullptr,
        xla::CustomCallSchedule::SCHEDULE_NONE,
        xla::CustomCallApiVersion::API_VERSION_TYPED_FFI);
    for (size_t i = 0; i < results.size(); ++i) {
      context->SetOutput(i, xla::GetTupleElement(all, i));
    }
  }

 private:
  MlpCall call_;
};

// Registered as kernels of the device that XLA compiles on, and not by
// REGISTER_XLA_OP, which has no effect once the process has compiled anything.
REGISTER_KERNEL_BUILDER(Name("Tfsac>Mlp").Device("XLA_CPU_JIT"),
                        MlpXlaOp<false>);
REGISTER_KERNEL_BUILDER(Name("Tfsac>MlpGradient").Device("XLA_CPU_JIT"),
                        MlpXlaOp<true>);

}  // namespace
}  // namespace tfsac
