// Tests of the policy's core, without TensorFlow; README.md says how to run
// them. tests/kernel_policy_test.py compares it with the policy in Python.

#include "policy.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <random>
#include <vector>

#include "expect.h"

namespace tfsac {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// As tests/noise_test.py has recorded it.
void TestNoiseIsThatOfPython() {
  constexpr float kGolden[] = {-0.03310244f, 0.3428228f, -0.3468783f,
                               -1.064948f, 0.4715367f};
  float normals[5];
  StandardNormal({3, 4}, 5, normals);
  for (int i = 0; i < 5; ++i) EXPECT(std::abs(normals[i] - kGolden[i]) < 1e-6f);
}

void TestNoiseIsNormalAndFinite() {
  constexpr int64_t kCount = 1'000'001;
  std::vector<float> normals(kCount);
  StandardNormal({1, 2}, kCount, normals.data());
  double sum = 0, squares = 0;
  for (const float normal : normals) {
    EXPECT(std::isfinite(normal));
    sum += normal;
    squares += double{normal} * normal;
  }
  EXPECT(std::abs(sum / kCount) < 0.005);
  EXPECT(std::abs(squares / kCount - 1) < 0.0071);
}

// Two layers with weights of their own.
struct Network {
  Network(int64_t in, int64_t hidden, int64_t actions)
      : in(in),
        hidden(hidden),
        out(2 * actions),
        weights(in * hidden + hidden + hidden * out + out) {
    std::mt19937 random(0);
    std::normal_distribution<float> normal(0, 0.3f);
    for (float& weight : weights) weight = normal(random);
  }

  const float* kernel(int layer) const {
    return weights.data() + (layer ? in * hidden + hidden : 0);
  }
  const float* bias(int layer) const {
    return kernel(layer) + (layer ? hidden * out : in * hidden);
  }
  std::vector<Mlp::Layer> layers() const {
    return {{kernel(0), bias(0), hidden}, {kernel(1), bias(1), out}};
  }

  // What it returns for one row, in double precision.
  std::vector<double> Gaussian(const float* row) const {
    std::vector<double> x(hidden), y(out);
    for (int64_t j = 0; j < hidden; ++j) {
      x[j] = bias(0)[j];
      for (int64_t i = 0; i < in; ++i) {
        x[j] += double{row[i]} * kernel(0)[i * hidden + j];
      }
      x[j] = std::max(x[j], 0.0);
    }
    for (int64_t j = 0; j < out; ++j) {
      y[j] = bias(1)[j];
      for (int64_t i = 0; i < hidden; ++i) {
        y[j] += x[i] * kernel(1)[i * out + j];
      }
    }
    return y;
  }

  int64_t in, hidden, out;
  std::vector<float> weights;
};

const PolicyBounds kBounds{-1.0f, 0.5f, {-1, 0, 5}, {1, 10, 5.5}};

std::vector<float> ActFor(const Network& network,
                          const std::vector<float>& rows, const Seed* seed) {
  const int64_t batch = rows.size() / network.in;
  std::vector<float> actions(batch * 3);
  Act({rows.data(), nullptr, batch, network.in}, Activation::kRelu,
      network.layers(), kBounds, seed, Workers{}, BestSimd(), actions.data());
  return actions;
}

void TestAgreesWithReference() {
  const Network network(5, 40, 3);
  const Seed seed{7, 8};
  for (const int64_t batch : {0, 1, 2, 65}) {
    std::vector<float> rows(batch * 5), noise(batch * 3);
    for (size_t i = 0; i < rows.size(); ++i) rows[i] = std::sin(float(i));
    StandardNormal(seed, noise.size(), noise.data());
    const auto median = ActFor(network, rows, nullptr);
    const auto sample = ActFor(network, rows, &seed);
    for (int64_t row = 0; row < batch; ++row) {
      const auto gaussian = network.Gaussian(&rows[row * 5]);
      for (int64_t i = 0; i < 3; ++i) {
        const double log_std = std::clamp(gaussian[3 + i], -1.0, 0.5);
        const double eps = noise[row * 3 + i];
        const double low = kBounds.low[i], range = kBounds.high[i] - low;
        const auto expected = [&](double u) {
          return low + range * (std::tanh(u) + 1) / 2;
        };
        EXPECT(std::abs(median[row * 3 + i] - expected(gaussian[i])) <
               1e-5 * range / 2);
        EXPECT(std::abs(sample[row * 3 + i] -
                        expected(gaussian[i] + std::exp(log_std) * eps)) <
               1e-5 * range / 2);
      }
    }
  }
}

void TestBytesAreNumbers() {
  const Network network(4, 24, 3);
  const std::vector<uint8_t> bytes{0, 1, 127, 255, 3, 2, 1, 0};
  std::vector<float> actions(6);
  Act({nullptr, bytes.data(), 2, 4}, Activation::kRelu, network.layers(),
      kBounds, nullptr, Workers{}, BestSimd(), actions.data());
  const std::vector<float> rows(bytes.begin(), bytes.end());
  EXPECT(actions == ActFor(network, rows, nullptr));
}

void TestExtremeRows() {
  const Network network(2, 24, 3);
  const Seed seed{1, 1};
  const std::vector<float> rows{kInfinity, -kInfinity, 0, kNan, 3e38f, 1};
  for (const Seed* noise : {static_cast<const Seed*>(nullptr), &seed}) {
    const auto actions = ActFor(network, rows, noise);
    for (int64_t i = 0; i < 9; ++i) {
      if (i / 3 == 1) {
        EXPECT(std::isnan(actions[i]));
      } else {
        EXPECT(actions[i] >= kBounds.low[i % 3]);
        EXPECT(actions[i] <= kBounds.high[i % 3]);
      }
    }
  }
}

void TestWeightsThatAreNanAreSeen() {
  Network network(2, 24, 3);
  network.weights.back() = kNan;  // the bias of the last log std
  const Seed seed{1, 1};
  EXPECT(std::isnan(ActFor(network, {1, 2}, &seed)[2]));
  EXPECT(!std::isnan(ActFor(network, {1, 2}, &seed)[1]));
}

}  // namespace
}  // namespace tfsac

int main() {
  using namespace tfsac;
  TestNoiseIsThatOfPython();
  TestNoiseIsNormalAndFinite();
  TestAgreesWithReference();
  TestBytesAreNumbers();
  TestExtremeRows();
  TestWeightsThatAreNanAreSeen();
  std::printf("passed\n");
}
