#ifndef TFSAC_KERNELS_NORMAL_H_
#define TFSAC_KERNELS_NORMAL_H_

#include <array>
#include <cstdint>

namespace tfsac {

using Seed = std::array<uint64_t, 2>;

// Fills `normals` with standard normal noise, a pure function of the seed: what
// standard_normal in tfsac/noise.py returns for it, to rounding.
void StandardNormal(const Seed& seed, int64_t count, float* normals);

}  // namespace tfsac

#endif  // TFSAC_KERNELS_NORMAL_H_
