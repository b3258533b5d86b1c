#ifndef TFSAC_KERNELS_REPLAY_LAYOUT_H_
#define TFSAC_KERNELS_REPLAY_LAYOUT_H_

#include <cstdint>
#include <string>

#include "status.h"

namespace tfsac {

// Type of an observation's elements. The values are TensorFlow's (DT_FLOAT,
// DT_UINT8), and stand in saved files.
enum class ObservationType : uint32_t { kFloat32 = 1, kUint8 = 4 };

// Where the fields of a transition lie in its row, in memory and in files:
//
//   action float32[A] | reward float32 | env_index int32 |
//   observation [O] | next_observation [O] |
//   terminated uint8 | truncated uint8 | zeros to a multiple of 64 bytes
//
// Four-byte fields come first so that they stay aligned whatever O is, and a
// row begins on a cache line so that reading one touches no neighbour's line.
struct ReplayLayout {
  // The largest observation or action: a row stays below 2^31 bytes, which is
  // what NumPy, too, can describe.
  static constexpr int64_t kMaxSize = int64_t{1} << 27;
  static constexpr int64_t kRowAlignment = 64;

  int64_t observation_size = 0;
  int64_t action_size = 0;
  ObservationType observation_type = ObservationType::kFloat32;

  Status Validate() const;
  std::string DebugString() const;

  int64_t observation_bytes() const {
    return observation_size *
           (observation_type == ObservationType::kFloat32 ? 4 : 1);
  }
  int64_t action_bytes() const { return 4 * action_size; }
  int64_t reward_offset() const { return action_bytes(); }
  int64_t env_index_offset() const { return reward_offset() + 4; }
  int64_t observation_offset() const { return env_index_offset() + 4; }
  int64_t next_observation_offset() const {
    return observation_offset() + observation_bytes();
  }
  int64_t terminated_offset() const {
    return next_observation_offset() + observation_bytes();
  }
  int64_t truncated_offset() const { return terminated_offset() + 1; }
  int64_t row_bytes() const {
    return (truncated_offset() + kRowAlignment) / kRowAlignment * kRowAlignment;
  }
};

inline bool operator==(const ReplayLayout& a, const ReplayLayout& b) {
  return a.observation_size == b.observation_size &&
         a.action_size == b.action_size &&
         a.observation_type == b.observation_type;
}

inline Status ReplayLayout::Validate() const {
  for (const auto& [name, size] :
       {std::pair{"observation_size", observation_size},
        std::pair{"action_size", action_size}}) {
    if (size < 1 || size > kMaxSize) {
      return {Code::kInvalidArgument, std::string(name) + ": expected 1 to " +
                                          std::to_string(kMaxSize) +
                                          ", received " + std::to_string(size)};
    }
  }
  return {};
}

inline std::string ReplayLayout::DebugString() const {
  return "observation_size=" + std::to_string(observation_size) +
         ", action_size=" + std::to_string(action_size) +
         ", observation_dtype=" +
         (observation_type == ObservationType::kFloat32 ? "float32" : "uint8");
}

}  // namespace tfsac

#endif  // TFSAC_KERNELS_REPLAY_LAYOUT_H_
