#include "replay_buffer.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "philox.h"
#include "replay_file.h"

namespace tfsac {
namespace {

// Rows are read in random order, so each would wait for memory: asking for a
// row this many copies early hides the wait. The hardware follows a long row
// by itself once its first lines have come.
constexpr int64_t kPrefetchRows = 8;
constexpr int64_t kPrefetchBytes = 512;
constexpr int64_t kCacheLine = 64;

// Indices drawn at a time: on the stack, however large the sample is.
constexpr int64_t kChunk = 256;

void PrefetchRow(const std::byte* row, int64_t bytes) {
  for (int64_t offset = 0; offset < std::min(bytes, kPrefetchBytes);
       offset += kCacheLine) {
    __builtin_prefetch(row + offset);
  }
}

// Slots of the draws [first, first + count), count <= kChunk.
void DrawSlots(uint64_t seed, uint64_t first, int64_t count, int64_t size,
               int64_t* slots) {
  int64_t i = 0;
  if (first % 2 == 1) {
    slots[i++] = UniformIndex(PhiloxWords(seed, first / 2)[1], size);
  }
  for (; i < count; i += 2) {
    const auto words = PhiloxWords(seed, (first + i) / 2);
    slots[i] = UniformIndex(words[0], size);
    if (i + 1 < count) slots[i + 1] = UniformIndex(words[1], size);
  }
}

}  // namespace

Status RowStorage::Map(int64_t bytes, std::unique_ptr<RowStorage>* storage) {
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) {
    return {Code::kResourceExhausted,
            "the system refuses an address range of " + std::to_string(bytes) +
                " bytes (" + std::strerror(errno) + "); lower the capacity"};
  }
#ifdef MADV_HUGEPAGE
  // Fewer address translations for random rows; refusal costs only speed.
  (void)madvise(data, bytes, MADV_HUGEPAGE);
#endif
  storage->reset(new RowStorage(static_cast<std::byte*>(data), bytes));
  return {};
}

RowStorage::~RowStorage() { munmap(data_, bytes_); }

Status ReplayBuffer::Create(const ReplayLayout& layout, int64_t capacity,
                            uint64_t seed,
                            std::unique_ptr<ReplayBuffer>* buffer) {
  if (Status status = layout.Validate(); !status.ok()) return status;
  int64_t bytes;
  if (capacity < 1 ||
      __builtin_mul_overflow(capacity, layout.row_bytes(), &bytes)) {
    return {Code::kInvalidArgument,
            "capacity: expected at least 1 row and less than 2^63 bytes, "
            "received " +
                std::to_string(capacity) + " rows of " +
                std::to_string(layout.row_bytes()) + " bytes"};
  }
  std::unique_ptr<RowStorage> rows;
  if (Status status = RowStorage::Map(bytes, &rows); !status.ok()) {
    return status;
  }
  buffer->reset(new ReplayBuffer(layout, capacity, seed, std::move(rows)));
  return {};
}

void ReplayBuffer::WriteRow(std::byte* row, int64_t i,
                            const TransitionSource& source) {
  const int64_t observation_bytes = layout_.observation_bytes();
  const int64_t observation_start = i * observation_bytes;
  std::memcpy(row, source.action + i * layout_.action_size,
              layout_.action_bytes());
  std::memcpy(row + layout_.reward_offset(), source.reward + i, 4);
  std::memcpy(row + layout_.env_index_offset(), source.env_index + i, 4);
  std::memcpy(
      row + layout_.observation_offset(),
      static_cast<const std::byte*>(source.observation) + observation_start,
      observation_bytes);
  std::memcpy(row + layout_.next_observation_offset(),
              static_cast<const std::byte*>(source.next_observation) +
                  observation_start,
              observation_bytes);
  row[layout_.terminated_offset()] = std::byte{source.terminated[i]};
  row[layout_.truncated_offset()] = std::byte{source.truncated[i]};
}

void ReplayBuffer::Insert(int64_t count, const TransitionSource& source) {
  std::lock_guard<std::mutex> lock(mutex_);
  // Of more rows than the ring holds, only the last would survive.
  const int64_t first = std::max<int64_t>(0, count - capacity_);
  int64_t slot = (inserted_ + first) % capacity_;
  for (int64_t i = first; i < count; ++i) {
    WriteRow(Row(slot), i, source);
    if (++slot == capacity_) slot = 0;
  }
  inserted_ += count;
}

Status ReplayBuffer::Sample(int64_t count, const TransitionSink& sink,
                            const ParallelFor& parallel_for) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (inserted_ == 0) {
    return {Code::kInvalidArgument,
            "cannot sample from an empty replay buffer; insert transitions "
            "first"};
  }
  parallel_for(count,
               [&](int64_t begin, int64_t end) { Gather(begin, end, sink); });
  drawn_ += count;
  return {};
}

void ReplayBuffer::Gather(int64_t begin, int64_t end,
                          const TransitionSink& sink) const {
  const int64_t row_bytes = layout_.row_bytes();
  const int64_t action_bytes = layout_.action_bytes();
  const int64_t observation_bytes = layout_.observation_bytes();
  auto* observation = static_cast<std::byte*>(sink.observation);
  auto* next_observation = static_cast<std::byte*>(sink.next_observation);
  int64_t slots[kChunk];
  for (int64_t start = begin; start < end; start += kChunk) {
    const int64_t count = std::min(kChunk, end - start);
    DrawSlots(seed_, drawn_ + start, count, Size(), slots);
    for (int64_t j = 0; j < std::min(kPrefetchRows, count); ++j) {
      PrefetchRow(Row(slots[j]), row_bytes);
    }
    for (int64_t j = 0; j < count; ++j) {
      if (j + kPrefetchRows < count) {
        PrefetchRow(Row(slots[j + kPrefetchRows]), row_bytes);
      }
      const std::byte* row = Row(slots[j]);
      const int64_t i = start + j;
      std::memcpy(sink.action + i * layout_.action_size, row, action_bytes);
      std::memcpy(sink.reward + i, row + layout_.reward_offset(), 4);
      std::memcpy(sink.env_index + i, row + layout_.env_index_offset(), 4);
      std::memcpy(observation + i * observation_bytes,
                  row + layout_.observation_offset(), observation_bytes);
      std::memcpy(next_observation + i * observation_bytes,
                  row + layout_.next_observation_offset(), observation_bytes);
      sink.terminated[i] = row[layout_.terminated_offset()] != std::byte{0};
      sink.truncated[i] = row[layout_.truncated_offset()] != std::byte{0};
    }
  }
}

void ReplayBuffer::Count(int64_t* size, int64_t* inserted) const {
  std::lock_guard<std::mutex> lock(mutex_);
  *size = Size();
  *inserted = inserted_;
}

int64_t ReplayBuffer::MemoryUsed() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return Size() * layout_.row_bytes();
}

Status ReplayBuffer::Save(const std::string& directory,
                          const std::string& index) {
  std::lock_guard<std::mutex> lock(mutex_);
  const ReplayState state{capacity_, inserted_, seed_, drawn_};
  return WriteReplay(directory, index, layout_, state, rows_->data(), &saved_);
}

Status ReplayBuffer::Restore(const std::string& directory,
                             const std::string& index) {
  std::unique_ptr<RowStorage> rows;
  Status status = RowStorage::Map(capacity_ * layout_.row_bytes(), &rows);
  if (!status.ok()) return status;
  ReplayState state{capacity_, 0, 0, 0};
  SavedRows saved;
  status = ReadReplay(directory, index, layout_, &state, rows->data(), &saved);
  if (!status.ok()) return status;
  std::lock_guard<std::mutex> lock(mutex_);
  seed_ = state.seed;
  drawn_ = state.drawn;
  inserted_ = state.inserted;
  saved_ = std::move(saved);
  rows_.swap(rows);  // the old rows are unmapped after the lock is released
  return {};
}

}  // namespace tfsac
