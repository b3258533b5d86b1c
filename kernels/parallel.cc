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
// core: some 150 us, a few times what a shard takes. To wake a thread takes
// about as long as a shard, on virtual machines above all.
constexpr int kSpins = 4000;

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

// The shards of a phase that nobody has claimed, as one atomic word: those from
// `front` to before `back`.
struct Unclaimed {
  uint64_t word() const {
    return uint64_t{phase} << 48 | uint64_t{front} << 24 | back;
  }
  static Unclaimed Of(uint64_t word) {
    return {static_cast<uint32_t>(word >> 48),
            static_cast<uint32_t>(word >> 24 & kMaxShards),
            static_cast<uint32_t>(word & kMaxShards)};
  }
  static constexpr uint64_t kMaxShards = (1 << 24) - 1;

  uint32_t phase, front, back;
};

// The phases of one call, shared by the caller and its helpers. A helper may
// outlive the call; it then finds nothing to claim.
class Job {
 public:
  explicit Job(std::vector<Phase> phases) : phases_(std::move(phases)) {}

  // The caller's part, for phase after phase.
  void Lead(const std::shared_ptr<Job>& self, const Workers& workers) {
    for (uint32_t phase = 0; phase < phases_.size(); ++phase) {
      const int64_t shards = phases_[phase].shards;
      done_.store(0, std::memory_order_relaxed);
      unclaimed_.store(
          Unclaimed{phase, 0, static_cast<uint32_t>(shards)}.word(),
          std::memory_order_release);
      const int64_t wanted = std::min<int64_t>(workers.threads, shards) - 1;
      for (int64_t i = helpers_.load(); i < wanted; ++i) {
        helpers_.fetch_add(1);
        workers.schedule([self] { self->Help(); });
      }
      while (WorkOnOne(/*from_front=*/true)) {
      }
      AwaitShards(shards);
    }
    unclaimed_.store(End().word(), std::memory_order_release);
  }

 private:
  Unclaimed End() const {
    return {static_cast<uint32_t>(phases_.size()), 0, 0};
  }

  void Help() {
    for (int idle = 0; idle < kSpins && !IsOver();) {
      if (WorkOnOne(/*from_front=*/false)) {
        idle = 0;
      } else {
        ++idle;
        Pause();
      }
    }
    helpers_.fetch_sub(1);
  }

  bool IsOver() const {
    return unclaimed_.load(std::memory_order_acquire) == End().word();
  }

  // Claims a shard of the current phase and works on it, if one is left. The
  // caller begins at one end and helpers at the other, so that from call to
  // call a core has much the same rows, and finds them in its cache.
  bool WorkOnOne(bool from_front) {
    uint64_t word = unclaimed_.load(std::memory_order_acquire);
    Unclaimed before, after;
    do {
      after = before = Unclaimed::Of(word);
      if (before.front == before.back) return false;
      if (from_front) {
        ++after.front;
      } else {
        --after.back;
      }
    } while (!unclaimed_.compare_exchange_weak(word, after.word(),
                                               std::memory_order_acq_rel));
    const Phase& phase = phases_[before.phase];
    phase.work(from_front ? before.front : after.back);
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
  std::atomic<uint64_t> unclaimed_{0};
  std::atomic<int64_t> done_{0};  // shards of the phase that are complete
  std::atomic<int> helpers_{0};   // scheduled, and not gone yet
  std::mutex mutex_;
  std::condition_variable all_done_;
};

}  // namespace

void RunPhases(const Workers& workers, std::vector<Phase> phases) {
  const bool fits =
      std::all_of(phases.begin(), phases.end(), [](const Phase& phase) {
        return phase.shards <= static_cast<int64_t>(Unclaimed::kMaxShards);
      });
  if (workers.threads <= 1 || !fits) {
    for (const Phase& phase : phases) {
      for (int64_t shard = 0; shard < phase.shards; ++shard) phase.work(shard);
    }
    return;
  }
  const auto job = std::make_shared<Job>(std::move(phases));
  job->Lead(job, workers);
}

}  // namespace tfsac
