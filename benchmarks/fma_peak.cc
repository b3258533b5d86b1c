// Prints the GFLOP/s that this CPU's fused multiply-adds reach on so many
// threads: the ceiling of everything that consists of matrix products.
//
//   g++ -O3 -march=native -pthread fma_peak.cc -o fma_peak && ./fma_peak 2

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif
typedef float Vector __attribute__((vector_size(4 * kLanes)));

// Chains enough to hide the latency of one: two units, four cycles each.
constexpr int kChains = 12;
constexpr long kRounds = 1000000;

float Work() {
  Vector sums[kChains];
  for (int i = 0; i < kChains; ++i)
    sums[i] = Vector{} + (2.0f + i);  // all differ
  Vector a = Vector{} + 0.999f, b = Vector{} + 0.001f;
  for (long round = 0; round < kRounds; ++round) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) sums[i] = sums[i] * a + b;
  }
  float total = 0;
  for (const Vector& sum : sums) total += sum[0];
  return total;
}

int main(int argc, char** argv) {
  const int count = argc > 1 ? std::atoi(argv[1]) : 1;
  double best = 0;
  for (int repeat = 0; repeat < 200; ++repeat) {
    const auto start = std::chrono::steady_clock::now();
    std::vector<float> totals(count);
    std::vector<std::thread> threads;
    for (float& total : totals) {
      threads.emplace_back([&total] { total = Work(); });
    }
    for (std::thread& thread : threads) thread.join();
    const std::chrono::duration<double> seconds =
        std::chrono::steady_clock::now() - start;
    const double flops = 2.0 * kLanes * kChains * kRounds * count;
    if (flops / seconds.count() > best) best = flops / seconds.count();
  }
  std::printf("%.1f\n", best / 1e9);
}
