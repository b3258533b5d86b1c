#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#include "mlp.h"
#include "mlp_shards.h"

namespace tfsac {
namespace {

struct Free {
  void operator()(float* pointer) const { std::free(pointer); }
};
using Buffer = std::unique_ptr<float[], Free>;

constexpr int64_t kLine = 16;  // floats in a cache line

int64_t RoundUp(int64_t floats) { return (floats + kLine - 1) / kLine * kLine; }

// Uninitialised, on a cache line.
Buffer Allocate(int64_t floats) {
  const size_t bytes = sizeof(float) * std::max(RoundUp(floats), kLine);
  void* pointer = std::aligned_alloc(sizeof(float) * kLine, bytes);
  if (pointer == nullptr) throw std::bad_alloc();
  return Buffer(static_cast<float*>(pointer));
}

Finish Differentiated(Activation activation) {
  return activation == Activation::kRelu ? Finish::kReluGradient
                                         : Finish::kTanhGradient;
}

// Memory of this thread alone, kept from shard to shard: to allocate it anew
// would take a few percent of the time.
float* ShardScratch(int64_t floats) {
  thread_local Buffer buffer;
  thread_local int64_t size = 0;
  if (size < floats) {
    buffer = Allocate(floats);
    size = floats;
  }
  return buffer.get();
}

// A gradient runs through the layers in three phases. The kernels are
// transposed; the gradients of all layers' outputs are computed, "deltas"; and
// the gradients of the weights are products of deltas and activations.
class BackwardPass {
 public:
  BackwardPass(const Mlp& mlp, const std::vector<const float*>& hidden,
               const float* output_gradient, const MlpGradients& gradients,
               const Simd& simd)
      : mlp_(mlp),
        hidden_(hidden),
        gradients_(gradients),
        simd_(simd),
        chunks_(CeilOfRatio(mlp.batch, simd.shard_rows)) {
    PlanTransposes();
    PlanDeltas(output_gradient);
    if (gradients.wants_weights()) PlanWeights();
  }

  void Run(const Workers& workers) {
    // A row's input gradient sums over the members, so one shard has them all.
    const bool is_split = !gradients_.wants_inputs();
    RunPhases(workers,
              {{static_cast<int64_t>(transposes_.size()),
                [this](int64_t shard) { Transpose(transposes_[shard]); }},
               {is_split ? chunks_ * mlp_.members : chunks_,
                [this, is_split](int64_t shard) {
                  if (is_split)
                    return DeltasOfMember(shard / chunks_, shard % chunks_);
                  ClearInputGradients(shard);
                  for (int64_t member = 0; member < mlp_.members; ++member) {
                    DeltasOfMember(member, shard);
                  }
                }},
               {static_cast<int64_t>(weights_.size()),
                [this](int64_t shard) { WeightGradient(weights_[shard]); }}});
  }

 private:
  // Rows of a kernel that become columns of its transpose.
  struct TransposeShard {
    const float* from;
    int64_t rows, columns;
    float* to;
    int64_t to_stride;
  };
  // Rows of the gradient of a layer's kernel.
  struct WeightShard {
    int64_t member;
    size_t layer;
    const float* activations;  // the first of the rows' columns
    int64_t activations_stride;
    int64_t begin, rows;
  };

  int64_t Width(size_t layer) const { return mlp_.layers[layer].width; }

  // Room for `rows` x `columns` of every member, and its transposition.
  std::vector<const float*> PlanTranspose(size_t layer, int64_t begin,
                                          int64_t rows, float* to) {
    const int64_t columns = Width(layer), in = mlp_.in(layer);
    std::vector<const float*> transposed;
    for (int64_t member = 0; member < mlp_.members; ++member) {
      const float* from =
          mlp_.layers[layer].kernel + (member * in + begin) * columns;
      if (columns == 1) {  // it is its own transpose
        transposed.push_back(from);
        continue;
      }
      transposed.push_back(to);
      for (int64_t i = 0; i < rows; i += simd_.shard_rows) {
        transposes_.push_back({from + i * columns,
                               std::min(simd_.shard_rows, rows - i), columns,
                               to + i, rows});
      }
      to += RoundUp(rows * columns);
    }
    return transposed;
  }

  void PlanTransposes() {
    int64_t floats = 0;
    for (size_t layer = 0; layer < mlp_.layers.size(); ++layer) {
      const int64_t blocks = layer == 0 ? mlp_.inputs.size() : 1;
      floats += mlp_.members * (mlp_.in(layer) * Width(layer) + blocks * kLine);
    }
    transposed_ = Allocate(floats);
    float* to = transposed_.get();
    const auto plan = [&](size_t layer, int64_t begin, int64_t rows) {
      const auto kernels = PlanTranspose(layer, begin, rows, to);
      to += mlp_.members * RoundUp(rows * Width(layer));
      return kernels;
    };
    kernels_.resize(mlp_.layers.size());
    for (size_t layer = 1; layer < mlp_.layers.size(); ++layer) {
      kernels_[layer] = plan(layer, 0, Width(layer - 1));
    }
    input_kernels_.resize(mlp_.inputs.size());
    int64_t begin = 0;
    for (size_t i = 0; i < mlp_.inputs.size(); ++i) {
      if (gradients_.inputs[i]) {
        input_kernels_[i] = plan(0, begin, mlp_.inputs[i].width);
      }
      begin += mlp_.inputs[i].width;
    }
  }

  // Deltas outlive their shard only where the weights' gradients want them.
  void PlanDeltas(const float* output_gradient) {
    const size_t last = mlp_.layers.size() - 1;
    deltas_.assign(last + 1, nullptr);
    const int64_t rows = mlp_.members * mlp_.batch;
    int64_t floats = 0;
    for (size_t layer = 0; layer < last; ++layer) {
      floats += RoundUp(rows * Width(layer));
    }
    if (gradients_.wants_weights()) {
      delta_buffer_ = Allocate(floats);
      float* to = delta_buffer_.get();
      for (size_t layer = 0; layer < last; ++layer) {
        deltas_[layer] = to;
        to += RoundUp(rows * Width(layer));
      }
    }
    output_gradient_ = output_gradient;
  }

  void PlanWeights() {
    for (int64_t member = 0; member < mlp_.members; ++member) {
      for (size_t layer = mlp_.layers.size(); layer-- > 1;) {
        const int64_t width = Width(layer - 1);
        PlanWeight(member, layer, 0,
                   {hidden_[layer - 1] + member * mlp_.batch * width, width});
      }
      int64_t begin = 0;
      for (const Mlp::Input& input : mlp_.inputs) {
        PlanWeight(member, 0, begin, input);
        begin += input.width;
      }
    }
  }

  void PlanWeight(int64_t member, size_t layer, int64_t begin,
                  const Mlp::Input& input) {
    for (int64_t i = 0; i < input.width; i += simd_.shard_rows) {
      weights_.push_back({member, layer, input.rows + i, input.width, begin + i,
                          std::min(simd_.shard_rows, input.width - i)});
    }
  }

  void Transpose(const TransposeShard& shard) {
    simd_.transpose(shard.rows, shard.columns, shard.from, shard.columns,
                    shard.to, shard.to_stride);
  }

  void ClearInputGradients(int64_t chunk) {
    const int64_t begin = chunk * simd_.shard_rows;
    const int64_t rows = std::min(simd_.shard_rows, mlp_.batch - begin);
    for (size_t i = 0; i < mlp_.inputs.size(); ++i) {
      const int64_t width = mlp_.inputs[i].width;
      if (float* gradient = gradients_.inputs[i]) {
        std::fill_n(gradient + begin * width, rows * width, 0.0f);
      }
    }
  }

  void DeltasOfMember(int64_t member, int64_t chunk);
  void AddInputGradients(int64_t member, const float* delta,
                         const std::vector<int64_t>& rows, float* scratch);
  void WeightGradient(const WeightShard& shard);

  const Mlp& mlp_;
  const std::vector<const float*>& hidden_;
  const MlpGradients& gradients_;
  const Simd& simd_;
  const int64_t chunks_;
  const float* output_gradient_;
  Buffer transposed_, delta_buffer_;
  std::vector<std::vector<const float*>> kernels_;        // by layer and member
  std::vector<std::vector<const float*>> input_kernels_;  // by input and member
  std::vector<float*> deltas_;  // by layer, [N, B, width]; null in scratch
  std::vector<TransposeShard> transposes_;
  std::vector<WeightShard> weights_;
};

// Copies some rows of `width` floats, one after the other.
void Gather(const float* from, int64_t width, const std::vector<int64_t>& rows,
            float* to) {
  for (const int64_t row : rows) {
    std::memcpy(to, from + row * width, sizeof(float) * width);
    to += width;
  }
}

// The rows of a chunk whose gradient is not zero, or all.
std::vector<int64_t> ActiveRows(const float* gradient, int64_t width,
                                int64_t begin, int64_t end, bool all) {
  std::vector<int64_t> rows;
  for (int64_t row = begin; row < end; ++row) {
    const float* values = gradient + row * width;
    // NaN is not equal to zero, and so is active.
    const auto is_zero = [](float value) { return value == 0.0f; };
    if (all || !std::all_of(values, values + width, is_zero)) {
      rows.push_back(row);
    }
  }
  return rows;
}

void BackwardPass::DeltasOfMember(int64_t member, int64_t chunk) {
  const size_t last = mlp_.layers.size() - 1;
  const int64_t begin = chunk * simd_.shard_rows;
  const int64_t end = std::min(begin + simd_.shard_rows, mlp_.batch);
  const int64_t first_row = member * mlp_.batch;
  const bool keep = gradients_.wants_weights();
  int64_t widest = mlp_.in(0);
  for (const Mlp::Layer& layer : mlp_.layers) {
    widest = std::max(widest, layer.width);
  }
  const float* gradient = output_gradient_ + first_row * Width(last);
  const std::vector<int64_t> rows =
      ActiveRows(gradient, Width(last), begin, end, keep);
  if (rows.empty()) return;
  const bool are_all = static_cast<int64_t>(rows.size()) == end - begin;

  const int64_t room = RoundUp(simd_.shard_rows * widest);
  float* scratch = ShardScratch(3 * room);
  float* spare[] = {scratch, scratch + room};
  float* gathered = scratch + 2 * room;
  // Rows of [B, width], as they are or gathered.
  const auto active = [&](const float* all, int64_t width, float* to) {
    if (are_all) return all + begin * width;
    Gather(all, width, rows, to);
    return static_cast<const float*>(to);
  };

  const float* delta = active(gradient, Width(last), spare[0]);
  for (size_t layer = last; layer > 0; --layer) {
    const int64_t in = Width(layer - 1);
    Product product{};
    product.rows = rows.size();
    product.columns = in;
    product.depth = Width(layer);
    product.a = delta;
    product.a_stride = Width(layer);
    product.a_step = 1;
    product.b = kernels_[layer][member];
    product.b_stride = in;
    product.c = keep ? deltas_[layer - 1] + (first_row + begin) * in : spare[1];
    product.c_stride = in;
    product.finish = Differentiated(mlp_.activation);
    product.hidden = active(hidden_[layer - 1] + first_row * in, in, gathered);
    product.hidden_stride = in;
    simd_.multiply(product);
    delta = product.c;
    std::swap(spare[0], spare[1]);
  }
  AddInputGradients(member, delta, rows, gathered);
}

void BackwardPass::AddInputGradients(int64_t member, const float* delta,
                                     const std::vector<int64_t>& rows,
                                     float* sums) {
  for (size_t i = 0; i < mlp_.inputs.size(); ++i) {
    float* gradient = gradients_.inputs[i];
    if (gradient == nullptr) continue;
    const int64_t width = mlp_.inputs[i].width;
    Product product{};
    product.rows = rows.size();
    product.columns = width;
    product.depth = Width(0);
    product.a = delta;
    product.a_stride = Width(0);
    product.a_step = 1;
    product.b = input_kernels_[i][member];
    product.b_stride = width;
    product.c = sums;
    product.c_stride = width;
    simd_.multiply(product);
    for (size_t row = 0; row < rows.size(); ++row) {
      for (int64_t j = 0; j < width; ++j) {
        gradient[rows[row] * width + j] += sums[row * width + j];
      }
    }
  }
}

// dW = activations^T delta, and db = the sum of the deltas.
void BackwardPass::WeightGradient(const WeightShard& shard) {
  const size_t layer = shard.layer;
  const bool is_last = layer + 1 == mlp_.layers.size();
  const int64_t width = Width(layer), member = shard.member;
  const float* delta = (is_last ? output_gradient_ : deltas_[layer]) +
                       member * mlp_.batch * width;
  Product product{};
  product.depth = mlp_.batch;
  product.c = gradients_.kernels[layer] +
              (member * mlp_.in(layer) + shard.begin) * width;
  if (width > 1) {
    product.rows = shard.rows;
    product.columns = width;
    product.a = shard.activations;
    product.a_stride = 1;
    product.a_step = shard.activations_stride;
    product.b = delta;
    product.b_stride = product.c_stride = width;
  } else {  // as a row, which fills vectors where a column does not
    product.rows = 1;
    product.columns = shard.rows;
    product.a = delta;
    product.a_step = 1;
    product.b = shard.activations;
    product.b_stride = shard.activations_stride;
  }
  simd_.multiply(product);
  if (shard.begin == 0) {
    simd_.sum_rows(mlp_.batch, width, delta, width,
                   gradients_.biases[layer] + member * width);
  }
}

}  // namespace

bool MlpGradients::wants_inputs() const {
  return std::any_of(inputs.begin(), inputs.end(),
                     [](const float* gradient) { return gradient; });
}

void MlpBackward(const Mlp& mlp, const std::vector<const float*>& hidden,
                 const float* output_gradient, const MlpGradients& gradients,
                 const Workers& workers, const Simd& simd) {
  BackwardPass(mlp, hidden, output_gradient, gradients, simd)
      .Run(ForWork(workers, mlp));
}

}  // namespace tfsac
