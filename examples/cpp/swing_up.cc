// Swings up a pendulum with a policy that is part of the program: it needs no
// TensorFlow, no Python and no file to load.
//
//   swing_up [SEED]
//
// Prints a line of CSV for each step of an episode.

#include <cstdlib>
#include <iostream>
#include <random>
#include <string>

#include "pendulum.h"
#include "policy.h"

static_assert(POLICY_OBSERVATION_SIZE == 3 && POLICY_ACTION_SIZE == 1,
              "a policy for Pendulum-v1");

int main(int argc, char** argv) {
  std::mt19937 generator(argc > 1 ? std::stoul(argv[1]) : 0);
  Pendulum pendulum;
  pendulum.Reset(generator);
  std::cout.precision(9);
  std::cout << "cos,sin,speed,torque,reward\n";
  for (int step = 0; step < Pendulum::kEpisodeSteps; ++step) {
    const Pendulum::Observation observation = pendulum.Observe();
    float torque;
    if (policy_act(observation.data(), &torque) != 0) return EXIT_FAILURE;
    for (const float value : observation) std::cout << value << ",";
    std::cout << torque << "," << pendulum.Step(torque) << "\n";
  }
  return EXIT_SUCCESS;
}
