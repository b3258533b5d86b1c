// Calls an exported policy from several threads at once: all must return what
// one thread alone returns, and allocate nothing after their first call.

#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <thread>
#include <vector>

#include "policy.h"

namespace {

constexpr int kThreads = 4, kRows = 500, kRounds = 20;

thread_local int allocations = 0;
std::atomic<int> failures{0};

using Result = std::array<float, 2 * POLICY_ACTION_SIZE + 1>;

Result Call(int row) {
  float observation[POLICY_OBSERVATION_SIZE];
  for (int i = 0; i < POLICY_OBSERVATION_SIZE; ++i) {
    observation[i] = 0.01f * row - i;
  }
  const std::int64_t seed[2] = {row, -row};
  Result result{};
  float* action = result.data();
  if (policy_act(observation, action) != 0 ||
      policy_sample(observation, seed, action + POLICY_ACTION_SIZE,
                    action + 2 * POLICY_ACTION_SIZE) != 0) {
    ++failures;
  }
  return result;
}

void Compare(const std::vector<Result>& expected) {
  Call(0);
  const int before = allocations;
  for (int round = 0; round < kRounds; ++round) {
    for (int row = 0; row < kRows; ++row) {
      if (Call(row) != expected[row]) ++failures;
    }
  }
  if (allocations != before) ++failures;
}

}  // namespace

// GCC inlines `delete` and not `new`, and takes the two for a mismatch.
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"

void* operator new(std::size_t size) {
  ++allocations;
  void* memory = std::malloc(size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
void* operator new(std::size_t size, std::align_val_t alignment) {
  ++allocations;
  const auto unit = static_cast<std::size_t>(alignment);
  void* memory = std::aligned_alloc(unit, (size + unit - 1) / unit * unit);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept {
  std::free(memory);
}

int main() {
  std::vector<Result> expected;
  for (int row = 0; row < kRows; ++row) expected.push_back(Call(row));
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) threads.emplace_back(Compare, expected);
  for (auto& thread : threads) thread.join();
  std::puts(failures == 0 && allocations > 0 ? "ok" : "failed");
  return 0;
}
