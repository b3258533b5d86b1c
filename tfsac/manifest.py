"""Manifests of checkpoints: their format, and what tells one run from another.

A manifest is JSON that begins with the checksum of the rest. It may come from
anybody, so that all of it is checked when it is read, and not when it is used.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import platform
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import gymnasium
import keras
import numpy as np
import tensorflow as tf

from tfsac import callback_state, files, ops
from tfsac.env import recipe

if TYPE_CHECKING:
    from tfsac.trainer import EnvTrainer

__all__ = [
    "FORMAT",
    "damaged",
    "decode",
    "encode",
    "identity",
    "settings",
    "versions",
]

FORMAT = 1
# A history of a million epochs has less.
_MAX_BYTES = 256 << 20


def encode(content: Any) -> bytes:
    """Returns a manifest.

    Args:
        content: What `decode` will return.
    """

    def text(value: Any) -> bytes:
        return json.dumps(value, indent=1, default=_plain).encode()

    digest = hashlib.sha256(text(content)).hexdigest()
    return text({"sha256": digest, "content": content})


def decode(path: pathlib.Path) -> dict[str, Any]:
    """Reads a manifest.

    Args:
        path: Its file.

    Returns:
        What `encode` was given.

    Raises:
        tf.errors.DataLossError: If it is damaged, or says what none can say.
        tf.errors.OpError: If it cannot be read.
    """
    with files.opened(path) as (file, size):
        if size > _MAX_BYTES:
            damaged(path, f"{size} bytes, expected at most {_MAX_BYTES}")
        data = file.read()
    try:
        content = json.loads(data)["content"]
        is_whole = encode(content) == data
    except (ValueError, LookupError, TypeError, RecursionError):
        is_whole = False
    if not is_whole:
        damaged(path, "its checksum is not that of its content")
    if not isinstance(content, dict):
        damaged(path, "its content is no JSON object")
    if content.get("format") != FORMAT:
        damaged(path, f"format {content.get('format')}, expected {FORMAT}")
    for name, is_right in _CONTENT.items():
        if name not in content or not is_right(content[name]):
            damaged(path, f"{name!r} is missing or is none")
    # One that begins later would train until it is reached.
    if content["epoch"]["start"] > content["env_steps"]:
        damaged(path, "its epoch begins after its transitions")
    if not isinstance(content.get("run", {}), dict):  # older ones have none
        damaged(path, "'run' is none")
    return content


def identity(agent: "EnvTrainer") -> dict[str, Any]:
    """What must be the same in all of a run, as JSON gives it back."""
    config = dataclasses.asdict(agent.config)
    config |= {"seed": agent.seed, "algorithm": type(agent).__name__}
    return json.loads(json.dumps(config))


def settings(agent: "EnvTrainer", checkpoint_every: int) -> dict[str, Any]:
    """What decides a run too, but may be changed on purpose.

    Args:
        agent: The agent.
        checkpoint_every: Transitions between checkpoints.

    Returns:
        Numbers and strings; what is not known is `None`.
    """
    return {
        "env": _env_id(agent),
        "num_envs": agent.num_envs,
        "checkpoint_every": checkpoint_every,
    }


def versions() -> dict[str, str]:
    """What the bits of a result depend on beside the run itself."""
    from tfsac import __version__  # which imports this file

    # As many as TensorFlow takes.
    threads = tf.config.threading.get_intra_op_parallelism_threads()
    if threads == 0:
        threads = len(os.sched_getaffinity(0))
    simd = "off"
    if ops.loaded():
        simd = ops.c_functions().tfsac_simd().decode()
    return {
        "tfsac": __version__,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "gymnasium": gymnasium.__version__,
        "python": platform.python_version(),
        "threads": str(threads),
        "kernels": simd,
    }


def damaged(path: pathlib.Path, what: str) -> NoReturn:
    """Raises the error of a damaged file."""
    raise tf.errors.DataLossError(None, None, f"{path}: {what}")


def _env_id(agent: "EnvTrainer") -> str | None:
    """The environment's id without the module that registers it."""
    if agent.env is None:
        return None
    try:
        made_of = recipe(agent.env)
    except ValueError:  # one that nothing tells how to make
        return None
    name = made_of if isinstance(made_of, str) else made_of.id
    return name.rpartition(":")[2]


def _plain(number: Any) -> Any:
    """NumPy's and TensorFlow's numbers, which logs may hold, as Python's."""
    return np.asarray(number).tolist()


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _each(is_right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """A JSON object of any names."""
    return lambda value: (
        isinstance(value, dict) and all(map(is_right, value.values()))
    )


def _object(**fields: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """A JSON object of these names at least."""
    return lambda value: (
        isinstance(value, dict)
        and fields.keys() <= value.keys()
        and all(is_right(value[name]) for name, is_right in fields.items())
    )


def _is_sums(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_number, value))


_MEAN = _object(sums=_is_sums, count=_is_count)
_CONTENT = {
    "versions": _each(_is_text),
    "seed": lambda value: type(value) is int,
    "env_steps": _is_count,
    "epoch": _object(
        number=_is_count,
        start=_is_count,
        first=lambda value: value is None or _is_count(value),
        calls=_is_count,
        seconds=_is_number,
        learned=_MEAN,
        episodes=lambda value: _MEAN(value) and len(value["sums"]) == 2,
        env_restarts=_is_count,
    ),
    "callbacks": callback_state.is_state,
    "files": _each(_object(bytes=_is_count, sha256=_is_text)),
}
