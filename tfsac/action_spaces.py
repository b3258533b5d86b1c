"""Action spaces: which there are, and what environments are given of them."""

import math
from typing import Any, TypeAlias

import numpy as np
from gymnasium import Space, spaces

from tfsac.spaces import all_finite

__all__ = [
    "ActionSpace",
    "action_size",
    "check_action_space",
    "count_actions",
    "to_env_actions",
]

ActionSpace: TypeAlias = spaces.Box | spaces.Discrete | spaces.MultiDiscrete

# Each has a value and a probability of its own, in each row of a batch.
_MOST_ACTIONS = 2**16
# Up to here float32, as the replay buffer has it, holds every integer.
_LARGEST = 2**24


def action_size(space: ActionSpace) -> int:
    """Returns A, the numbers that make up an action."""
    return math.prod(space.shape or ())


def count_actions(space: spaces.Discrete | spaces.MultiDiscrete) -> int:
    """Returns how many actions there are; combinations, where there are."""
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    return math.prod(space.nvec.ravel().tolist())


def check_action_space(space: Space[Any], name: str) -> ActionSpace:
    """Checks that an agent can have actions of this space.

    Args:
        space: The action space of one environment.
        name: What the message calls the environment.

    Returns:
        The same space.

    Raises:
        ValueError: If it is neither a `Box` of rank 1 and a floating type with
            finite bounds, each low below its high, also as float32; nor a
            `Discrete` or a `MultiDiscrete` of rank 1 with at most 65,536
            actions, numbered within +-2**24.
    """
    received = f"Received: {space}, the action space of {name}."
    match space:
        case spaces.Discrete() | spaces.MultiDiscrete():
            _check_discrete(space, received)
        case spaces.Box() if space.dtype.kind == "f":
            _check_box(space, received)
        case _:
            raise ValueError(
                "Expected actions of a Box of a floating type, of a Discrete "
                f"or of a MultiDiscrete space. {received} Turn them into one "
                "of these with gymnasium.wrappers.TransformAction."
            )
    return space


def _check_discrete(
    space: spaces.Discrete | spaces.MultiDiscrete, received: str
) -> None:
    _check_rank(space, received)
    count = count_actions(space)
    if count > _MOST_ACTIONS:
        raise ValueError(
            f"Expected at most {_MOST_ACTIONS:,} actions, as each combination "
            f"of numbers is one by itself. {received} It has {count:,}; offer "
            "fewer with gymnasium.wrappers.TransformAction."
        )
    first, last = _limits(space)
    if np.min(first) < -_LARGEST or np.max(last) > _LARGEST:
        raise ValueError(
            f"Expected actions within +-{_LARGEST:,}, which float32 holds "
            f"exactly. {received} Number them from 0 on."
        )


def _check_box(space: spaces.Box, received: str) -> None:
    _check_rank(space, received)
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = space.low.astype(np.float32), space.high.astype(np.float32)
        bounded = np.isfinite(high - low)
    if not bounded.all():
        raise ValueError(
            "Expected finite bounds, whose difference fits float32, for every "
            f"action. {received} Bound them with "
            "gymnasium.wrappers.RescaleAction, or where the space is defined."
        )
    if not (low < high).all():
        raise ValueError(
            "Expected low < high (as float32) for every action. "
            f"{received} Remove the actions that cannot vary."
        )


def _check_rank(space: ActionSpace, received: str) -> None:
    if isinstance(space, spaces.Discrete):
        return
    if len(space.shape) != 1 or space.shape[0] == 0:
        raise ValueError(
            f"Expected actions of rank 1. {received} Reshape them with "
            "gymnasium.wrappers.TransformAction."
        )


def to_env_actions(space: ActionSpace, actions: Any, count: int) -> np.ndarray:
    """Makes actions fit to be given to environments.

    Args:
        space: The action space of one environment.
        actions: `[count, A]`, in the environment's units; `[count]` integers
            where the space is `Discrete`.
        count: The number of environments.

    Returns:
        New memory, of the space's type. Numbers of a `Box` are within its
        bounds: rounding to float32 can leave them by a little.

    Raises:
        ValueError: If the shape is wrong, an action of a box is NaN or
            infinite, or another one is not in its space.
    """
    if isinstance(space, spaces.Box):
        given = np.asarray(actions, np.float32)
        _check_shape(space, given, count)
        return _to_box(space, given)
    given = np.asarray(actions)
    _check_shape(space, given, count)
    _check_members(space, given)
    return given.astype(space.dtype)


def _check_shape(space: ActionSpace, actions: np.ndarray, count: int) -> None:
    expected = (count, *(space.shape or ()))
    if actions.shape != expected:
        raise ValueError(
            f"Expected actions of shape {expected}. "
            f"Received: shape {actions.shape}."
        )


def _to_box(space: spaces.Box, actions: np.ndarray) -> np.ndarray:
    if not all_finite(actions):
        raise ValueError(
            f"Expected finite actions. Received: {actions}. The policy has "
            "diverged; a lower learning rate or reward scale may help."
        )
    clipped = np.minimum(np.maximum(actions, space.low), space.high)
    return clipped.astype(space.dtype, copy=False)


def _check_members(
    space: spaces.Discrete | spaces.MultiDiscrete, actions: np.ndarray
) -> None:
    first, last = _limits(space)
    if (
        actions.dtype.kind not in "iu"
        or not ((first <= actions) & (actions <= last)).all()
    ):
        raise ValueError(
            f"Expected integers, actions of {space}. Received: {actions!r}."
        )


def _limits(space: spaces.Discrete | spaces.MultiDiscrete) -> tuple[Any, Any]:
    """The smallest and the largest numbers of actions."""
    counts = space.n if isinstance(space, spaces.Discrete) else space.nvec
    return space.start, space.start + counts - 1
