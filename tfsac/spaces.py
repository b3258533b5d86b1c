"""Gymnasium spaces: observations as rows of numbers."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from gymnasium import Space, spaces


class _Leaf(NamedTuple):
    """One array inside an observation, and the columns of the row it fills."""

    path: tuple[Any, ...]
    shape: tuple[int, ...]
    columns: slice
    # Where the array holds categories: column i is 1 if entry[i] of the array
    # is category[i]. None where the array holds the numbers themselves.
    entry: np.ndarray | None
    category: np.ndarray | None


class Flattener:
    """Turns observations of a space into rows of numbers.

    A row is what `gymnasium.spaces.flatten` makes of the observation, as
    float32, or as uint8 where the flattened space is uint8: arrays are
    reshaped, categories become one-hot, the entries of a `Dict` or `Tuple`
    follow one another. Batches, as a vector environment returns them, are
    flattened without a loop over their rows. The rows are always new memory.

    Example:
    ```python
    space = spaces.Dict(angle=spaces.Box(-1, 1, (2,)), gear=spaces.Discrete(3))
    flatten = Flattener(space)
    flatten({"angle": [0.5, -0.5], "gear": 1})
    # array([ 0.5, -0.5,  0. ,  1. ,  0. ], dtype=float32)
    ```

    Args:
        space: The space of one observation: a `Box`, `Discrete`,
            `MultiBinary` or `MultiDiscrete`, or a `Dict` or `Tuple` of such.

    Raises:
        ValueError: If the space holds anything else, or nothing.
    """

    def __init__(self, space: Space[Any]):
        self.space = space
        self.size = observation_size(space)
        self.dtype = observation_dtype(space)
        self._leaves = list(_leaves(space))
        self._is_row = isinstance(space, spaces.Box) and len(space.shape) == 1

    def __call__(self, observations: Any) -> np.ndarray:
        """Flattens one observation, or a batch of them.

        Args:
            observations: One observation, or a batch: the same structure,
                each array with one more axis in front.

        Returns:
            `[O]` for one observation, `[n, O]` for a batch.

        Raises:
            ValueError: If the observations do not fit the space.
        """
        if (  # nearly always, and then it is to be quick
            self._is_row
            and isinstance(observations, np.ndarray)
            and observations.dtype == self.dtype
            and observations.shape[-1:] == (self.size,)
            and observations.ndim <= 2
        ):
            return observations.copy()
        rows: np.ndarray | None = None
        batch: tuple[int, ...] = ()
        for leaf in self._leaves:
            values = self._read(leaf, observations)
            if rows is None:
                batch = values.shape[: max(values.ndim - len(leaf.shape), 0)]
                rows = np.empty((*batch, self.size), self.dtype)
            if values.shape != batch + leaf.shape or len(batch) > 1:
                raise ValueError(
                    f"Expected {_where(leaf)} to have the shape {leaf.shape}, "
                    f"or in a batch {('n', *leaf.shape)}. "
                    f"Received: shape {values.shape}."
                )
            if leaf.entry is not None:
                values = _one_hot(leaf, values.reshape(*batch, -1))
            with np.errstate(over="ignore"):  # to inf, which the caller finds
                rows[..., leaf.columns] = values.reshape(
                    *batch, leaf.columns.stop - leaf.columns.start
                )
        if rows is None:  # a space without leaves has no Flattener
            raise ValueError("Nothing to flatten.")
        return rows

    def _read(self, leaf: _Leaf, observations: Any) -> np.ndarray:
        value = observations
        for key in leaf.path:
            try:
                value = value[key]
            except (KeyError, IndexError, TypeError) as error:
                raise ValueError(
                    f"Expected an observation of {self.space}. "
                    f"Received: {observations!r}, without {_where(leaf)}."
                ) from error
        values = np.asarray(value)
        wanted = "a number"
        if leaf.entry is not None:
            known, wanted = values.dtype.kind in "iu", "an integer"
        elif self.dtype == np.uint8:
            known, wanted = values.dtype in (np.uint8, np.bool_), "uint8"
        else:
            known = values.dtype.kind in "fiub"
        if not known:
            raise ValueError(
                f"Expected {_where(leaf)} to have {wanted} type. "
                f"Received: {values.dtype}, {value!r}."
            )
        return values


def observation_size(space: Space[Any]) -> int:
    """Returns O, the number of columns of a flattened observation."""
    size = max((leaf.columns.stop for leaf in _leaves(space)), default=0)
    if size == 0:
        raise ValueError(
            "Expected an observation space that holds at least one number. "
            f"Received: {space}."
        )
    return size


def observation_dtype(space: Space[Any]) -> np.dtype[Any]:
    """Returns the type of a row: uint8 if the flattened space is, or float32.

    Other types become float32, which is exact for integers up to 2^24.
    """
    flat = spaces.flatten_space(space)
    return np.dtype(np.uint8 if flat.dtype == np.uint8 else np.float32)


def all_finite(values: np.ndarray) -> bool:
    """Returns whether no value is NaN or infinite."""
    # The sum of squares is several times faster than isfinite; it may be
    # infinite where no value is.
    return bool(
        math.isfinite(np.vdot(values, values)) or np.isfinite(values).all()
    )


def check_same_spaces(
    received: tuple[Space[Any], Space[Any]],
    expected: tuple[Space[Any], Space[Any]],
    name: str,
) -> None:
    """Checks that a policy made for some spaces fits an environment.

    The bounds of observations may differ, since rows do not depend on them.

    Args:
        received: The observation and the action space of the environment.
        expected: Those that the policy was made for.
        name: What the message calls the environment.

    Raises:
        ValueError: If rows of observations differ in size or type, or the
            action spaces differ.
    """
    rows = [
        f"{observation_size(space)} numbers of {observation_dtype(space)}"
        for space in (received[0], expected[0])
    ]
    if rows[0] != rows[1]:
        raise ValueError(
            f"Expected observations that flatten to {rows[1]}. Received: "
            f"{rows[0]}, from {received[0]} of {name}. Use an environment "
            "with the spaces that the agent was made for."
        )
    if received[1] != expected[1]:
        raise ValueError(
            f"Expected actions of {expected[1]}. Received: {received[1]}, of "
            f"{name}. Use an environment with the spaces that the agent was "
            "made for."
        )


def _leaves(
    space: Space[Any], path: tuple[Any, ...] = (), start: int = 0
) -> Iterator[_Leaf]:
    """Yields the arrays of a space in the order of gymnasium's flattening."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = space.spaces
        for key, part in (
            parts.items() if isinstance(parts, dict) else enumerate(parts)
        ):
            for leaf in _leaves(part, (*path, key), start):
                start = leaf.columns.stop
                yield leaf
        return
    entry, category = None, None
    shape = space.shape or ()
    match space:
        case spaces.Discrete():
            category = np.arange(space.start, space.start + space.n)
            entry = np.zeros(len(category), np.intp)
        case spaces.MultiDiscrete():
            counts, firsts = space.nvec.ravel(), space.start.ravel()
            entry = np.repeat(np.arange(len(counts)), counts)
            category = np.concatenate(
                [
                    np.arange(f, f + n)
                    for f, n in zip(firsts, counts, strict=True)
                ]
            )
        case spaces.Box() | spaces.MultiBinary():
            pass
        case _:
            raise unsupported(space)
    size = int(np.prod(shape)) if category is None else len(category)
    yield _Leaf(path, shape, slice(start, start + size), entry, category)


def _one_hot(leaf: _Leaf, values: np.ndarray) -> np.ndarray:
    """Turns `[..., entries]` of categories into `[..., columns]`."""
    ones = values[..., leaf.entry] == leaf.category
    if ones.sum() != values.size:
        raise ValueError(
            f"Expected {_where(leaf)} to hold categories of its space. "
            f"Received: {values.tolist()}."
        )
    return ones


def _where(leaf: _Leaf) -> str:
    return "".join(["observation", *(f"[{key!r}]" for key in leaf.path)])


def unsupported(space: Space[Any]) -> ValueError:
    """Returns the error for a space that is no array of numbers."""
    return ValueError(
        "Expected a Box, Discrete, MultiBinary or MultiDiscrete space, or a "
        f"Dict or Tuple of such. Received: {space}. Turn it into one of these "
        "with gymnasium.wrappers.TransformObservation."
    )
