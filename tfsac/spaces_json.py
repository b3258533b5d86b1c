"""Gymnasium spaces as strict JSON, beside checkpoints and exported models."""

import math
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from tfsac.spaces import unsupported

# What a file may declare: a picture of 836 x 836 in three colours, say. Arrays
# of that size are made before it shows whether the networks fit to it.
_MAX_NUMBERS = 2**21
_MAX_PARTS = 5_000
_INFINITE = ("inf", "-inf")


def space_to_dict(space: Space[Any]) -> dict[str, Any]:
    """Describes a space in values that strict JSON can hold.

    Infinite bounds are the strings "inf" and "-inf", and a bound that is the
    same for all numbers is written once. `space_from_dict` is the inverse.

    Args:
        space: Any space that `Flattener` takes.

    Returns:
        A dictionary with "type" and what makes up a space of that type.

    Raises:
        ValueError: If the space is of any other type.
    """
    match space:
        case spaces.Box():
            return {
                "type": "Box",
                "low": _bound_to_json(space.low),
                "high": _bound_to_json(space.high),
                "shape": list(space.shape),
                "dtype": space.dtype.name,
            }
        case spaces.Discrete():
            return {
                "type": "Discrete",
                "n": int(space.n),
                "start": int(space.start),
                "dtype": space.dtype.name,
            }
        case spaces.MultiDiscrete():
            return {
                "type": "MultiDiscrete",
                "nvec": space.nvec.tolist(),
                "start": space.start.tolist(),
                "dtype": space.dtype.name,
            }
        case spaces.MultiBinary():
            n = space.n
            return {
                "type": "MultiBinary",
                "n": n if isinstance(n, int) else list(n),
            }
        case spaces.Tuple():
            parts = [space_to_dict(part) for part in space.spaces]
            return {"type": "Tuple", "spaces": parts}
        case spaces.Dict():  # pairs, because the order of the columns is theirs
            pairs = [[k, space_to_dict(v)] for k, v in space.spaces.items()]
            return {"type": "Dict", "spaces": pairs}
    raise unsupported(space)


def space_from_dict(description: dict[str, Any]) -> Space[Any]:
    """Makes the space that `space_to_dict` described.

    Args:
        description: What `space_to_dict` returned, also after JSON.

    Returns:
        A space equal to the one described.

    Raises:
        ValueError: If the description is of no space that is known here, or
            of one of more than 2**21 numbers.
    """
    _check_size(description)
    match description:
        case {
            "type": "Box",
            "low": low,
            "high": high,
            "shape": shape,
            "dtype": dtype,
        }:
            low = _bound_from_json(low, shape, dtype)
            high = _bound_from_json(high, shape, dtype)
            return spaces.Box(low, high, dtype=np.dtype(dtype))
        case {"type": "Discrete", "n": n, "start": start, "dtype": dtype}:
            return spaces.Discrete(n, start=start, dtype=np.dtype(dtype))
        case {
            "type": "MultiDiscrete",
            "nvec": nvec,
            "start": start,
            "dtype": dtype,
        }:
            nvec, start = np.array(nvec, dtype), np.array(start, dtype)
            return spaces.MultiDiscrete(nvec, np.dtype(dtype), start=start)
        case {"type": "MultiBinary", "n": n}:
            return spaces.MultiBinary(n)
        case {"type": "Tuple", "spaces": parts}:
            return spaces.Tuple([space_from_dict(part) for part in parts])
        case {"type": "Dict", "spaces": pairs}:
            return spaces.Dict([(k, space_from_dict(v)) for k, v in pairs])
    raise ValueError(
        "Expected the description of a space, as space_to_dict makes it. "
        f"Received: {description!r}."
    )


def _check_size(description: Any) -> None:
    """Refuses a size before anything is allocated for it."""
    numbers, parts, left = 0, 0, [description]
    while left:
        part = left.pop()
        parts += 1
        if isinstance(part, dict):
            inner = part.get("spaces", [])
            if part.get("type") == "Dict":
                inner = [space for _, space in inner]
            left += inner
            numbers += _count_numbers(part)
        if numbers > _MAX_NUMBERS or parts > _MAX_PARTS:
            raise ValueError(
                f"Expected a space of at most {_MAX_NUMBERS:,} numbers, in at "
                f"most {_MAX_PARTS:,} parts. Received: {numbers:,} at least, "
                f"in {parts:,}. Make the agent in Python, and give it the "
                "file by load_weights."
            )


def _count_numbers(part: dict[str, Any]) -> int:
    """How many numbers the arrays of one part hold, or turn into."""
    dtype = np.dtype(part.get("dtype", "int64"))
    if dtype.kind not in "biuf":
        raise ValueError(f"Expected a type of numbers. Received: {dtype}.")
    shape, n = part.get("shape", []), part.get("n", 1)
    sizes = [*shape, *(n if isinstance(n, list) else [n])]
    if not all(type(size) is int and size >= 0 for size in sizes):
        raise ValueError(f"Expected sizes. Received: {sizes!r:.200}.")
    if part.get("type") == "MultiDiscrete":
        return int(np.sum(np.array(part["nvec"], np.float64)))
    return math.prod(sizes)


def _bound_to_json(bound: np.ndarray) -> Any:
    values = [v if np.isfinite(v) else str(v) for v in bound.ravel().tolist()]
    return values[0] if len(set(values)) == 1 else values


def _bound_from_json(bound: Any, shape: list[int], dtype: str) -> np.ndarray:
    if not isinstance(bound, list):
        return np.full(
            shape, float(bound) if bound in _INFINITE else bound, dtype
        )
    numbers = [float(v) if v in _INFINITE else v for v in bound]
    return np.array(numbers, dtype).reshape(shape)
