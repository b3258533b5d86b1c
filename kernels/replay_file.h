#ifndef TFSAC_KERNELS_REPLAY_FILE_H_
#define TFSAC_KERNELS_REPLAY_FILE_H_

#include <cstddef>
#include <cstdint>
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

// Writes the ring `rows` and `state` to `directory`, which is made where it is
// missing. The format is in README.md. Files of an earlier save that this one
// does not need are removed after this one is complete on the disk.
Status WriteReplay(const std::string& directory, const ReplayLayout& layout,
                   const ReplayState& state, const std::byte* rows);

// Reads what WriteReplay wrote into the zeroed ring `rows` and into `state`,
// whose capacity says what is expected. On an error, which names the file,
// both may be half filled.
Status ReadReplay(const std::string& directory, const ReplayLayout& layout,
                  ReplayState* state, std::byte* rows);

}  // namespace tfsac

#endif  // TFSAC_KERNELS_REPLAY_FILE_H_
