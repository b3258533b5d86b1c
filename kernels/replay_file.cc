#include "replay_file.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <set>
#include <system_error>
#include <utility>
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

Status CheckSize(const InputFile& file, uint64_t expected) {
  if (file.size() == expected) return {};
  return Damaged(file, "expected " + std::to_string(expected) +
                           " bytes, found " + std::to_string(file.size()));
}

// Writes a segment, unless `saved` knows it and its file is there.
Status WriteSegment(const std::string& directory, const ReplayLayout& layout,
                    int64_t capacity, const Segment& segment,
                    const std::byte* rows, const SavedRows& saved,
                    uint32_t* crc) {
  const auto known = saved.checksums.find(segment);
  if (directory == saved.directory && known != saved.checksums.end()) {
    *crc = known->second;
    const std::string path = directory + "/" + segment.FileName(*crc);
    if (IsFileOfSize(path, SegmentBytes(segment, layout))) return {};
  }
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

// What an index says: counters, and the segments with their checksums.
struct Index {
  IndexHeader header;
  std::vector<Segment> segments;
  std::vector<uint32_t> checksums;
};

ReplayState State(const IndexHeader& header) {
  return {header.capacity, header.inserted, header.seed, header.drawn};
}

Status CheckLayout(const InputFile& file, const IndexHeader& header,
                   const ReplayLayout& layout, int64_t capacity) {
  if (SameLayout(header.file, layout) && header.capacity == capacity) return {};
  const ReplayLayout saved{
      header.file.observation_size, header.file.action_size,
      static_cast<ObservationType>(header.file.observation_type)};
  return {Code::kInvalidArgument,
          file.path() + ": was saved with " + Describe(saved, header.capacity) +
              "; this buffer has " + Describe(layout, capacity)};
}

// Reads the rest of an index after its header.
Status ReadSegmentList(InputFile* file, Index* index) {
  const IndexHeader& header = index->header;
  if (header.capacity < 1 || header.capacity > kMaxCapacity ||
      header.inserted < 0 || header.inserted > kMaxInserted ||
      header.rows_per_segment < 1) {
    return Damaged(*file, "counts that no buffer can have");
  }
  const SegmentList segments(State(header), header.rows_per_segment);
  // Compared before anything is allocated: a header may claim any number.
  const size_t checksums_bytes = sizeof(uint32_t) * uint64_t(segments.size());
  Status status = CheckSize(*file, sizeof(header) + checksums_bytes);
  if (!status.ok()) return status;
  index->checksums.resize(segments.size());
  status = file->Read(index->checksums.data(), checksums_bytes);
  if (!status.ok()) return status;
  for (int64_t i = 0; i < segments.size(); ++i) {
    index->segments.push_back(segments[i]);
  }
  return CheckCrc(*file, "segments' checksums", header.checksums_crc,
                  Crc32(index->checksums.data(), checksums_bytes));
}

// Adds the names of the files that an index names.
Status AddNames(const std::string& path, std::set<std::string>* names) {
  InputFile file;
  Index index;
  Status status = file.Open(path);
  if (status.ok()) status = ReadHeader(kIndexMagic, &file, &index.header);
  if (status.ok()) status = ReadSegmentList(&file, &index);
  if (!status.ok()) return status;
  for (size_t i = 0; i < index.segments.size(); ++i) {
    names->insert(index.segments[i].FileName(index.checksums[i]));
  }
  return {};
}

// Removes what no index in the directory names: what gave way to later saves,
// and what others left that were not completed. What cannot be removed costs
// space only, so errors are passed over; while an index cannot be read, nothing
// is removed.
void RemoveUnnamed(const std::string& directory) {
  std::error_code error;
  std::set<std::string> named;
  std::vector<std::filesystem::path> segments;
  for (std::filesystem::directory_iterator it(directory, error), end;
       !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (it->path().extension() == kIndexSuffix) {
      if (!AddNames(it->path().string(), &named).ok()) return;
    }
    const bool is_segment = name.rfind("rows-", 0) == 0 &&
                            name.find(".segment") != std::string::npos;
    if (is_segment) segments.push_back(it->path());
  }
  if (error) return;
  for (const auto& path : segments) {
    if (named.count(path.filename().string()) > 0) continue;
    std::filesystem::remove(path, error);
  }
}

Status ReadSegment(const std::string& directory, const ReplayLayout& layout,
                   int64_t capacity, const Segment& segment, uint32_t crc,
                   std::byte* rows) {
  InputFile file;
  Status status = file.Open(directory + "/" + segment.FileName(crc));
  if (!status.ok()) return status;
  status = CheckSize(file, SegmentBytes(segment, layout));
  if (!status.ok()) return status;
  SegmentHeader header;
  status = ReadHeader(kSegmentMagic, &file, &header);
  if (!status.ok()) return status;
  if (!SameLayout(header.file, layout) || header.begin != segment.begin ||
      header.end != segment.end || header.payload_crc != crc) {
    return Damaged(file, "its header disagrees with its name or the index");
  }
  uint32_t computed = 0;
  for (const Run& run : Runs(segment, layout, capacity)) {
    status = file.Read(rows + run.offset, run.bytes);
    if (!status.ok()) return status;
    computed = Crc32(rows + run.offset, run.bytes, computed);
  }
  return CheckCrc(file, "rows", crc, computed);
}

}  // namespace

Status WriteReplay(const std::string& directory, const std::string& index,
                   const ReplayLayout& layout, const ReplayState& state,
                   const std::byte* rows, SavedRows* saved) {
  Status status = MakeDirectory(directory);
  if (!status.ok()) return status;
  const int64_t rows_per_segment =
      std::max<int64_t>(1, kSegmentBytes / layout.row_bytes());
  std::vector<uint32_t> crcs;
  SavedRows now{directory, {}};
  const SegmentList segments(state, rows_per_segment);
  for (int64_t i = 0; i < segments.size(); ++i) {
    uint32_t crc;
    status = WriteSegment(directory, layout, state.capacity, segments[i], rows,
                          *saved, &crc);
    if (!status.ok()) return status;
    crcs.push_back(crc);
    now.checksums[segments[i]] = crc;
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
  // replaces an earlier save of that name by this one, at once.
  status = WriteFile(directory, index + kIndexSuffix,
                     {{&header, sizeof(header)}, {crcs.data(), crcs_bytes}});
  if (!status.ok()) return status;
  status = SyncDirectory(directory);
  if (!status.ok()) return status;
  *saved = std::move(now);
  RemoveUnnamed(directory);
  return {};
}

Status ReadReplay(const std::string& directory, const std::string& index,
                  const ReplayLayout& layout, ReplayState* state,
                  std::byte* rows, SavedRows* saved) {
  InputFile file;
  Index found;
  Status status = file.Open(directory + "/" + index + kIndexSuffix);
  if (status.ok()) status = ReadHeader(kIndexMagic, &file, &found.header);
  if (status.ok()) {
    status = CheckLayout(file, found.header, layout, state->capacity);
  }
  if (status.ok()) status = ReadSegmentList(&file, &found);
  if (!status.ok()) return status;
  *state = State(found.header);
  *saved = {directory, {}};
  for (size_t i = 0; i < found.segments.size(); ++i) {
    const Segment& segment = found.segments[i];
    status = ReadSegment(directory, layout, state->capacity, segment,
                         found.checksums[i], rows);
    if (!status.ok()) return status;
    saved->checksums[segment] = found.checksums[i];
  }
  return {};
}

}  // namespace tfsac
