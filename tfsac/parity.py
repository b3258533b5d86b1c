"""How far an exported policy's actions are from the agent's own."""

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

if TYPE_CHECKING:
    from tfsac.agent import Agent

__all__ = ["Act", "Unchecked", "observations", "report"]

# From rows `[B, O]` to actions `[B, A]`, as the exported policy has them.
Act = Callable[[np.ndarray], np.ndarray]

_COUNT = 10_000
_LARGEST_ORDINARY = 10.0
_EXTREMES = np.array([np.inf, 3e38, 1e20, 1e6], np.float32)


class Unchecked(Exception):
    """The exported policy does not run here; the message says why."""


def observations(agent: "Agent") -> tuple[np.ndarray, np.ndarray]:
    """Observations to compare actions on, always the same of one space.

    Args:
        agent: Whose observations.

    Returns:
        Rows `[10000, O]` each: ordinary ones, drawn from the space and at most
        10 in size, as a network would be fed; and extreme ones, where some
        numbers of each row are 1e6, 1e20, 3e38 or infinity, of either sign (0
        and 255 where observations are bytes).
    """
    flatten = agent.policy.flatten
    space = batch_space(copy.deepcopy(agent.observation_space), _COUNT)
    space.seed(0)
    rows = flatten(space.sample())
    generator = np.random.default_rng(0)
    if flatten.dtype == np.uint8:
        return rows, generator.choice(np.array([0, 255], np.uint8), rows.shape)
    ordinary = rows.clip(-_LARGEST_ORDINARY, _LARGEST_ORDINARY)
    signs = generator.choice(np.array([-1, 1], np.float32), rows.shape)
    extremes = signs * generator.choice(_EXTREMES, rows.shape)
    is_extreme = generator.random(rows.shape) < 0.5
    is_extreme[:, 0] |= ~is_extreme.any(axis=1)
    return ordinary, np.where(is_extreme, extremes, ordinary)


def report(agent: "Agent", act: Act) -> dict[str, Any]:
    """Compares what was exported with the agent.

    Args:
        agent: What was exported.
        act: Runs it.

    Returns:
        What JSON can hold: for ordinary and extreme observations each their
        number, the largest difference between an action and the agent's, and
        whether all actions are finite and inside the bounds. Differences are
        in units of half of high - low. Or under `unchecked` why nothing could
        be compared.
    """
    rows = observations(agent)
    counts = [len(each) for each in rows]
    joined = np.concatenate(rows)
    try:
        actions = np.split(act(joined), np.cumsum(counts)[:-1])
    except Unchecked as reason:
        return {"unchecked": str(reason)}
    expected = np.split(agent.policy.act(joined), np.cumsum(counts)[:-1])
    return {
        name: {
            "observations": count,
            "worst_difference": _difference(agent.action_space, *each),
            "finite_and_in_bounds": _is_valid(agent.action_space, each[0]),
        }
        for name, count, *each in zip(
            ("ordinary", "extreme"), counts, actions, expected, strict=True
        )
    }


def _difference(space: Any, actions: np.ndarray, expected: np.ndarray) -> float:
    unit: Any = 1.0
    if isinstance(space, spaces.Box):
        unit = space.high.astype(np.float64) / 2 - space.low / 2.0
    return float(np.max(np.abs(actions.astype(np.float64) - expected) / unit))


def _is_valid(space: Any, actions: np.ndarray) -> bool:
    if not isinstance(space, spaces.Box):
        return all(space.contains(action) for action in actions)
    low, high = np.float32(space.low), np.float32(space.high)
    return bool(((low <= actions) & (actions <= high)).all())
