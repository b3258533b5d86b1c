"""Checkpoints: all that decides how a run goes on, and of which two are kept.

In the folder of a run, checkpoint N is

    checkpoint-N.json          the manifest: with it, and only then, N is there
    checkpoint-N.keras         the agent: networks, optimizers, counters, seeds
    checkpoint-N.npz           weights that Keras' callbacks remember, if any
    replay/checkpoint-N.index  the replay buffer, whose segments are shared

Each file is written under another name, synced and renamed, and the folder
synced; the manifest comes last, with length and SHA-256 of all others. So a
crash at any point leaves the checkpoints that were there, whole.
"""

import dataclasses
import hashlib
import io
import json
import os
import pathlib
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

import keras
import numpy as np
import tensorflow as tf

from tfsac import files
from tfsac.callback_state import callback_state, restore_callbacks
from tfsac.epoch import Epoch
from tfsac.not_finite import NotFiniteError, require_finite_weights
from tfsac.transition import Transition

if TYPE_CHECKING:
    from tfsac.trainer import EnvTrainer

__all__ = ["Checkpoint", "Checkpoints"]

_FORMAT = 1
_REPLAY = "replay"
_CONTENT = {  # of a manifest
    "versions": dict,
    "env_steps": int,
    "epoch": dict,
    "callbacks": dict,
    "files": dict,
}

_NUMBER = re.compile(r"checkpoint-(\d+)\.")

_T = TypeVar("_T")


class Checkpoint:
    """A checkpoint that is complete and as it was written.

    All but the rows of the replay buffer, which are checked when they are
    read.

    Args:
        folder: The run's.
        number: N.

    Attributes:
        agent_file: The agent, as a `.keras` file.
        content: What the manifest says.

    Raises:
        tf.errors.NotFoundError: If a file is missing.
        tf.errors.DataLossError: If a file is damaged.
    """

    def __init__(self, folder: pathlib.Path, number: int):
        self.number = number
        self._folder = folder
        self._name = f"checkpoint-{number}"
        self.agent_file = folder / f"{self._name}.keras"
        manifest = folder / f"{self._name}.json"
        self.content = _decode(manifest)
        if not self.content["files"].keys() <= set(_file_names(self._name)):
            _damaged(manifest, "names files that are not its own")
        for name, expected in self.content["files"].items():
            path = folder / name
            with files.opened(path) as (file, _):
                found = _fingerprint(file.read())
            if found != expected:
                _damaged(path, f"expected {expected}, found {found}")

    @property
    def env_steps(self) -> int:
        """Transitions so far."""
        return self.content["env_steps"]

    def restore_replay(self, agent: "EnvTrainer") -> None:
        """Gives an agent the replay buffer; on an error it has its own."""
        agent.replay.restore(self._folder / _REPLAY, self._name)

    def restore_callbacks(
        self, callbacks: Sequence[keras.callbacks.Callback]
    ) -> None:
        """Gives callbacks what they remembered, after `on_train_begin`."""
        arrays = {}
        path = self._folder / f"{self._name}.npz"
        if path.name in self.content["files"]:
            try:
                with np.load(path, allow_pickle=False) as loaded:
                    arrays = dict(loaded)
            except Exception as error:  # of many kinds, as NumPy does not check
                _damaged(path, f"{type(error).__name__}: {error}")
        restore_callbacks(callbacks, self.content["callbacks"], arrays)


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: The run's, made with the first one.
        every: Transitions from one to the next.

    Raises:
        ValueError: If `every` is below 1.
    """

    def __init__(
        self, folder: str | os.PathLike[str], every: int = 10_000
    ) -> None:
        if every < 1:
            raise ValueError(
                f"Expected checkpoint_every >= 1. Received: {every}."
            )
        self._folder = pathlib.Path(folder)
        self._every = every
        self._last_good: int | None = None

    def due_after(self, env_steps: int) -> int:
        """Transitions at which the next one is due."""
        return (env_steps // self._every + 1) * self._every

    def newest(self, use: Callable[[Checkpoint], _T]) -> _T | None:
        """Uses the newest checkpoint that is good, with warnings of others.

        Args:
            use: What to do with it. Its errors from TensorFlow make the
                checkpoint a bad one.

        Returns:
            What `use` returned, or `None` if there is no checkpoint.

        Raises:
            tf.errors.DataLossError: If there are only bad ones.
        """
        problems = []
        numbers = self._numbers("checkpoint-*.json")
        for number in sorted(numbers, reverse=True):
            try:
                checkpoint = Checkpoint(self._folder, number)
                result = use(checkpoint)
            except tf.errors.OpError as error:
                problems.append(f"checkpoint {number}: {error.message}")
                continue
            self._last_good = number
            if problems:
                warnings.warn(
                    f"{'; '.join(problems)}. In place of it, {self._folder} "
                    f"gives checkpoint {number}, of step "
                    f"{checkpoint.env_steps:,}.",
                    stacklevel=2,
                )
            return result
        if problems:
            raise tf.errors.DataLossError(
                None,
                None,
                f"{self._folder} holds no checkpoint that is good. "
                f"{'; '.join(problems)}. A checkpoint-N.keras that is whole "
                "loads by itself, as an agent without its transitions.",
            )
        return None

    def resume(self, agent: "EnvTrainer") -> Checkpoint | None:
        """Has an agent go on from the newest checkpoint, if it is further.

        Args:
            agent: Of the same seed and config.

        Returns:
            The checkpoint, or `None` if there is none.

        Raises:
            ValueError: If they are those of another run.
            tf.errors.DataLossError: If there are only bad ones.
        """

        def restore(checkpoint: Checkpoint) -> Checkpoint:
            self._require_same_run(agent, checkpoint)
            if checkpoint.env_steps > agent.env_steps:
                checkpoint.restore_replay(agent)
                agent.load_weights(checkpoint.agent_file)
                agent.restart_episodes()
            return checkpoint

        return self.newest(restore)

    def save(
        self,
        agent: "EnvTrainer",
        epoch: Epoch,
        callbacks: Sequence[keras.callbacks.Callback],
    ) -> None:
        """Writes a checkpoint, and then removes all but it and the one before.

        Args:
            agent: With no call of the step in flight.
            epoch: The one in progress, or the next.
            callbacks: Those of `fit`.

        Raises:
            tf.errors.OpError: If the system refuses. What was there before is
                there still.
            NotFiniteError: If a weight is NaN or infinite.
        """
        require_finite_weights(agent)
        number = max(self._numbers("checkpoint-*"), default=0) + 1
        name = f"checkpoint-{number}"
        files.make_directory(self._folder)
        agent.replay.save(self._folder / _REPLAY, name)
        states, arrays = callback_state(callbacks)
        index, agent_file, array_file = _file_names(name)
        contents = {
            index: (self._folder / index).read_bytes(),
            agent_file: self._agent_bytes(agent, name),
        }
        if arrays:
            contents[array_file] = _array_bytes(arrays)
        for file, content in contents.items():
            if file != index:
                files.write_file(self._folder / file, content)
        files.sync_directory(self._folder)
        manifest = {
            "format": _FORMAT,
            "versions": _versions(),
            **_identity(agent),
            "env_steps": agent.env_steps,
            "epoch": epoch.state(),
            "callbacks": states,
            "files": {n: _fingerprint(data) for n, data in contents.items()},
        }
        files.write_file(self._folder / f"{name}.json", _encode(manifest))
        files.sync_directory(self._folder)
        Checkpoint(self._folder, number)  # or else the ones before stay
        self._remove_others({number, self._last_good})
        self._last_good = number

    def report(self, error: NotFiniteError) -> None:
        """Keeps the batches that ended a training, and says so in the error."""
        path = self._folder / "not-finite.npz"
        fields = zip(*error.batches, strict=True)
        arrays = dict(
            zip(Transition._fields, map(np.concatenate, fields), strict=False)
        )
        files.make_directory(self._folder)
        files.write_file(path, _array_bytes(arrays))
        error.add_note(
            f"{path} has the batches. The last good checkpoint is "
            f"{self._last_good or 'none'}; tfsac.load({str(self._folder)!r}) "
            "loads it."
        )

    def _agent_bytes(self, agent: "EnvTrainer", name: str) -> bytes:
        # Here and not in the system's temporary folder, which may be a small
        # one; and read back, since Keras neither syncs nor renames.
        aside = self._folder / f"{name}.tmp.keras"
        with files.system("write", aside):
            try:
                keras.Model.save(agent, aside)
                return aside.read_bytes()
            finally:
                aside.unlink(missing_ok=True)

    def _require_same_run(self, agent: "EnvTrainer", found: Checkpoint) -> None:
        for name, value in _identity(agent).items():
            saved = found.content[name]
            if value != saved:
                raise ValueError(
                    f"Expected {name}={saved!r}, that of the run whose "
                    f"checkpoints are in {self._folder}. Received: {name}="
                    f"{value!r}. Pass another checkpoint_dir."
                )
        if found.content["versions"] != _versions():
            warnings.warn(
                f"{self._folder} was written with "
                f"{found.content['versions']}; with {_versions()} the run may "
                "go on in another way.",
                stacklevel=2,
            )

    def _numbers(self, pattern: str) -> set[int]:
        """The numbers of the checkpoints that a pattern of files finds."""
        return {
            int(match[1])
            for folder in (self._folder, self._folder / _REPLAY)
            for path in folder.glob(pattern)
            if (match := _NUMBER.match(path.name))
        }

    def _remove_others(self, keep: Iterable[int | None]) -> None:
        """Removes all checkpoints but some, the manifests first."""
        kept = {f"checkpoint-{number}" for number in keep}
        for folder, pattern in (
            (self._folder, "checkpoint-*.json"),
            (self._folder, "checkpoint-*"),
            (self._folder / _REPLAY, "checkpoint-*"),
        ):
            for path in folder.glob(pattern):
                match = _NUMBER.match(path.name)
                if match and f"checkpoint-{match[1]}" not in kept:
                    files.remove(path)
            files.sync_directory(folder)


def _file_names(name: str) -> tuple[str, str, str]:
    """The files of a checkpoint beside its manifest."""
    return f"{_REPLAY}/{name}.index", f"{name}.keras", f"{name}.npz"


def _identity(agent: "EnvTrainer") -> dict[str, Any]:
    """What is the same in all of a run, as JSON gives it back."""
    config = dataclasses.asdict(agent.config)
    return json.loads(json.dumps({"seed": agent.seed, **config}))


def _versions() -> dict[str, str]:
    from tfsac import __version__  # which imports this file

    return {
        "tfsac": __version__,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
    }


def _fingerprint(data: bytes) -> dict[str, Any]:
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _array_bytes(arrays: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **cast(dict[str, Any], arrays))
    return buffer.getvalue()


def _encode(content: Any) -> bytes:
    """A manifest: JSON that begins with the checksum of the rest."""

    def text(value: Any) -> bytes:
        return json.dumps(value, indent=1, default=_plain).encode()

    digest = hashlib.sha256(text(content)).hexdigest()
    return text({"sha256": digest, "content": content})


def _plain(number: Any) -> Any:
    """NumPy's and TensorFlow's numbers, which logs may hold, as Python's."""
    return np.asarray(number).tolist()


def _decode(path: pathlib.Path) -> dict[str, Any]:
    """Reads a manifest and checks it."""
    with files.opened(path) as (file, _):
        data = file.read()
    try:
        content = json.loads(data)["content"]
        is_whole = _encode(content) == data
    except (ValueError, LookupError, TypeError, RecursionError):
        is_whole = False
    if not is_whole:
        _damaged(path, "its checksum is not that of its content")
    if not isinstance(content, dict):
        _damaged(path, "its content is no JSON object")
    if content.get("format") != _FORMAT:
        _damaged(path, f"format {content.get('format')}, expected {_FORMAT}")
    for name, kind in _CONTENT.items():
        if not isinstance(content.get(name), kind):
            _damaged(path, f"{name!r} is missing or no {kind.__name__}")
    return content


def _damaged(path: pathlib.Path, what: str) -> NoReturn:
    raise tf.errors.DataLossError(None, None, f"{path}: {what}")
