#include "normal.h"

#include <cmath>

#include "philox.h"

namespace tfsac {
namespace {

// TensorFlow's stateless generator of 32-bit words: of both halves of the seed
// it makes a key and the upper half of a counter, as
// StatelessRandomGetKeyCounter does, and the lower half counts blocks of four
// words.
class Words {
 public:
  explicit Words(const Seed& seed) {
    const auto mix = Philox4x32(
        {static_cast<uint32_t>(seed[0]), static_cast<uint32_t>(seed[0] >> 32),
         static_cast<uint32_t>(seed[1]), static_cast<uint32_t>(seed[1] >> 32)},
        {0x3ec8f720, 0x02461e29});
    key_ = {mix[0], mix[1]};
    upper_ = {mix[2], mix[3]};
  }

  // The words of a stream are asked for one after the other, as a rule.
  uint32_t operator[](uint64_t i) {
    if (i / 4 != block_) {
      block_ = i / 4;
      words_ = Philox4x32(
          {static_cast<uint32_t>(block_), static_cast<uint32_t>(block_ >> 32),
           upper_[0], upper_[1]},
          key_);
    }
    return words_[i % 4];
  }

 private:
  std::array<uint32_t, 2> key_, upper_;
  uint64_t block_ = ~uint64_t{0};
  std::array<uint32_t, 4> words_;
};

}  // namespace

void StandardNormal(const Seed& seed, int64_t count, float* normals) {
  const int64_t pairs = (count + 1) / 2;
  Words first(seed), second(seed);
  for (int64_t i = 0; i < pairs; ++i) {
    constexpr float kUlp = 0x1p-24f;
    const float u = (static_cast<float>(first[i] >> 8) + 1.0f) * kUlp;
    const float v =
        (static_cast<float>(second[pairs + i] >> 8) - 0x1p23f) * kUlp;
    const float radius = std::sqrt(-2.0f * std::log(u));
    // In double precision, since a float's last digit is large in an angle.
    const double angle = 6.283185307179586 * v;
    normals[i] = radius * static_cast<float>(std::cos(angle));
    if (pairs + i < count) {
      normals[pairs + i] = radius * static_cast<float>(std::sin(angle));
    }
  }
}

}  // namespace tfsac
