// The kernels for any CPU: registers of 4 floats, as SSE and NEON have them.

#include <cstdint>
#include <cstring>
#include <vector>

#include "simd.h"

#define TFSAC_LANES 4
#define TFSAC_VECTORS 2
#define TFSAC_TILE_ROWS(vectors) ((vectors) == 2 ? 6 : 8)
#include "simd_kernels.h"

namespace tfsac {

extern const Simd kPortable;
const Simd kPortable = {"portable", [] { return true; }, 64,
                        Multiply,   Transpose,           SumRows};

}  // namespace tfsac
