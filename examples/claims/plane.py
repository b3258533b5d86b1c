"""A plane with goals around its centre, for agents that walk on it."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np

LIMIT = 20  # steps in an episode
REACH = 1.0  # how near a goal is reached
EQUAL = ((5, 0, 10), (0, 5, 10), (-5, 0, 10), (0, -5, 10))


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
        self._position = self.np_random.normal(0, 0.1, 2)
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


def walks(
    agent: Any,
    goals: Sequence[Sequence[float]],
    episodes: int,
    deterministic: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Lets an agent walk from the centre, many times at once.

    Args:
        agent: Acts.
        goals: As of `Plane`.
        episodes: How many.
        deterministic: Whether it acts without sampling. Defaults to `False`.

    Returns:
        The goal that each walk reaches, `[episodes]`, -1 for none; and the
        paths, `[LIMIT + 1, episodes, 2]`, which stay where they ended.
    """
    where = np.array(goals, np.float64)
    position, goal = np.zeros((episodes, 2)), np.full(episodes, -1)
    paths = [position]
    for _ in range(LIMIT):
        rows = position.astype(np.float32)
        action = agent.predict(rows, deterministic=deterministic)
        moved = np.clip(position + action, -7, 7)
        position = np.where((goal < 0)[:, None], moved, position)
        goal = np.where(goal < 0, reached(position, where), goal)
        paths.append(position)
    return goal, np.stack(paths)
