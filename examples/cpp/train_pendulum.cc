// Learns to swing up a pendulum, without Python.
//
//   train_pendulum MODEL [--steps N] [--seed S] [--threshold RETURN]
//                  [--restore PATH] [--save PATH]
//
// MODEL is what `agent.export(..., format="trainable")` wrote for an agent on
// Pendulum-v1. Prints a line of CSV for each evaluation, over 50 episodes that
// always start alike. It ends when their mean return reaches the threshold, or
// after N steps; then what it learned is saved for `tfsac.load`, and
// `--restore` goes on from there. The exit code is 1 if the threshold was not
// reached.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "pendulum.h"
#include "replay.h"
#include "saved_model.h"

namespace {

constexpr int kRandomSteps = 1000;  // before the first update
constexpr int kTrainEvery = 5;      // steps between calls, and updates in one
constexpr int kEvaluateEvery = 500;
constexpr int kEpisodes = 50;  // of an evaluation

using tensorflow::Tensor;

struct Options {
  std::string model, save, restore;
  int steps = 20000;
  std::uint32_t seed = 0;
  double threshold = std::numeric_limits<double>::infinity();
};

Options Parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument.rfind("--", 0) != 0 && options.model.empty()) {
      options.model = argument;
      continue;
    }
    if (++i == argc) throw std::runtime_error("No value for " + argument);
    const std::string value = argv[i];
    if (argument == "--steps") {
      options.steps = std::stoi(value);
    } else if (argument == "--seed") {
      options.seed = std::stoul(value);
    } else if (argument == "--threshold") {
      options.threshold = std::stod(value);
    } else if (argument == "--restore") {
      options.restore = value;
    } else if (argument == "--save") {
      options.save = value;
    } else {
      throw std::runtime_error("Unknown option " + argument);
    }
  }
  if (options.model.empty()) throw std::runtime_error("No MODEL given");
  return options;
}

Tensor Rows(const std::vector<Pendulum>& pendulums) {
  const std::int64_t count = pendulums.size();
  Tensor rows(tensorflow::DT_FLOAT, {count, 3});
  for (std::int64_t i = 0; i < count; ++i) {
    const auto observation = pendulums[i].Observe();
    std::copy(observation.begin(), observation.end(),
              &rows.matrix<float>()(i, 0));
  }
  return rows;
}

Tensor Path(const std::string& path) {
  Tensor tensor(tensorflow::DT_STRING, {});
  tensor.scalar<tensorflow::tstring>()() = path;
  return tensor;
}

// An action to learn from: random at first, then drawn from the policy.
float Explore(const SavedModel& model, const Pendulum& pendulum, bool is_random,
              std::int64_t seed, std::int64_t step, std::mt19937& generator) {
  if (is_random) {
    constexpr float kMax = Pendulum::kMaxTorque;
    return std::uniform_real_distribution<float>(-kMax, kMax)(generator);
  }
  Tensor seeds(tensorflow::DT_INT64, {2});
  seeds.flat<std::int64_t>()(0) = seed;
  seeds.flat<std::int64_t>()(1) = step;
  const auto outputs = model.Call(
      "sample", {{"observations", Rows({pendulum})}, {"seed", seeds}});
  return outputs.at("actions").flat<float>()(0);
}

// The mean return of episodes that start alike in each call.
double Evaluate(const SavedModel& model) {
  std::mt19937 generator(0);
  std::vector<Pendulum> pendulums(kEpisodes);
  for (auto& pendulum : pendulums) pendulum.Reset(generator);
  double total = 0;
  for (int t = 0; t < Pendulum::kEpisodeSteps; ++t) {
    const auto outputs = model.Call("act", {{"observations", Rows(pendulums)}});
    const auto actions = outputs.at("actions").flat<float>();
    for (int i = 0; i < kEpisodes; ++i) total += pendulums[i].Step(actions(i));
  }
  return total / kEpisodes;
}

// Returns whether the threshold was reached.
bool Learn(const SavedModel& model, const Options& options) {
  // K is free, so that its size is -1; B is the agent's.
  const auto batch_size = model.InputShape("train", "reward").at(1);
  std::mt19937 generator(options.seed);
  Replay replay(100000);
  Pendulum pendulum;
  pendulum.Reset(generator);
  SavedModel::Tensors metrics;
  const int random_steps = options.restore.empty() ? kRandomSteps : 0;
  std::cout << "env_steps,return_mean,critic_loss,alpha" << std::endl;
  for (int step = 1; step <= options.steps; ++step) {
    Transition transition;
    const auto observation = pendulum.Observe();
    transition.observation.assign(observation.begin(), observation.end());
    const float torque = Explore(model, pendulum, step <= random_steps,
                                 options.seed, step, generator);
    transition.action = {torque};
    transition.reward = pendulum.Step(torque);
    const auto next = pendulum.Observe();
    transition.next_observation.assign(next.begin(), next.end());
    transition.terminated = false;  // a pendulum never ends
    replay.Insert(std::move(transition));
    if (step % Pendulum::kEpisodeSteps == 0) pendulum.Reset(generator);

    if (step >= kRandomSteps && step % kTrainEvery == 0) {
      metrics = model.Call("train",
                           replay.Sample(kTrainEvery, batch_size, generator));
    }
    if (!metrics.empty() && step % kEvaluateEvery == 0) {
      const double mean = Evaluate(model);
      std::cout << step << "," << mean << ","
                << metrics.at("critic_loss").scalar<float>()() << ","
                << metrics.at("alpha").scalar<float>()() << std::endl;
      if (mean >= options.threshold) return true;
    }
  }
  return options.threshold == std::numeric_limits<double>::infinity();
}

}  // namespace

int main(int argc, char** argv) try {
  const Options options = Parse(argc, argv);
  const SavedModel model(options.model);
  if (!options.restore.empty()) {
    model.Call("restore", {{"path", Path(options.restore)}});
  }
  const bool reached = Learn(model, options);
  if (!options.save.empty()) model.Call("save", {{"path", Path(options.save)}});
  return reached ? EXIT_SUCCESS : EXIT_FAILURE;
} catch (const std::exception& error) {
  std::cerr << "train_pendulum: " << error.what() << "\n";
  return 2;
}
