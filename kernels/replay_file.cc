#include "replay_file.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <set>
#include <system_error>
#include <vector>

#include "crc32.h"
#include "file_io.h"
#include "replay_format.h"

namespace tfsac {
namespace {

Status Damaged(const InputFile& file, const std::string& what) {
  return {Code::kDataLoss, file.path() + ": " + what};
}

std::string Hex(uint32_t value) {
  char text[16];
  std::snprintf(text, sizeof(text), "0x%08" PRIx32, value);
  return text;
}

Status CheckCrc(const InputFile& file, const std::string& what, uint32_t stored,
                uint32_t computed) {
  if (stored == computed) return {};
  return Damaged(file, "checksum of the " + what + ": stored " + Hex(stored) +
                           ", computed " + Hex(computed));
}

Status WriteSegment(const std::string& directory, const ReplayLayout& layout,
                    int64_t capacity, const Segment& segment,
                    const std::byte* rows, uint32_t* crc) {
  const auto runs = Runs(segment, layout, capacity);
  *crc = 0;
  for (const Run& run : runs) *crc = Crc32(rows + run.offset, run.bytes, *crc);
  SegmentHeader header{MakeFileHeader(kSegmentMagic, layout),
                       segment.begin,
                       segment.end,
                       0,
                       *crc,
                       0};
  header.header_crc = HeaderCrc(header);
  std::vector<ByteSpan> spans{{&header, sizeof(header)}};
  for (const Run& run : runs) {
    spans.push_back({rows + run.offset, static_cast<size_t>(run.bytes)});
  }
  return WriteFile(directory, segment.FileName(*crc), spans);
}

// Removes what earlier saves, complete or not, left in the directory. What
// cannot be removed costs space only, so errors are passed over.
void RemoveOthers(const std::string& directory,
                  const std::set<std::string>& keep) {
  std::error_code error;
  std::vector<std::filesystem::path> remove;
  for (std::filesystem::directory_iterator it(directory, error), end;
       !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    const bool ours = name.rfind("rows-", 0) == 0 &&
                      name.find(".segment") != std::string::npos;
    if (ours && keep.count(name) == 0) remove.push_back(it->path());
  }
  for (const auto& path : remove) std::filesystem::remove(path, error);
}

template <typename Header>
Status ReadHeader(const char (&magic)[8], InputFile* file, Header* header) {
  if (file->size() < sizeof(Header)) {
    return Damaged(
        *file, "expected a header of " + std::to_string(sizeof(Header)) +
                   " bytes, found a file of " + std::to_string(file->size()));
  }
  if (Status status = file->Read(header, sizeof(Header)); !status.ok()) {
    return status;
  }
  if (std::memcmp(header->file.magic, magic, sizeof(magic)) != 0) {
    return Damaged(*file, "another kind of file: does not begin with " +
                              std::string(magic, sizeof(magic)));
  }
  if (header->file.version != kVersion) {
    return Damaged(*file, "format version: expected " +
                              std::to_string(kVersion) + ", found " +
                              std::to_string(header->file.version));
  }
  return CheckCrc(*file, "header", header->header_crc, HeaderCrc(*header));
}

bool SameLayout(const FileHeader& header, const ReplayLayout& layout) {
  return header.observation_type ==
             static_cast<uint32_t>(layout.observation_type) &&
         header.observation_size == layout.observation_size &&
         header.action_size == layout.action_size;
}

std::string Describe(const ReplayLayout& layout, int64_t capacity) {
  return layout.DebugString() + ", capacity=" + std::to_string(capacity);
}

Status ReadIndexHeader(InputFile* file, const ReplayLayout& layout,
                       int64_t capacity, IndexHeader* header) {
  Status status = ReadHeader(kIndexMagic, file, header);
  if (!status.ok()) return status;
  if (!SameLayout(header->file, layout) || header->capacity != capacity) {
    const ReplayLayout saved{
        header->file.observation_size, header->file.action_size,
        static_cast<ObservationType>(header->file.observation_type)};
    return {Code::kInvalidArgument, file->path() + ": was saved with " +
                                        Describe(saved, header->capacity) +
                                        "; this buffer has " +
                                        Describe(layout, capacity)};
  }
  if (header->inserted < 0 || header->inserted > kMaxInserted ||
      header->rows_per_segment < 1) {
    return Damaged(*file, "counts that no buffer can have");
  }
  return {};
}

Status ReadSegment(const std::string& directory, const ReplayLayout& layout,
                   int64_t capacity, const Segment& segment, uint32_t crc,
                   std::byte* rows) {
  InputFile file;
  Status status = file.Open(directory + "/" + segment.FileName(crc));
  if (!status.ok()) return status;
  const auto runs = Runs(segment, layout, capacity);
  const uint64_t expected =
      sizeof(SegmentHeader) + uint64_t(runs[0].bytes) + runs[1].bytes;
  if (file.size() != expected) {
    return Damaged(file, "expected " + std::to_string(expected) +
                             " bytes, found " + std::to_string(file.size()));
  }
  SegmentHeader header;
  status = ReadHeader(kSegmentMagic, &file, &header);
  if (!status.ok()) return status;
  if (!SameLayout(header.file, layout) || header.begin != segment.begin ||
      header.end != segment.end || header.payload_crc != crc) {
    return Damaged(file, "its header disagrees with its name or the index");
  }
  uint32_t computed = 0;
  for (const Run& run : runs) {
    status = file.Read(rows + run.offset, run.bytes);
    if (!status.ok()) return status;
    computed = Crc32(rows + run.offset, run.bytes, computed);
  }
  return CheckCrc(file, "rows", crc, computed);
}

}  // namespace

Status WriteReplay(const std::string& directory, const ReplayLayout& layout,
                   const ReplayState& state, const std::byte* rows) {
  Status status = MakeDirectory(directory);
  if (!status.ok()) return status;
  const int64_t rows_per_segment =
      std::max<int64_t>(1, kSegmentBytes / layout.row_bytes());
  std::vector<uint32_t> crcs;
  std::set<std::string> names;
  const SegmentList segments(state, rows_per_segment);
  for (int64_t i = 0; i < segments.size(); ++i) {
    uint32_t crc;
    status = WriteSegment(directory, layout, state.capacity, segments[i], rows,
                          &crc);
    if (!status.ok()) return status;
    crcs.push_back(crc);
    names.insert(segments[i].FileName(crc));
  }
  status = SyncDirectory(directory);
  if (!status.ok()) return status;
  const size_t crcs_bytes = crcs.size() * sizeof(uint32_t);
  IndexHeader header{MakeFileHeader(kIndexMagic, layout),
                     state.capacity,
                     state.inserted,
                     state.seed,
                     state.drawn,
                     rows_per_segment,
                     Crc32(crcs.data(), crcs_bytes),
                     0};
  header.header_crc = HeaderCrc(header);
  // The index names every segment by its checksum: renaming it into place
  // replaces the earlier save by this one, at once.
  status = WriteFile(directory, kIndexName,
                     {{&header, sizeof(header)}, {crcs.data(), crcs_bytes}});
  if (!status.ok()) return status;
  status = SyncDirectory(directory);
  if (!status.ok()) return status;
  RemoveOthers(directory, names);
  return {};
}

Status ReadReplay(const std::string& directory, const ReplayLayout& layout,
                  ReplayState* state, std::byte* rows) {
  InputFile index;
  Status status = index.Open(directory + "/" + kIndexName);
  if (!status.ok()) return status;
  IndexHeader header;
  status = ReadIndexHeader(&index, layout, state->capacity, &header);
  if (!status.ok()) return status;
  *state = {header.capacity, header.inserted, header.seed, header.drawn};
  const SegmentList segments(*state, header.rows_per_segment);
  // Compared before anything is allocated: a header may claim any number.
  const uint64_t expected =
      sizeof(header) + sizeof(uint32_t) * uint64_t(segments.size());
  if (index.size() != expected) {
    return Damaged(index, "expected " + std::to_string(expected) +
                              " bytes, found " + std::to_string(index.size()));
  }
  std::vector<uint32_t> crcs(segments.size());
  const size_t crcs_bytes = crcs.size() * sizeof(uint32_t);
  status = index.Read(crcs.data(), crcs_bytes);
  if (!status.ok()) return status;
  status = CheckCrc(index, "segments' checksums", header.checksums_crc,
                    Crc32(crcs.data(), crcs_bytes));
  if (!status.ok()) return status;
  for (int64_t i = 0; i < segments.size(); ++i) {
    status = ReadSegment(directory, layout, state->capacity, segments[i],
                         crcs[i], rows);
    if (!status.ok()) return status;
  }
  return {};
}

}  // namespace tfsac
