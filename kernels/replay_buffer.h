#ifndef TFSAC_KERNELS_REPLAY_BUFFER_H_
#define TFSAC_KERNELS_REPLAY_BUFFER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "replay_file.h"
#include "replay_layout.h"
#include "status.h"

namespace tfsac {

// Columns of `count` transitions to insert. Row-major; observations are
// float or uint8_t, as the layout says.
struct TransitionSource {
  const void* observation;
  const float* action;
  const float* reward;
  const void* next_observation;
  const bool* terminated;
  const bool* truncated;
  const int32_t* env_index;
};

// The same columns, to be filled by a sample.
struct TransitionSink {
  void* observation;
  float* action;
  float* reward;
  void* next_observation;
  bool* terminated;
  bool* truncated;
  int32_t* env_index;
};

// Zeroed memory that the system hands out page by page when a row is first
// written: a buffer of a million transitions costs what it holds.
class RowStorage {
 public:
  static Status Map(int64_t bytes, std::unique_ptr<RowStorage>* storage);
  ~RowStorage();
  RowStorage(const RowStorage&) = delete;
  RowStorage& operator=(const RowStorage&) = delete;

  std::byte* data() const { return data_; }

 private:
  RowStorage(std::byte* data, size_t bytes) : data_(data), bytes_(bytes) {}

  std::byte* const data_;
  const size_t bytes_;
};

// A ring of the last `capacity` transitions, sampled uniformly.
//
// Rows are numbered from 0 in the order of insertion; row i lies in slot
// i % capacity. Draw j, counted over the buffer's life, reads slot
// UniformIndex(word j of the seed's Philox stream, size): what is sampled is a
// function of the seed, the number of draws before and the size, and a sample
// of K * B equals K samples of B.
//
// Thread safety: every public method may be called from any thread at any
// time. One mutex orders them, so that a sample never sees a row that is half
// written, and each call acts on the state that the call before it left.
// Save holds the mutex until the files are written; Restore reads and checks
// the files without it and takes it to swap the content in.
class ReplayBuffer {
 public:
  // Calls work(begin, end) on ranges that together cover [0, n) once, in any
  // order and from any thread, and returns when all have returned.
  using ParallelFor = std::function<void(
      int64_t n, const std::function<void(int64_t, int64_t)>&)>;

  // InvalidArgument: a size that is not positive, or more bytes than an
  // address can count. ResourceExhausted: the system refuses the range.
  static Status Create(const ReplayLayout& layout, int64_t capacity,
                       uint64_t seed, std::unique_ptr<ReplayBuffer>* buffer);

  // Appends `count` >= 0 transitions in order. O(count).
  void Insert(int64_t count, const TransitionSource& source);

  // Draws `count` transitions with replacement. O(count).
  // InvalidArgument: the buffer is empty.
  Status Sample(int64_t count, const TransitionSink& sink,
                const ParallelFor& parallel_for);

  // The number of transitions held, and the number ever inserted.
  void Count(int64_t* size, int64_t* inserted) const;

  // Writes content, counters and generator to a directory, under the name
  // `index`; the format is in README.md. Rows that an earlier Save or Restore
  // left there are not written again. A crash at any point leaves what was
  // saved there before.
  Status Save(const std::string& directory, const std::string& index);

  // Replaces content, counters and generator (its seed too) by what Save
  // wrote. On any error the buffer is as it was.
  Status Restore(const std::string& directory, const std::string& index);

  const ReplayLayout& layout() const { return layout_; }
  int64_t capacity() const { return capacity_; }

  // Bytes of the rows written so far.
  int64_t MemoryUsed() const;

 private:
  ReplayBuffer(const ReplayLayout& layout, int64_t capacity, uint64_t seed,
               std::unique_ptr<RowStorage> rows)
      : layout_(layout),
        capacity_(capacity),
        seed_(seed),
        rows_(std::move(rows)) {}

  int64_t Size() const { return inserted_ < capacity_ ? inserted_ : capacity_; }
  std::byte* Row(int64_t slot) const {
    return rows_->data() + slot * layout_.row_bytes();
  }
  void WriteRow(std::byte* row, int64_t i, const TransitionSource& source);
  void Gather(int64_t begin, int64_t end, const TransitionSink& sink) const;

  const ReplayLayout layout_;
  const int64_t capacity_;

  mutable std::mutex mutex_;  // guards everything below
  uint64_t seed_;
  uint64_t drawn_ = 0;    // draws over the buffer's life
  int64_t inserted_ = 0;  // rows ever inserted
  std::unique_ptr<RowStorage> rows_;
  SavedRows saved_;
};

}  // namespace tfsac

#endif  // TFSAC_KERNELS_REPLAY_BUFFER_H_
