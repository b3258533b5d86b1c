#ifndef TFSAC_KERNELS_SIMD_H_
#define TFSAC_KERNELS_SIMD_H_

#include <cstdint>
#include <vector>

namespace tfsac {

// What the sums of a product start from.
enum class Start { kZero, kBias, kOutput };

// What happens to the sums before they are stored. The gradients multiply by
// the derivative of the activation, of which `hidden` holds the value.
enum class Finish { kNone, kRelu, kTanh, kReluGradient, kTanhGradient };

// C = finish(start + A B), all float and row by row, of any size:
// A(i, k) = a[i * a_stride + k * a_step], so that A may be a transpose;
// B(k, j) = b[k * b_stride + j]; C(i, j) = c[i * c_stride + j].
struct Product {
  int64_t rows, columns, depth;
  const float* a;
  int64_t a_stride, a_step;
  const float* b;
  int64_t b_stride;
  float* c;
  int64_t c_stride;
  Start start = Start::kZero;
  const float* bias = nullptr;  // [columns], for kBias
  Finish finish = Finish::kNone;
  const float* hidden = nullptr;  // laid out as C, for the gradients
  int64_t hidden_stride = 0;
};

// The kernels for one instruction set. Every sum runs over k in one order that
// the sizes of the product alone decide.
struct Simd {
  const char* name;
  bool (*is_supported)();  // by this CPU
  // The rows of a batch, or of a kernel's gradient, that one shard works on:
  // few enough that their activations stay in the cache from layer to layer,
  // and always the same, so that results do not depend on the number of
  // threads.
  int64_t shard_rows;
  void (*multiply)(const Product& product);
  // to[j * to_stride + i] = from[i * from_stride + j]
  void (*transpose)(int64_t rows, int64_t columns, const float* from,
                    int64_t from_stride, float* to, int64_t to_stride);
  // sums[j] = the sum over i of from[i * stride + j]
  void (*sum_rows)(int64_t rows, int64_t columns, const float* from,
                   int64_t stride, float* sums);
};

// All that were compiled for this kind of CPU, the fastest first.
const std::vector<const Simd*>& AllSimd();

// The fastest that this CPU supports; the environment variable TFSAC_SIMD
// names a slower one, for tests.
const Simd& BestSimd();

}  // namespace tfsac

#endif  // TFSAC_KERNELS_SIMD_H_
