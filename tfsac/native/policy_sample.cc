#include <algorithm>
#include <new>

#include "policy.h"
#include "xla/sample.h"

int policy_sample(const policy_observation* observation, const int64_t* seed,
                  policy_action* action, float* log_prob) {
  try {
    // The class holds the memory of one call at a time.
    static thread_local tfsac::Sample sample;
    std::copy_n(observation, POLICY_OBSERVATION_SIZE,
                sample.arg_feed_observations_data());
    std::copy_n(seed, 2, sample.arg_feed_seed_data());
    if (!sample.Run()) return 1;
    std::copy_n(sample.result_fetch_actions_data(), POLICY_ACTION_SIZE, action);
    *log_prob = *sample.result_fetch_log_prob_data();
    return 0;
  } catch (const std::bad_alloc&) {
    return 1;
  }
}
