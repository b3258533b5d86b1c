/* Times an exported policy: "act P50 P99" and "sample P50 P99", in us. */

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "policy.h"

enum { CALLS = 20000 };

static double times[CALLS];

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return 1e6 * time.tv_sec + 1e-3 * time.tv_nsec;
}

static int compare(const void* a, const void* b) {
  const double x = *(const double*)a, y = *(const double*)b;
  return (x > y) - (x < y);
}

static void measure(const char* name, int is_sample) {
  policy_observation observation[POLICY_OBSERVATION_SIZE];
  policy_action action[POLICY_ACTION_SIZE];
  float log_prob;
  for (int call = -CALLS / 10; call < CALLS; ++call) { /* warms up below 0 */
    const int64_t seed[2] = {0, call};
    for (int i = 0; i < POLICY_OBSERVATION_SIZE; ++i) {
      observation[i] = (policy_observation)(0.1f * i + 1e-4f * call);
    }
    const double start = now();
    if (is_sample) {
      policy_sample(observation, seed, action, &log_prob);
    } else {
      policy_act(observation, action);
    }
    if (call >= 0) times[call] = now() - start;
  }
  qsort(times, CALLS, sizeof *times, compare);
  printf("%s %.2f %.2f\n", name, times[CALLS / 2], times[CALLS / 100 * 99]);
}

int main(void) {
  measure("act", 0);
  measure("sample", 1);
  return 0;
}
