#ifndef TFSAC_KERNELS_PHILOX_H_
#define TFSAC_KERNELS_PHILOX_H_

#include <array>
#include <cstdint>

namespace tfsac {

// Philox4x32-10: a counter-based generator, that is, a pure function of a key
// and a counter. Word i of a stream costs the same for every i, needs no state
// but i, and is the same on every machine.
//
// J. K. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
inline std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter,
                                          std::array<uint32_t, 2> key) {
  constexpr int kRounds = 10;
  constexpr uint64_t kMultiplier0 = 0xD2511F53;
  constexpr uint64_t kMultiplier1 = 0xCD9E8D57;
  constexpr uint32_t kWeyl0 = 0x9E3779B9;  // golden ratio
  constexpr uint32_t kWeyl1 = 0xBB67AE85;  // sqrt(3) - 1
  for (int round = 0; round < kRounds; ++round) {
    const uint64_t product0 = kMultiplier0 * counter[0];
    const uint64_t product1 = kMultiplier1 * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0],
               static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1],
               static_cast<uint32_t>(product0)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return counter;
}

// Words 2 * block and 2 * block + 1 of the stream of 64-bit words that belongs
// to `seed`. The order of the halves is that of TensorFlow's
// StatelessRandomUniformFullIntV2 with alg = 1 and dtype = uint64.
inline std::array<uint64_t, 2> PhiloxWords(uint64_t seed, uint64_t block) {
  const auto x = Philox4x32(
      {static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), 0, 0},
      {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  return {x[0] | uint64_t{x[1]} << 32, x[2] | uint64_t{x[3]} << 32};
}

// Maps a uniform 64-bit word to [0, n): the high half of word * n. No index is
// likelier than another by more than 2^-64.
inline uint64_t UniformIndex(uint64_t word, uint64_t n) {
  return static_cast<uint64_t>(static_cast<unsigned __int128>(word) * n >> 64);
}

}  // namespace tfsac

#endif  // TFSAC_KERNELS_PHILOX_H_
