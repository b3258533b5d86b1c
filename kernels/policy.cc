#include "policy.h"

#include <cmath>
#include <limits>
#include <memory>

namespace tfsac {
namespace {

// No network of ordinary weights overflows within it.
constexpr float kLargestObservation = 1e12f;

// NaN stays NaN.
float Clip(float value, float low, float high) {
  return value < low ? low : value > high ? high : value;
}

// The mean and log std of one row become an action.
void Squash(const float* gaussian, const float* noise,
            const PolicyBounds& bounds, bool is_nan, float* action) {
  const int64_t size = bounds.low.size();
  for (int64_t i = 0; i < size; ++i) {
    float value = gaussian[i];
    if (noise) {
      const float log_std =
          Clip(gaussian[size + i], bounds.log_std_min, bounds.log_std_max);
      value += std::exp(log_std) * noise[i];
    }
    // Halved before adding: high - low may overflow.
    const float low = bounds.low[i], high = bounds.high[i];
    const float centre = high / 2 + low / 2, half_range = high / 2 - low / 2;
    action[i] = is_nan
                    ? std::numeric_limits<float>::quiet_NaN()
                    : Clip(centre + half_range * std::tanh(value), low, high);
  }
}

}  // namespace

void Act(const Rows& rows, Activation activation,
         const std::vector<Mlp::Layer>& layers, const PolicyBounds& bounds,
         const Seed* seed, const Workers& workers, const Simd& simd,
         float* actions) {
  const int64_t size = bounds.low.size();
  int64_t width = rows.width + (seed ? size : 0);
  for (const Mlp::Layer& layer : layers) width += layer.width;
  const std::unique_ptr<float[]> memory(new float[rows.batch * width]);

  float* const observations = memory.get();
  float* free = observations + rows.batch * rows.width;
  std::unique_ptr<bool[]> is_nan(new bool[rows.batch]());
  for (int64_t i = 0; i < rows.batch * rows.width; ++i) {
    const float value = rows.floats ? rows.floats[i] : rows.bytes[i];
    observations[i] = Clip(value, -kLargestObservation, kLargestObservation);
    if (std::isnan(value)) is_nan[i / rows.width] = true;
  }
  std::vector<float*> outputs;
  for (const Mlp::Layer& layer : layers) {
    outputs.push_back(free);
    free += rows.batch * layer.width;
  }
  const Mlp mlp{
      activation, 1, rows.batch, {{observations, rows.width}}, layers};
  MlpForward(mlp, outputs, workers, simd);
  if (seed) StandardNormal(*seed, rows.batch * size, free);
  for (int64_t row = 0; row < rows.batch; ++row) {
    Squash(outputs.back() + row * 2 * size, seed ? free + row * size : nullptr,
           bounds, is_nan[row], actions + row * size);
  }
}

}  // namespace tfsac
