#include <algorithm>
#include <new>

#include "policy.h"
#include "xla/act.h"

int policy_act(const policy_observation* observation, policy_action* action) {
  try {
    // The class holds the memory of one call at a time.
    static thread_local tfsac::Act act;
    std::copy_n(observation, POLICY_OBSERVATION_SIZE,
                act.arg_feed_observations_data());
    if (!act.Run()) return 1;
    std::copy_n(act.result_fetch_actions_data(), POLICY_ACTION_SIZE, action);
    return 0;
  } catch (const std::bad_alloc&) {
    return 1;
  }
}
