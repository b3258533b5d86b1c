// The kernels for AMX, a unit that multiplies tiles of bfloat16 and adds in
// float, on top of AVX-512.
//
// A float is the sum of three bfloat16, high, middle and low, but for 2^-24 of
// it or so. Of the nine products of the parts of two floats the six that count
// are added up. That is as right as products of floats are, and takes 0.85 of
// their time, packing included. What is infinite becomes NaN.
//
// B is packed anew by every shard: packing it once for all of them was tried,
// and is slower, as the shards then wait for it and get it from other cores.

#include "simd.h"

#if defined(__x86_64__) && defined(__linux__) && __GNUC__ >= 12

#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <vector>

// GCC 12 takes what intrinsics leave undefined on purpose for a mistake.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

// After the standard headers, whose inline functions must run on any CPU.
#pragma GCC target("avx512f,avx512dq,avx512vl,avx512bw,avx512bf16,fma")
#pragma GCC target("amx-tile,amx-bf16,prefer-vector-width=512")

#define TFSAC_LANES 16
#define TFSAC_VECTORS 4
#define TFSAC_TILE_ROWS(vectors) \
  ((vectors) == 4 ? 6 : (vectors) == 3 ? 8 : (vectors) == 2 ? 12 : 14)
#include "simd_kernels.h"

namespace tfsac {
namespace {

// A float is the sum of so many bfloat16.
constexpr int kParts = 3;

// A tile register: 16 rows of 64 bytes. That of A holds 16 rows of 32 numbers
// along k; that of B, 16 pairs of rows: B(2p, j) and B(2p + 1, j) side by side.
constexpr int64_t kTileRows = 16, kTileDepth = 32;
struct alignas(64) Part {
  uint32_t pairs[kTileRows][kTileRows];
};
struct Tiles {
  Part parts[kParts];  // from high to low
};

// What is packed at once: it fits the cache, and the stack.
constexpr int64_t kBlockRows = 128, kBlockColumns = 32, kBlockDepth = 256;
constexpr int64_t kDepthTiles = kBlockDepth / kTileDepth;

int64_t TilesOf(int64_t length, int64_t tile) {
  return (length + tile - 1) / tile;
}

// GCC does not know what memory the intrinsics of tiles read.
TFSAC_INLINE void WriteBack() { asm volatile("" ::: "memory"); }

TFSAC_INLINE __mmask16 First(int64_t count) {
  return count >= 16 ? 0xffff : count <= 0 ? 0 : (1u << count) - 1;
}

// Sixteen pairs of numbers, (even[i], odd[i]), as row `p` of each part.
TFSAC_INLINE void SplitPairs(__m512 even, __m512 odd, int64_t p, Tiles* to) {
  const __m512i interleave = _mm512_set_epi16(
      31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22,
      6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
#pragma GCC unroll 3
  for (Part& part : to->parts) {
    const __m512i pairs = _mm512_permutexvar_epi16(
        interleave, (__m512i)_mm512_cvtne2ps_pbh(odd, even));
    _mm512_store_si512(part.pairs[p], pairs);
    even -= (__m512)_mm512_slli_epi32(pairs, 16);
    odd -= (__m512)_mm512_and_epi32(pairs, _mm512_set1_epi32(0xffff0000));
  }
}

TFSAC_INLINE __m512 ToFloat(__m256i half) {
  return (__m512)_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16);
}

// Thirty-two numbers along k, as row `i` of each part.
TFSAC_INLINE void SplitRow(__m512 first, __m512 second, int64_t i, Tiles* to) {
#pragma GCC unroll 3
  for (Part& part : to->parts) {
    const __m512i both = (__m512i)_mm512_cvtne2ps_pbh(second, first);
    _mm512_store_si512(part.pairs[i], both);
    first -= ToFloat(_mm512_castsi512_si256(both));
    second -= ToFloat(_mm512_extracti64x4_epi64(both, 1));
  }
}

// A tile of B, of which `rows` x `columns` are there and zero beyond.
void PackPairs(const float* b, int64_t stride, int64_t rows, int64_t columns,
               Tiles* to) {
  const __mmask16 there = First(columns);
  for (int64_t p = 0; p < kTileRows; ++p) {
    const auto row = [&](int64_t k) {
      return k < rows ? _mm512_maskz_loadu_ps(there, b + k * stride)
                      : _mm512_setzero_ps();
    };
    SplitPairs(row(2 * p), row(2 * p + 1), p, to);
  }
}

// A tile of A, row by row.
void PackRows(const float* a, int64_t stride, int64_t rows, int64_t depth,
              Tiles* to) {
  const __mmask16 first = First(depth), second = First(depth - 16);
  for (int64_t i = 0; i < kTileRows; ++i) {
    const float* row = a + i * stride;
    const __mmask16 there = i < rows ? 0xffff : 0;
    SplitRow(_mm512_maskz_loadu_ps(there & first, row),
             _mm512_maskz_loadu_ps(there & second, row + 16), i, to);
  }
}

// Rows become columns, pair by pair: the one layout becomes the other.
void TransposeParts(const Tiles& from, Tiles* to) {
  for (int part = 0; part < kParts; ++part) {
    TransposeSquare((const float*)from.parts[part].pairs, kTileRows,
                    (float*)to->parts[part].pairs, kTileRows);
  }
}

// A tile of A that is stored as its transpose, k by k.
void PackColumns(const float* a, int64_t step, int64_t rows, int64_t depth,
                 Tiles* to) {
  alignas(64) Tiles pairs;
  PackPairs(a, step, depth, rows, &pairs);
  TransposeParts(pairs, to);
}

TFSAC_INLINE void LoadLeft(const Tiles& a0, const Tiles& a1, int part) {
  _tile_loadd(4, &a0.parts[part], 4 * kTileRows);
  _tile_loadd(5, &a1.parts[part], 4 * kTileRows);
}

TFSAC_INLINE void LoadRight(const Tiles& b0, const Tiles& b1, int part) {
  _tile_loadd(6, &b0.parts[part], 4 * kTileRows);
  _tile_loadd(7, &b1.parts[part], 4 * kTileRows);
}

TFSAC_INLINE void AddProducts() {
  _tile_dpbf16ps(0, 4, 6);
  _tile_dpbf16ps(1, 4, 7);
  _tile_dpbf16ps(2, 5, 6);
  _tile_dpbf16ps(3, 5, 7);
}

// Tiles 0 to 3 += two tiles of rows x two tiles of columns, along k. In an
// order in which every product but the first loads one side alone.
TFSAC_INLINE void MultiplyTiles(const Tiles* a0, const Tiles* a1,
                                const Tiles* b0, const Tiles* b1,
                                int64_t count) {
  for (int64_t k = 0; k < count; ++k) {
    LoadLeft(a0[k], a1[k], 0);
    LoadRight(b0[k], b1[k], 2);
    AddProducts();
    LoadRight(b0[k], b1[k], 1);
    AddProducts();
    LoadLeft(a0[k], a1[k], 1);
    AddProducts();
    LoadRight(b0[k], b1[k], 0);
    AddProducts();
    LoadLeft(a0[k], a1[k], 2);
    AddProducts();
    LoadLeft(a0[k], a1[k], 0);
    AddProducts();
  }
}

// Sixteen sums, of which the first `columns` count, become a part of C.
TFSAC_INLINE void FinishVector(const Product& p, Vector sums, int64_t i,
                               int64_t j, int64_t columns) {
  const __mmask16 there = First(columns);
  float* c = p.c + i * p.c_stride + j;
  const float* start = p.start == Start::kBias ? p.bias + j : c;
  if (p.start != Start::kZero) {
    sums += (Vector)_mm512_maskz_loadu_ps(there, start);
  }
  alignas(64) float hidden[kLanes];
  if (p.hidden) {
    _mm512_store_ps(hidden, _mm512_maskz_loadu_ps(
                                there, p.hidden + i * p.hidden_stride + j));
  }
  _mm512_mask_storeu_ps(c, there, (__m512)Finished(p.finish, sums, hidden));
}

// At most a block of rows, columns and depth; the columns' tiles.
void MultiplyBlock(const Product& p, const Tiles* a, const Tiles* b0,
                   const Tiles* b1) {
  const int64_t tiles = TilesOf(p.depth, kTileDepth);
  WriteBack();
  for (int64_t i = 0; i < p.rows; i += 2 * kTileRows) {
    const Tiles* rows = a + i / kTileRows * kDepthTiles;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    MultiplyTiles(rows, rows + kDepthTiles, b0, b1, tiles);
    alignas(64) float sums[2 * kTileRows][kBlockColumns];
    constexpr int kStride = 4 * kBlockColumns;
    _tile_stored(0, &sums[0][0], kStride);
    _tile_stored(1, &sums[0][16], kStride);
    _tile_stored(2, &sums[16][0], kStride);
    _tile_stored(3, &sums[16][16], kStride);
    for (int64_t r = 0; r < Smaller(2 * kTileRows, p.rows - i); ++r) {
      for (int64_t j = 0; j < Smaller(kBlockColumns, p.columns); j += 16) {
        FinishVector(p, Load(&sums[r][j]), i + r, j, p.columns - j);
      }
    }
  }
}

void Configure() {
  struct alignas(64) {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t bytes_per_row[16] = {};
    uint8_t rows[16] = {};
  } config;
  for (int tile = 0; tile < 8; ++tile) {
    config.bytes_per_row[tile] = 64;
    config.rows[tile] = kTileRows;
  }
  WriteBack();
  _tile_loadconfig(&config);
}

// The tiles of A, of a block of rows and depth. They are used in pairs, so
// their number is even.
void PackLeft(const Product& p, Tiles (*to)[kDepthTiles]) {
  const int64_t end = TilesOf(p.rows, 2 * kTileRows) * 2 * kTileRows;
  for (int64_t i = 0; i < end; i += kTileRows) {
    for (int64_t k = 0; k < p.depth; k += kTileDepth) {
      const float* from = p.a + i * p.a_stride + k * p.a_step;
      Tiles* tiles = &to[i / kTileRows][k / kTileDepth];
      if (p.a_step == 1) {
        PackRows(from, p.a_stride, p.rows - i, p.depth - k, tiles);
      } else {
        PackColumns(from, p.a_step, p.rows - i, p.depth - k, tiles);
      }
    }
  }
}

// A block of rows and depth, with all columns.
void MultiplyRows(const Product& product) {
  alignas(64) Tiles a[kBlockRows / kTileRows][kDepthTiles];
  alignas(64) Tiles b[2][kDepthTiles];
  PackLeft(product, a);
  for (int64_t j = 0; j < product.columns; j += kBlockColumns) {
    Product p = product;
    p.columns = Smaller(kBlockColumns, product.columns - j);
    p.b += j;
    p.c += j;
    if (p.bias) p.bias += j;
    if (p.hidden) p.hidden += j;
    for (int64_t k = 0; k < p.depth; k += kTileDepth) {
      for (int64_t side = 0; side < 2; ++side) {
        PackPairs(p.b + k * p.b_stride + 16 * side, p.b_stride, p.depth - k,
                  p.columns - 16 * side, &b[side][k / kTileDepth]);
      }
    }
    MultiplyBlock(p, a[0], b[0], b[1]);
  }
}

void MultiplyByTiles(const Product& product) {
  // Narrow or shallow ones would fill tiles with zeros.
  const bool is_small =
      product.rows < 16 || product.columns < 6 || product.depth < 16;
  if (is_small || (product.a_step != 1 && product.a_stride != 1)) {
    return Multiply(product);
  }
  Configure();
  for (int64_t i = 0; i < product.rows; i += kBlockRows) {
    for (int64_t k = 0; k < product.depth; k += kBlockDepth) {
      Product p = Terms(product, k, Smaller(kBlockDepth, product.depth - k));
      p.rows = Smaller(kBlockRows, p.rows - i);
      p.a += i * p.a_stride;
      p.c += i * p.c_stride;
      if (p.hidden) p.hidden += i * p.hidden_stride;
      MultiplyRows(p);
    }
  }
  _tile_release();
}

// Linux gives a process room for tiles when asked to.
bool MayUseTiles() {
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

bool IsSupported() {
  return __builtin_cpu_supports("avx512f") &&
         __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512bf16") &&
         __builtin_cpu_supports("amx-tile") &&
         __builtin_cpu_supports("amx-bf16") && MayUseTiles();
}

}  // namespace

extern const Simd kAmx;
const Simd kAmx = {"amx",           IsSupported, 128,
                   MultiplyByTiles, Transpose,   SumRows};

}  // namespace tfsac

#else

namespace tfsac {

extern const Simd kAmx;
const Simd kAmx = {
    "amx", [] { return false; }, nullptr, nullptr, nullptr, nullptr, nullptr};

}  // namespace tfsac

#endif
