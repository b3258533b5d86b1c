"""A finite problem, as tfsac.tabular solves it, as an environment."""

import gymnasium
import numpy as np
from gymnasium import spaces

from tfsac import tabular


class MDPEnv(gymnasium.Env):
    """Begins in each state that is not terminal with the same probability.

    Args:
        mdp: The problem.
        start: The number of the first action.
    """

    def __init__(self, mdp, start=0):
        num_states, num_actions = mdp.reward.shape
        self.observation_space = spaces.Discrete(num_states)
        self.action_space = spaces.Discrete(num_actions, start=start)
        self.mdp = mdp

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        goes_on = np.flatnonzero(~self.mdp.terminal)
        self.state = self.np_random.choice(goes_on)
        return int(self.state), {}

    def step(self, action):
        if action not in self.action_space:
            raise ValueError(f"{action!r} is none of {self.action_space}")
        action -= self.action_space.start
        reward = float(self.mdp.reward[self.state, action])
        probabilities = self.mdp.transition[self.state, action]
        self.state = self.np_random.choice(len(probabilities), p=probabilities)
        terminated = bool(self.mdp.terminal[self.state])
        return int(self.state), reward, terminated, False, {}


def random_mdp(seed, num_states=6, num_actions=3, discount=0.8):
    """A problem of which the last state is terminal, and rarely reached."""
    rng = np.random.default_rng(seed)
    size = num_states, num_actions
    # Few next states are likely, so that actions matter.
    transition = rng.dirichlet(np.full(num_states, 0.3), size)
    transition[..., -1] *= 0.3
    transition /= transition.sum(axis=-1, keepdims=True)
    return tabular.MDP(
        transition=transition,
        reward=rng.normal(size=size),
        terminal=np.arange(num_states) == num_states - 1,
        discount=discount,
    )
