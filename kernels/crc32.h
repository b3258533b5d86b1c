#ifndef TFSAC_KERNELS_CRC32_H_
#define TFSAC_KERNELS_CRC32_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace tfsac {

// Tables for eight bytes a step ("slicing by 8"): table[0] is the classic one,
// table[k][b] is the checksum of byte b followed by k zero bytes.
using Crc32Tables = std::array<std::array<uint32_t, 256>, 8>;

constexpr Crc32Tables MakeCrc32Tables() {
  constexpr uint32_t kReversedPolynomial = 0xEDB88320;
  Crc32Tables table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) {
      crc = (crc >> 1) ^ (crc & 1 ? kReversedPolynomial : 0);
    }
    table[0][byte] = crc;
  }
  for (size_t k = 1; k < 8; ++k) {
    for (uint32_t byte = 0; byte < 256; ++byte) {
      const uint32_t crc = table[k - 1][byte];
      table[k][byte] = (crc >> 8) ^ table[0][crc & 0xFF];
    }
  }
  return table;
}

// CRC-32 as in zlib, PNG and Ethernet. `crc` continues the checksum of the
// bytes before; 0 starts a new one. Needs a little-endian machine.
inline uint32_t Crc32(const void* data, size_t size, uint32_t crc = 0) {
  static constexpr Crc32Tables kTable = MakeCrc32Tables();
  const auto* bytes = static_cast<const unsigned char*>(data);
  crc = ~crc;
  for (; size >= 8; bytes += 8, size -= 8) {
    uint64_t word;
    std::memcpy(&word, bytes, 8);
    word ^= crc;
    crc = 0;
    for (size_t k = 0; k < 8; ++k) {
      crc ^= kTable[7 - k][word >> (8 * k) & 0xFF];
    }
  }
  for (; size > 0; ++bytes, --size) {
    crc = (crc >> 8) ^ kTable[0][(crc ^ *bytes) & 0xFF];
  }
  return ~crc;
}

}  // namespace tfsac

#endif  // TFSAC_KERNELS_CRC32_H_
