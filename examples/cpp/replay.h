// The last transitions, from which batches are drawn for `train`.

#ifndef TFSAC_EXAMPLES_REPLAY_H_
#define TFSAC_EXAMPLES_REPLAY_H_

#include <algorithm>
#include <cstdint>
#include <random>
#include <utility>
#include <vector>

#include "saved_model.h"

struct Transition {
  std::vector<float> observation;
  std::vector<float> action;
  float reward;
  std::vector<float> next_observation;
  bool terminated;  // really ended: false at a time limit
};

class Replay {
 public:
  explicit Replay(std::size_t capacity) : capacity_(capacity) {}

  // Appends a transition; the oldest gives way.
  void Insert(Transition transition) {
    if (transitions_.size() < capacity_) {
      transitions_.push_back(std::move(transition));
    } else {
      transitions_[next_] = std::move(transition);
    }
    next_ = (next_ + 1) % capacity_;
  }

  // Draws K batches of B, uniformly, as `train` takes them.
  template <typename Generator>
  SavedModel::Tensors Sample(std::int64_t updates, std::int64_t batch_size,
                             Generator& generator) const {
    using tensorflow::DT_BOOL;
    using tensorflow::DT_FLOAT;
    using tensorflow::Tensor;
    const std::int64_t k = updates, b = batch_size;
    const std::int64_t o = transitions_.at(0).observation.size();
    const std::int64_t a = transitions_.at(0).action.size();
    Tensor observation(DT_FLOAT, {k, b, o}), action(DT_FLOAT, {k, b, a});
    Tensor reward(DT_FLOAT, {k, b}), next_observation(DT_FLOAT, {k, b, o});
    Tensor terminated(DT_BOOL, {k, b});
    std::uniform_int_distribution<std::size_t> any(0, transitions_.size() - 1);
    for (std::int64_t row = 0; row < k * b; ++row) {
      const Transition& drawn = transitions_[any(generator)];
      Copy(drawn.observation, row, observation);
      Copy(drawn.action, row, action);
      Copy(drawn.next_observation, row, next_observation);
      reward.flat<float>()(row) = drawn.reward;
      terminated.flat<bool>()(row) = drawn.terminated;
    }
    return {{"observation", observation},
            {"action", action},
            {"reward", reward},
            {"next_observation", next_observation},
            {"terminated", terminated}};
  }

 private:
  static void Copy(const std::vector<float>& values, std::int64_t row,
                   tensorflow::Tensor& to) {
    std::copy(values.begin(), values.end(),
              to.flat<float>().data() + row * values.size());
  }

  std::size_t capacity_;
  std::size_t next_ = 0;
  std::vector<Transition> transitions_;
};

#endif  // TFSAC_EXAMPLES_REPLAY_H_
