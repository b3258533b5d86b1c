// The kernels, written once with vectors of TFSAC_LANES floats, and compiled
// by each simd_*.cc for its instruction set. There is no include guard and no
// standard header here: what they define must not be compiled for a CPU that
// another one is not.

namespace tfsac {
namespace {

constexpr int kLanes = TFSAC_LANES;
constexpr int kVectors = TFSAC_VECTORS;  // at most, side by side in a tile
constexpr int kRowVectors = 8;           // in a tile of one row

typedef float Vector
    __attribute__((vector_size(4 * TFSAC_LANES), aligned(4), may_alias));

#define TFSAC_INLINE inline __attribute__((always_inline))

TFSAC_INLINE Vector Load(const float* from) { return *(const Vector*)from; }
TFSAC_INLINE void Store(Vector v, float* to) { *(Vector*)to = v; }
TFSAC_INLINE Vector Fill(float value) { return value - Vector{}; }

TFSAC_INLINE int64_t Smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// As Eigen's ptanh: a rational function, right to a few units of the last
// place, and +-1 beyond +-7.9.
TFSAC_INLINE Vector Tanh(Vector x) {
  const Vector bound = Fill(7.90531110763549805f);
  x = x > bound ? bound : x;
  x = x < -bound ? -bound : x;
  const Vector x2 = x * x;
  Vector p = x2 * -2.76076847742355e-16f + 2.00018790482477e-13f;
  p = p * x2 - 8.60467152213735e-11f;
  p = p * x2 + 5.12229709037114e-08f;
  p = p * x2 + 1.48572235717979e-05f;
  p = p * x2 + 6.37261928875436e-04f;
  p = p * x2 + 4.89352455891786e-03f;
  Vector q = x2 * 1.19825839466702e-06f + 1.18534705686654e-04f;
  q = q * x2 + 2.26843463243900e-03f;
  q = q * x2 + 4.89352518554385e-03f;
  return x * p / q;
}

TFSAC_INLINE Vector Finished(Finish finish, Vector v, const float* hidden) {
  switch (finish) {
    case Finish::kNone:
      return v;
    case Finish::kRelu:
      return v < 0.0f ? Vector{} : v;  // NaN stays NaN
    case Finish::kTanh:
      return Tanh(v);
    case Finish::kReluGradient:
      return Load(hidden) > 0.0f ? v : Vector{};
    case Finish::kTanhGradient:
      return v * (1.0f - Load(hidden) * Load(hidden));
  }
  __builtin_unreachable();
}

// `rows` x `vectors` sums, held in registers while k runs.
template <int rows, int vectors>
TFSAC_INLINE void Tile(const Product& p, int64_t i) {
  const float* a = p.a + i * p.a_stride;
  const float* b = p.b;
  float* c = p.c + i * p.c_stride;
  Vector sums[rows][vectors];
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) {
      sums[r][v] = p.start == Start::kZero ? Vector{}
                   : p.start == Start::kBias
                       ? Load(p.bias + v * kLanes)
                       : Load(c + r * p.c_stride + v * kLanes);
    }
  }
  for (int64_t k = 0; k < p.depth; ++k) {
    Vector row[vectors];
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) row[v] = Load(b + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
      const Vector factor = Fill(a[r * p.a_stride]);
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) sums[r][v] += factor * row[v];
    }
    a += p.a_step;
    b += p.b_stride;
  }
  const float* hidden = p.hidden + i * p.hidden_stride;
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) {
      Store(Finished(p.finish, sums[r][v],
                     hidden + r * p.hidden_stride + v * kLanes),
            c + r * p.c_stride + v * kLanes);
    }
  }
}

// The last rows, fewer than a full tile has.
template <int rows, int vectors>
TFSAC_INLINE void LastTile(const Product& p, int64_t i) {
  if (p.rows - i == rows) {
    Tile<rows, vectors>(p, i);
  } else if constexpr (rows > 1) {
    LastTile<rows - 1, vectors>(p, i);
  }
}

// All rows of a product whose columns are `vectors` full vectors. Not inline:
// GCC would spill the sums.
template <int vectors>
__attribute__((noinline)) void Panel(const Product& p) {
  constexpr int rows = TFSAC_TILE_ROWS(vectors);
  int64_t i = 0;
  for (; i + rows <= p.rows; i += rows) Tile<rows, vectors>(p, i);
  if (i < p.rows) LastTile<rows - 1, vectors>(p, i);
}

// The terms from `k` to before `k + depth` of a product's sums.
Product Terms(const Product& product, int64_t k, int64_t depth) {
  Product p = product;
  p.depth = depth;
  p.a += k * p.a_step;
  p.b += k * p.b_stride;
  if (k > 0) p.start = Start::kOutput;
  if (k + depth < product.depth) p.finish = Finish::kNone;
  return p;
}

// One row, as where a single environment acts: wide, so that as many sums run
// at once as in a tile of several rows.
__attribute__((noinline)) void WideRow(const Product& p) {
  Tile<1, kRowVectors>(p, 0);
}

// A panel of any depth, block by block, so that all its tiles find B in the
// cache. Rows of B that are far apart would push each other out of it, as their
// addresses differ by about a page: those are copied side by side.
template <int vectors>
void DeepPanel(const Product& product) {
  constexpr int64_t kFarApart = 768, kDepth = 256, kCopiedDepth = 128;
  constexpr int64_t kColumns = vectors * kLanes;
  const bool is_copied = product.b_stride > kFarApart;
  const int64_t most = is_copied ? kCopiedDepth : kDepth;
  for (int64_t k = 0; k == 0 || k < product.depth; k += most) {
    Product p = Terms(product, k, Smaller(most, product.depth - k));
    if (!is_copied) {
      Panel<vectors>(p);
      continue;
    }
    alignas(64) float copy[kCopiedDepth * kColumns];
    for (int64_t i = 0; i < p.depth; ++i) {
      memcpy(copy + i * kColumns, p.b + i * p.b_stride, 4 * kColumns);
    }
    p.b = copy;
    p.b_stride = kColumns;
    Panel<vectors>(p);
  }
}

// The columns that do not fill a vector, on copies that do. Block by block, so
// that the copies fit on the stack.
void LastColumns(const Product& product) {
  constexpr int64_t kRows = 4 * TFSAC_TILE_ROWS(1), kDepth = 256;
  const size_t bytes = 4 * product.columns;
  float b[kDepth * kLanes] = {}, c[kRows * kLanes] = {};
  float hidden[kRows * kLanes] = {}, bias[kLanes] = {};
  if (product.start == Start::kBias) memcpy(bias, product.bias, bytes);
  for (int64_t k = 0; k == 0 || k < product.depth; k += kDepth) {
    const Product terms = Terms(product, k, Smaller(kDepth, product.depth - k));
    for (int64_t j = 0; j < terms.depth; ++j) {
      memcpy(b + j * kLanes, terms.b + j * terms.b_stride, bytes);
    }
    for (int64_t i = 0; i < product.rows; i += kRows) {
      Product p = terms;
      p.rows = Smaller(kRows, product.rows - i);
      p.a += i * p.a_stride;
      p.b = b;
      p.c = c;
      p.bias = bias;
      p.hidden = hidden;
      p.b_stride = p.c_stride = p.hidden_stride = kLanes;
      float* to = product.c + i * product.c_stride;
      for (int64_t r = 0; r < p.rows; ++r) {
        if (p.start == Start::kOutput) {
          memcpy(c + r * kLanes, to + r * product.c_stride, bytes);
        }
        if (product.hidden) {
          memcpy(hidden + r * kLanes,
                 product.hidden + (i + r) * product.hidden_stride, bytes);
        }
      }
      Panel<1>(p);
      for (int64_t r = 0; r < p.rows; ++r) {
        memcpy(to + r * product.c_stride, c + r * kLanes, bytes);
      }
    }
  }
}

// A single column that lies in one stretch, as the weights of a critic's value
// do: sums along k, `kLanes` at once.
void OneColumn(const Product& p) {
  for (int64_t i = 0; i < p.rows; ++i) {
    const float* a = p.a + i * p.a_stride;
    float* c = p.c + i * p.c_stride;
    Vector sums[2] = {};
    int64_t k = 0;
    for (; k + 2 * kLanes <= p.depth; k += 2 * kLanes) {
      sums[0] += Load(a + k) * Load(p.b + k);
      sums[1] += Load(a + k + kLanes) * Load(p.b + k + kLanes);
    }
    float sum = p.start == Start::kZero   ? 0.0f
                : p.start == Start::kBias ? *p.bias
                                          : *c;
    for (; k < p.depth; ++k) sum += a[k] * p.b[k];
    sums[0] += sums[1];
    for (int lane = 0; lane < kLanes; ++lane) sum += sums[0][lane];
    const float* hidden = p.hidden + i * p.hidden_stride;
    const Vector h = Fill(p.hidden ? *hidden : 0.0f);
    *c = Finished(p.finish, Fill(sum), (const float*)&h)[0];
  }
}

// What is left of a product without its first columns.
void Skip(int64_t columns, Product* p) {
  p->columns -= columns;
  p->b += columns;
  p->c += columns;
  p->bias += p->bias ? columns : 0;
  p->hidden += p->hidden ? columns : 0;
}

void Multiply(const Product& product) {
  if (product.columns == 1 && product.b_stride == 1 && product.a_step == 1) {
    return OneColumn(product);
  }
  Product p = product;
  constexpr int64_t kWide = kRowVectors * kLanes;
  for (; p.rows == 1 && p.columns >= kWide; Skip(kWide, &p)) WideRow(p);
  int64_t vectors = p.columns / kLanes;
  while (p.columns > 0) {
    // Tiles of much the same width: 5 vectors are 3 and 2, not 4 and 1.
    const int64_t panels = (vectors + kVectors - 1) / kVectors;
    const int64_t width = vectors > 0 ? (vectors + panels - 1) / panels : 0;
    switch (width) {
      case 0:
        return LastColumns(p);
      case 1:
        DeepPanel<1>(p);
        break;
      case 2:
        DeepPanel<2>(p);
        break;
#if TFSAC_VECTORS > 2
      case 3:
        DeepPanel<3>(p);
        break;
      case 4:
        DeepPanel<4>(p);
        break;
#endif
    }
    vectors -= width;
    Skip(width * kLanes, &p);
  }
}

// A square of kLanes x kLanes, whose off-diagonal quarters change places, then
// those of each quarter, and so on (Eklundh 1972).
void TransposeSquare(const float* from, int64_t from_stride, float* to,
                     int64_t to_stride) {
  typedef int Lanes __attribute__((vector_size(4 * kLanes)));
  Vector rows[kLanes];
  for (int i = 0; i < kLanes; ++i) rows[i] = Load(from + i * from_stride);
#pragma GCC unroll 4
  for (int half = kLanes / 2; half > 0; half /= 2) {
    Lanes upper = {}, lower = {};
    for (int lane = 0; lane < kLanes; ++lane) {
      const bool is_right = lane & half;
      upper[lane] = is_right ? kLanes + lane - half : lane;
      lower[lane] = is_right ? kLanes + lane : lane + half;
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) {
      if (i & half) continue;
      const Vector above = rows[i], below = rows[i + half];
      rows[i] = __builtin_shuffle(above, below, upper);
      rows[i + half] = __builtin_shuffle(above, below, lower);
    }
  }
  for (int i = 0; i < kLanes; ++i) Store(rows[i], to + i * to_stride);
}

void Transpose(int64_t rows, int64_t columns, const float* from,
               int64_t from_stride, float* to, int64_t to_stride) {
  const int64_t whole_rows = rows - rows % kLanes;
  const int64_t whole_columns = columns - columns % kLanes;
  for (int64_t j = 0; j < whole_columns; j += kLanes) {
    for (int64_t i = 0; i < whole_rows; i += kLanes) {
      TransposeSquare(from + i * from_stride + j, from_stride,
                      to + j * to_stride + i, to_stride);
    }
  }
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = i < whole_rows ? whole_columns : 0; j < columns; ++j) {
      to[j * to_stride + i] = from[i * from_stride + j];
    }
  }
}

void SumRows(int64_t rows, int64_t columns, const float* from, int64_t stride,
             float* sums) {
  for (int64_t j = 0; j < columns; ++j) sums[j] = 0.0f;
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) sums[j] += from[i * stride + j];
  }
}

}  // namespace
}  // namespace tfsac
