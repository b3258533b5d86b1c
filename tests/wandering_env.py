"""An environment of which everything follows from the seed of its reset."""

import gymnasium
import numpy as np

ID = "wandering_env:Wandering-v0"


class WanderingEnv(gymnasium.Env):
    """A noisy walk; it terminates far from 0, and is truncated at random."""

    metadata = {"render_modes": []}
    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,))
    action_space = gymnasium.spaces.Box(-1, 1, (2,))
    render_mode = None

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = self.np_random.normal(size=3)
        return self.place.astype(np.float32), {}

    def step(self, action):
        noise = self.np_random.normal(size=3) / 2
        self.place = self.place + noise + np.append(action, 0.0)
        distance = float(np.abs(self.place).max())
        is_late = bool(self.np_random.random() < 0.05)
        observation = self.place.astype(np.float32)
        return observation, -distance, distance > 4, is_late, {}


gymnasium.register("Wandering-v0", WanderingEnv)
