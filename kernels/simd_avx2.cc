// The kernels for AVX2 and FMA: 16 registers of 8 floats.

#if defined(__x86_64__)

#include <cstdint>
#include <cstring>
#include <vector>

#include "simd.h"

// After the standard headers, whose inline functions must run on any CPU.
#pragma GCC target("avx2,fma")

#define TFSAC_LANES 8
#define TFSAC_VECTORS 2
#define TFSAC_TILE_ROWS(vectors) ((vectors) == 2 ? 6 : 12)
#include "simd_kernels.h"

namespace tfsac {

extern const Simd kAvx2;
const Simd kAvx2 = {"avx2",
                    [] {
                      return __builtin_cpu_supports("avx2") &&
                             __builtin_cpu_supports("fma");
                    },
                    64,
                    Multiply,
                    Transpose,
                    SumRows};

}  // namespace tfsac

#endif
