#ifndef TFSAC_KERNELS_REPLAY_FILE_H_
#define TFSAC_KERNELS_REPLAY_FILE_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

#include "replay_layout.h"
#include "status.h"

namespace tfsac {

// What a saved buffer holds beside its rows.
struct ReplayState {
  int64_t capacity;
  int64_t inserted;
  uint64_t seed;
  uint64_t drawn;
};

// The rows [begin, end) of a buffer's life.
struct RowRange {
  int64_t begin;
  int64_t end;

  bool operator<(const RowRange& other) const {
    return begin != other.begin ? begin < other.begin : end < other.end;
  }
};

// The rows of a buffer that lie in files already. Rows never change, so that a
// save need not write these again.
struct SavedRows {
  std::string directory;
  std::map<RowRange, uint32_t> checksums;
};

// Writes the ring `rows` and `state` to `directory`, which is made where it is
// missing, under the name of `index`; the format is in README.md. What is in
// `saved`, of this buffer, is not written again; on success `saved` is what is
// there now. Files that no index in the directory names are removed after this
// save is complete on the disk.
Status WriteReplay(const std::string& directory, const std::string& index,
                   const ReplayLayout& layout, const ReplayState& state,
                   const std::byte* rows, SavedRows* saved);

// Reads what WriteReplay wrote into the zeroed ring `rows`, into `state`, whose
// capacity says what is expected, and into `saved`. On an error, which names
// the file, they may be half filled.
Status ReadReplay(const std::string& directory, const std::string& index,
                  const ReplayLayout& layout, ReplayState* state,
                  std::byte* rows, SavedRows* saved);

}  // namespace tfsac

#endif  // TFSAC_KERNELS_REPLAY_FILE_H_
