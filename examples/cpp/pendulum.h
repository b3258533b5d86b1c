// A pendulum to swing up and balance, the task of Gymnasium's Pendulum-v1.

#ifndef TFSAC_EXAMPLES_PENDULUM_H_
#define TFSAC_EXAMPLES_PENDULUM_H_

#include <algorithm>
#include <array>
#include <cmath>
#include <random>

class Pendulum {
 public:
  static constexpr int kEpisodeSteps = 200;  // a time limit, not an end
  static constexpr float kMaxTorque = 2;     // N m

  using Observation = std::array<float, 3>;  // cos, sin, rad/s

  // Starts anywhere, at a low speed.
  template <typename Generator>
  void Reset(Generator& generator) {
    angle_ = std::uniform_real_distribution<double>(-kPi, kPi)(generator);
    speed_ = std::uniform_real_distribution<double>(-1, 1)(generator);
  }

  // Applies a torque for a step, and returns the reward.
  double Step(double torque) {
    torque = std::clamp<double>(torque, -kMaxTorque, kMaxTorque);
    const double off = std::remainder(angle_, 2 * kPi);  // from upright
    const double cost =
        off * off + 0.1 * speed_ * speed_ + 0.001 * torque * torque;
    const double acceleration = 1.5 * kGravity / kLength * std::sin(angle_) +
                                3 / (kMass * kLength * kLength) * torque;
    speed_ =
        std::clamp(speed_ + acceleration * kSeconds, -kMaxSpeed, kMaxSpeed);
    angle_ += speed_ * kSeconds;
    return -cost;
  }

  Observation Observe() const {
    return {static_cast<float>(std::cos(angle_)),
            static_cast<float>(std::sin(angle_)), static_cast<float>(speed_)};
  }

 private:
  static constexpr double kPi = 3.14159265358979323846;
  static constexpr double kGravity = 10, kMass = 1, kLength = 1;
  static constexpr double kSeconds = 0.05, kMaxSpeed = 8;

  double angle_ = kPi;  // rad, 0 upright
  double speed_ = 0;    // rad/s
};

#endif  // TFSAC_EXAMPLES_PENDULUM_H_
