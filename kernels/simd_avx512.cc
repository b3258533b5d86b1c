// The kernels for AVX-512: 32 registers of 16 floats.

#if defined(__x86_64__)

#include <cstdint>
#include <cstring>
#include <vector>

#include "simd.h"

// After the standard headers, whose inline functions must run on any CPU.
#pragma GCC target("avx512f,avx512dq,avx512vl,fma,prefer-vector-width=512")

#define TFSAC_LANES 16
#define TFSAC_VECTORS 4
#define TFSAC_TILE_ROWS(vectors) \
  ((vectors) == 4 ? 6 : (vectors) == 3 ? 8 : (vectors) == 2 ? 12 : 14)
#include "simd_kernels.h"

namespace tfsac {

extern const Simd kAvx512;
const Simd kAvx512 = {"avx512",
                      [] {
                        return __builtin_cpu_supports("avx512f") &&
                               __builtin_cpu_supports("avx512dq") &&
                               __builtin_cpu_supports("avx512vl");
                      },
                      64,
                      Multiply,
                      Transpose,
                      SumRows};

}  // namespace tfsac

#endif
