#include "parallel.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

namespace tfsac {
namespace {

// How often a thread looks for work or for an end before it lets go of its
// core: some 20 us, about what one shard takes.
constexpr int kSpins = 400;

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

// The phases of one call, shared by the caller and its helpers. A helper may
// outlive the call; it then finds nothing to claim.
class Job {
 public:
  explicit Job(std::vector<Phase> phases) : phases_(std::move(phases)) {}

  // The caller's part, for phase after phase.
  void Lead(const std::shared_ptr<Job>& self, const Workers& workers) {
    for (uint64_t phase = 0; phase < phases_.size(); ++phase) {
      done_.store(0, std::memory_order_relaxed);
      next_.store(phase << 32, std::memory_order_release);
      const int64_t wanted =
          std::min<int64_t>(workers.threads, phases_[phase].shards) - 1;
      for (int64_t i = helpers_.load(); i < wanted; ++i) {
        helpers_.fetch_add(1);
        workers.schedule([self] { self->Help(); });
      }
      while (WorkOnOne()) {
      }
      AwaitShards(phases_[phase].shards);
    }
    next_.store(phases_.size() << 32, std::memory_order_release);
  }

 private:
  void Help() {
    for (int idle = 0; idle < kSpins && !IsOver();) {
      if (WorkOnOne()) {
        idle = 0;
      } else {
        ++idle;
        Pause();
      }
    }
    helpers_.fetch_sub(1);
  }

  bool IsOver() const {
    return next_.load(std::memory_order_acquire) >> 32 == phases_.size();
  }

  // Claims a shard of the current phase and works on it, if one is left.
  bool WorkOnOne() {
    uint64_t next = next_.load(std::memory_order_acquire);
    do {
      const uint64_t phase = next >> 32;
      const auto shard = static_cast<int64_t>(next & 0xffffffff);
      if (phase == phases_.size() || shard == phases_[phase].shards) {
        return false;
      }
    } while (!next_.compare_exchange_weak(next, next + 1,
                                          std::memory_order_acq_rel));
    const Phase& phase = phases_[next >> 32];
    phase.work(next & 0xffffffff);
    if (done_.fetch_add(1, std::memory_order_acq_rel) + 1 == phase.shards) {
      const std::lock_guard<std::mutex> lock(mutex_);
      all_done_.notify_one();
    }
    return true;
  }

  void AwaitShards(int64_t shards) {
    for (int spins = 0; spins < kSpins; ++spins) {
      if (done_.load(std::memory_order_acquire) == shards) return;
      Pause();
    }
    std::unique_lock<std::mutex> lock(mutex_);
    all_done_.wait(
        lock, [&] { return done_.load(std::memory_order_acquire) == shards; });
  }

  const std::vector<Phase> phases_;
  std::atomic<uint64_t> next_{0};  // the phase, and in 32 bits the next shard
  std::atomic<int64_t> done_{0};   // shards of the phase that are complete
  std::atomic<int> helpers_{0};    // scheduled, and not gone yet
  std::mutex mutex_;
  std::condition_variable all_done_;
};

}  // namespace

void RunPhases(const Workers& workers, std::vector<Phase> phases) {
  if (workers.threads <= 1) {
    for (const Phase& phase : phases) {
      for (int64_t shard = 0; shard < phase.shards; ++shard) phase.work(shard);
    }
    return;
  }
  const auto job = std::make_shared<Job>(std::move(phases));
  job->Lead(job, workers);
}

}  // namespace tfsac
