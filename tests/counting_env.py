"""An environment whose observations tell what has to be stored."""

import gymnasium
import numpy as np

ID = "Counting-v0"
LONGEST = 6


class CountingEnv(gymnasium.Env):
    """Counts; its observation is [index, episode, t, length, end].

    The episode ends at t = length, as `end` says: 0 terminated, 1 truncated,
    2 both. The reward is t before the step plus the sum of the action.

    Args:
        index: Tells environments apart.
        reuse: Whether one array serves for all observations, as in many
            environments that users write.
    """

    metadata = {"render_modes": []}
    observation_space = gymnasium.spaces.Box(-1, np.inf, (5,), np.float64)
    action_space = gymnasium.spaces.Box(
        np.array([-1, 0], np.float32), np.array([1, 10], np.float32)
    )
    render_mode = None

    def __init__(self, index=0, reuse=False):
        self._reuse = reuse
        self.state = np.array([index, -1.0, 0, 0, 0])
        self.steps = 0
        self.resets = 0
        self.lengths = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.resets += 1
        self.state[1:] = [
            self.state[1] + 1,
            0,
            self.np_random.integers(1, LONGEST + 1),
            self.np_random.integers(3),
        ]
        self.lengths.append(int(self.state[3]))
        return self._observation(), {}

    def step(self, action):
        _, _, t, length, end = self.state
        if t == length:
            raise RuntimeError("stepped after the end of an episode")
        self.steps += 1
        self.state[2] += 1
        ended = t + 1 == length
        reward = float(t + action.sum())
        terminated, truncated = ended and end != 1, ended and end != 0
        return (
            self._observation(),
            reward,
            bool(terminated),
            bool(truncated),
            {},
        )

    def _observation(self):
        return self.state if self._reuse else self.state.copy()


gymnasium.register(ID, entry_point=CountingEnv)
