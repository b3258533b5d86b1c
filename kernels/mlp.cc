#include "mlp.h"

#include <algorithm>

#include "mlp_shards.h"

namespace tfsac {
namespace {

Finish Activated(Activation activation) {
  return activation == Activation::kRelu ? Finish::kRelu : Finish::kTanh;
}

// All layers of one member, on the rows from `begin` to `end`.
void ForwardRows(const Mlp& mlp, const std::vector<float*>& outputs,
                 int64_t member, int64_t begin, int64_t end, const Simd& simd) {
  const float* rows = nullptr;
  for (size_t i = 0; i < mlp.layers.size(); ++i) {
    const Mlp::Layer& layer = mlp.layers[i];
    const int64_t in = mlp.in(i);
    Product product{};
    product.rows = end - begin;
    product.columns = layer.width;
    product.b = layer.kernel + member * in * layer.width;
    product.b_stride = layer.width;
    product.c = outputs[i] + (member * mlp.batch + begin) * layer.width;
    product.c_stride = layer.width;
    product.start = Start::kBias;
    product.bias = layer.bias + member * layer.width;
    product.a_step = 1;
    const Finish finish =
        i + 1 < mlp.layers.size() ? Activated(mlp.activation) : Finish::kNone;
    if (i > 0) {
      product.a = rows;
      product.a_stride = product.depth = in;
      product.finish = finish;
      simd.multiply(product);
    }
    for (size_t j = 0; i == 0 && j < mlp.inputs.size(); ++j) {
      const Mlp::Input& input = mlp.inputs[j];
      product.a = input.rows + begin * input.width;
      product.a_stride = product.depth = input.width;
      if (j + 1 == mlp.inputs.size()) product.finish = finish;
      simd.multiply(product);
      product.b += input.width * layer.width;
      product.start = Start::kOutput;
    }
    rows = product.c;
  }
}

}  // namespace

int64_t Mlp::in(size_t layer) const {
  if (layer > 0) return layers[layer - 1].width;
  int64_t width = 0;
  for (const Input& input : inputs) width += input.width;
  return width;
}

void MlpForward(const Mlp& mlp, const std::vector<float*>& outputs,
                const Workers& workers, const Simd& simd) {
  const int64_t chunks = CeilOfRatio(mlp.batch, simd.shard_rows);
  RunPhases(ForWork(workers, mlp),
            {{chunks * mlp.members, [&](int64_t shard) {
                const int64_t begin = shard % chunks * simd.shard_rows;
                ForwardRows(mlp, outputs, shard / chunks, begin,
                            std::min(begin + simd.shard_rows, mlp.batch), simd);
              }}});
}

}  // namespace tfsac
