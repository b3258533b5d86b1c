"""A plane with goals around its centre, for agents that walk on it."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import comparison
import gymnasium
import numpy as np

LIMIT = 20  # steps in an episode
REACH = 1.0  # how near a goal is reached
SPREAD = 0.1  # standard deviation of where a walk begins
EQUAL = ((5, 0, 10), (0, 5, 10), (-5, 0, 10), (0, -5, 10))
# Who settles for the first goal that was found never sees the best, the last.
UNEQUAL = ((3, 0, 3), (0, 3, 3), (-3, 0, 3), (0, -6, 10))
# What all sides share; the rest is each side's own, by `tuning.py`.
CONFIG = {
    "discount": 0.9,
    "hidden_units": (64, 64),
    "batch_size": 64,
    "replay_capacity": 50_000,
    "train_every": 10,
}


class Plane(gymnasium.Env):
    """A point that steps by up to 1 along each axis, from the centre.

    Reaching a goal ends the episode and pays; nothing else does. So the
    discount is all the hurry there is.

    Args:
        goals: Each `(x, y, reward)`. Defaults to four alike, 5 from the
            centre.
    """

    observation_space = gymnasium.spaces.Box(-7, 7, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self, goals: Sequence[Sequence[float]] = EQUAL):
        self.goals = np.array(goals, np.float64)
        self._position, self._steps = np.zeros(2), 0

    def reset(
        self, *, seed: int | None = None, options: Any = None
    ) -> tuple[np.ndarray, dict]:
        """Puts the point near the centre."""
        super().reset(seed=seed)
        self._position = self.np_random.normal(0, SPREAD, 2)
        self._steps = 0
        return self._position.astype(np.float32), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict]:
        """Moves the point."""
        self._position = np.clip(self._position + action, -7, 7)
        self._steps += 1
        goal = reached(self._position[None], self.goals)[0]
        reward = float(self.goals[goal, 2]) if goal >= 0 else 0.0
        row = self._position.astype(np.float32)
        return row, reward, bool(goal >= 0), self._steps >= LIMIT, {}


def reached(positions: np.ndarray, goals: np.ndarray) -> np.ndarray:
    """Which goal each position `[n, 2]` is at; -1 is none."""
    distance = np.linalg.norm(positions[:, None] - goals[None, :, :2], axis=2)
    return np.where(distance.min(1) <= REACH, distance.argmin(1), -1)


class Walks(NamedTuple):
    """Where walks led.

    Attributes:
        goal: What each reached, `[episodes]`; -1 is none.
        paid: Its discounted return, `[episodes]`.
        paths: `[LIMIT + 1, episodes, 2]`; they stay where they ended.
    """

    goal: np.ndarray
    paid: np.ndarray
    paths: np.ndarray


def walks(
    act: Callable[[np.ndarray], np.ndarray],
    goals: Sequence[Sequence[float]],
    episodes: int,
) -> Walks:
    """Walks many times at once, each from where `Plane` may begin.

    Args:
        act: From positions to actions, both `[episodes, 2]`.
        goals: As of `Plane`.
        episodes: How many. They begin in the same places each time.

    Returns:
        Where they led.
    """
    where = np.array(goals, np.float64)
    position = np.random.default_rng(0).normal(0, SPREAD, (episodes, 2))
    goal, paid = np.full(episodes, -1), np.zeros(episodes)
    paths = [position]
    for step in range(LIMIT):
        walking = goal < 0
        moved = np.clip(position + act(position.astype(np.float32)), -7, 7)
        position = np.where(walking[:, None], moved, position)
        goal = np.where(walking, reached(position, where), goal)
        weight = CONFIG["discount"] ** step
        paid += np.where(walking & (goal >= 0), weight * where[goal, 2], 0.0)
        paths.append(position)
    return Walks(goal, paid, np.stack(paths))


def make(
    side: str, goals: Sequence[Sequence[float]], seed: int, **config: Any
) -> Any:
    """Makes an agent for a plane, with the settings that its side won with.

    Args:
        side: Of `comparison`.
        goals: As of `Plane`.
        seed: The agent's.
        **config: Of the algorithm's config, before all else.
    """
    return comparison.make(
        side, Plane(goals), seed, **CONFIG | comparison.tuned(side) | config
    )
