/* Acts on each observation of standard input: act < observations > actions
 *
 * Both are arrays of numbers as they lie in memory, one row after the other.
 */

#include <stdio.h>

#include "policy.h"

int main(void) {
  policy_observation observation[POLICY_OBSERVATION_SIZE];
  policy_action action[POLICY_ACTION_SIZE];
  while (fread(observation, sizeof observation, 1, stdin) == 1) {
    if (policy_act(observation, action) != 0 ||
        fwrite(action, sizeof action, 1, stdout) != 1) {
      return 1;
    }
  }
  return 0;
}
