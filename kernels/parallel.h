#ifndef TFSAC_KERNELS_PARALLEL_H_
#define TFSAC_KERNELS_PARALLEL_H_

#include <cstdint>
#include <functional>
#include <vector>

namespace tfsac {

// Threads that may help the caller. They are TensorFlow's: a pool of our own
// would fight with it for the cores.
struct Workers {
  int threads = 1;  // the caller's included
  std::function<void(std::function<void()>)> schedule;
};

// Work in `shards` pieces, in any order and at once.
struct Phase {
  int64_t shards;
  std::function<void(int64_t)> work;
};

// Runs the phases one after the other, each on all threads. The caller takes
// part, and never waits for work that nobody has begun: a helper that comes
// late, or not at all since its thread is busy, costs no more than its help.
void RunPhases(const Workers& workers, std::vector<Phase> phases);

}  // namespace tfsac

#endif  // TFSAC_KERNELS_PARALLEL_H_
