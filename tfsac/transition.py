"""The unit of experience, and the only thing that `env` and `replay` share."""

from typing import NamedTuple

import numpy as np

# The largest observation or action: a row of the replay buffer stays below
# 2**31 bytes, the most that NumPy's types describe.
MAX_SIZE = 2**27


class Transition(NamedTuple):
    """A batch of transitions, one per row.

    | field              | shape    | dtype            | meaning             |
    |--------------------|----------|------------------|---------------------|
    | `observation`      | `[n, O]` | float32 or uint8 | s, in env units     |
    | `action`           | `[n, A]` | float32          | a, in env units     |
    | `reward`           | `[n]`    | float32          | r, in env units     |
    | `next_observation` | `[n, O]` | as `observation` | s', in env units    |
    | `terminated`       | `[n]`    | bool             | the MDP ended at s' |
    | `truncated`        | `[n]`    | bool             | cut short, at s'    |
    | `env_index`        | `[n]`    | int32            | which of the E envs |

    `next_observation` is what followed the action, also at an episode's end:
    never the first observation of the next episode. What cuts an episode short
    is a time limit or a checkpoint; only `terminated` stops the bootstrap. A
    sampled batch has the same fields with leading axes `[K, B]` in place of
    `[n]`.
    """

    observation: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    next_observation: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    env_index: np.ndarray
