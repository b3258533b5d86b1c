#ifndef TFSAC_KERNELS_REPLAY_FORMAT_H_
#define TFSAC_KERNELS_REPLAY_FORMAT_H_

#include <algorithm>
#include <array>
#include <cinttypes>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>

#include "crc32.h"
#include "replay_file.h"
#include "replay_layout.h"

// The format of saved buffers; README.md describes each field.

namespace tfsac {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "replay files are little-endian, and written as memory lies");

inline constexpr char kIndexSuffix[] = ".index";
inline constexpr char kIndexMagic[8] = {'t', 'f', 's', 'a', 'c', 'I', 'D', 'X'};
inline constexpr char kSegmentMagic[8] = {'t', 'f', 's', 'a',
                                          'c', 'S', 'E', 'G'};
inline constexpr uint32_t kVersion = 1;
inline constexpr int64_t kSegmentBytes = int64_t{4} << 20;
// More than any run inserts, and far enough from 2^63 to go on counting.
inline constexpr int64_t kMaxInserted = int64_t{1} << 62;
// More rows of 64 bytes than an address can count.
inline constexpr int64_t kMaxCapacity = int64_t{1} << 57;

struct FileHeader {
  char magic[8];
  uint32_t version;
  uint32_t observation_type;
  int64_t observation_size;
  int64_t action_size;
};

struct IndexHeader {
  FileHeader file;
  int64_t capacity;
  int64_t inserted;
  uint64_t seed;
  uint64_t drawn;
  int64_t rows_per_segment;
  uint32_t checksums_crc;
  uint32_t header_crc;
};

struct SegmentHeader {
  FileHeader file;
  int64_t begin;
  int64_t end;
  uint64_t reserved;
  uint32_t payload_crc;
  uint32_t header_crc;
};

static_assert(sizeof(FileHeader) == 32 && sizeof(IndexHeader) == 80 &&
              sizeof(SegmentHeader) == 64);

inline FileHeader MakeFileHeader(const char (&magic)[8],
                                 const ReplayLayout& layout) {
  FileHeader header;
  std::memcpy(header.magic, magic, sizeof(magic));
  header.version = kVersion;
  header.observation_type = static_cast<uint32_t>(layout.observation_type);
  header.observation_size = layout.observation_size;
  header.action_size = layout.action_size;
  return header;
}

// The checksum of a header covers all that stands before it.
template <typename Header>
uint32_t HeaderCrc(const Header& header) {
  return Crc32(&header, offsetof(Header, header_crc));
}

// The rows [begin, end), which one file holds.
struct Segment : RowRange {
  std::string FileName(uint32_t payload_crc) const {
    char name[80];
    std::snprintf(name, sizeof(name),
                  "rows-%" PRId64 "-%" PRId64 "-%08" PRIx32 ".segment", begin,
                  end, payload_crc);
    return name;
  }
};

// The length of a segment's file.
inline uint64_t SegmentBytes(const RowRange& rows, const ReplayLayout& layout) {
  return sizeof(SegmentHeader) +
         uint64_t(rows.end - rows.begin) * uint64_t(layout.row_bytes());
}

// The segments of a saved buffer. They are cut at the multiples of
// `rows_per_segment`, so that a full one is the same from one save to the next.
class SegmentList {
 public:
  SegmentList(const ReplayState& state, int64_t rows_per_segment)
      : oldest_(std::max<int64_t>(0, state.inserted - state.capacity)),
        newest_(state.inserted),
        rows_per_segment_(rows_per_segment) {}

  int64_t size() const {
    if (newest_ == 0) return 0;
    return (newest_ - 1) / rows_per_segment_ - First() + 1;
  }
  Segment operator[](int64_t i) const {
    const int64_t begin = (First() + i) * rows_per_segment_;
    const int64_t end = begin + std::min(rows_per_segment_, newest_ - begin);
    return {{std::max(begin, oldest_), end}};
  }

 private:
  int64_t First() const { return oldest_ / rows_per_segment_; }

  const int64_t oldest_;
  const int64_t newest_;
  const int64_t rows_per_segment_;
};

// Where a segment lies in the ring: in one run of bytes, or in two where the
// ring wraps.
struct Run {
  int64_t offset;
  int64_t bytes;
};

inline std::array<Run, 2> Runs(const Segment& segment,
                               const ReplayLayout& layout, int64_t capacity) {
  const int64_t slot = segment.begin % capacity;
  const int64_t rows = segment.end - segment.begin;
  const int64_t before_wrap = std::min(rows, capacity - slot);
  return {Run{slot * layout.row_bytes(), before_wrap * layout.row_bytes()},
          Run{0, (rows - before_wrap) * layout.row_bytes()}};
}

}  // namespace tfsac

#endif  // TFSAC_KERNELS_REPLAY_FORMAT_H_
