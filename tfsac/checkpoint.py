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

import hashlib
import io
import os
import pathlib
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import IO, TYPE_CHECKING, Any, TypeVar, cast

import keras
import numpy as np
import tensorflow as tf

from tfsac import archive, files, manifest, replay_files
from tfsac.callback_state import callback_state, restore_callbacks
from tfsac.epoch import Epoch
from tfsac.manifest import damaged
from tfsac.not_finite import NotFiniteError, require_finite_weights
from tfsac.transition import Transition

if TYPE_CHECKING:
    from tfsac.trainer import EnvTrainer

__all__ = ["Checkpoint", "Checkpoints", "is_run"]

_REPLAY = "replay"

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
        path = folder / f"{self._name}.json"
        self.content = manifest.decode(path)
        index, agent_file, array_file = _file_names(self._name)
        named = self.content["files"].keys()
        if not {index, agent_file} <= named <= {index, agent_file, array_file}:
            damaged(
                path, "names files that are not its own, or not all that are"
            )
        for name, expected in self.content["files"].items():
            _require_fingerprint(folder / name, expected)

    @property
    def env_steps(self) -> int:
        """Transitions so far."""
        return self.content["env_steps"]

    @property
    def epoch_number(self) -> int:
        """That of the epoch to go on with."""
        return self.content["epoch"]["number"]

    def require_metrics(self, count: int) -> None:
        """Raises a DataLossError if the means of the epoch are of others."""
        found = len(self.content["epoch"]["learned"]["sums"])
        if found != count:
            damaged(
                self._folder / f"{self._name}.json",
                f"means of {found} metrics, expected {count}",
            )

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
                with files.opened(path) as (file, size):
                    arrays = archive.read_arrays(file, size)
            except (archive.Refused, *archive.DAMAGED, ValueError) as error:
                damaged(path, f"{type(error).__name__}: {error}")
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
        self._has_saved = False

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
            tf.errors.DataLossError: If there are only bad ones. If the agent
                of one is good, and its transitions are not, the error says how
                to go on.
        """
        problems = []
        whole: Checkpoint | None = None  # but for its transitions
        numbers = self._numbers("checkpoint-*.json")
        for number in sorted(numbers, reverse=True):
            try:
                checkpoint = Checkpoint(self._folder, number)
                whole = whole or checkpoint
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
                f"{self._folder} holds no checkpoint that is good: "
                f"{'; '.join(problems)}. {_way_on(whole)}",
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
            checkpoint.require_metrics(len(agent.METRICS))
            if checkpoint.env_steps > agent.env_steps:
                checkpoint.restore_replay(agent)
                agent.load_weights(checkpoint.agent_file)
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
        if not self._has_saved:  # somebody else may have made it just now
            files.sync_above(self._folder)
            self._has_saved = True
        replay = self._folder / _REPLAY
        before = replay_files.segments(replay)
        agent.replay.save(replay, name)
        new_segments = replay_files.segments(replay) - before
        states, arrays = callback_state(callbacks)
        written = self._write(agent, name, arrays)
        files.sync_directory(self._folder)
        content = {
            "format": manifest.FORMAT,
            "versions": manifest.versions(),
            "run": manifest.settings(agent, self._every),
            **manifest.identity(agent),
            "env_steps": agent.env_steps,
            "epoch": epoch.state(),
            "callbacks": states,
            "files": written,
        }
        files.write_file(
            self._folder / f"{name}.json", manifest.encode(content)
        )
        files.sync_directory(self._folder)
        # Read back, or else the ones before stay.
        Checkpoint(self._folder, number)
        replay_files.check_segments(agent.replay.layout, new_segments)
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

    def _write(
        self, agent: "EnvTrainer", name: str, arrays: dict[str, np.ndarray]
    ) -> dict[str, dict[str, Any]]:
        """Writes what is beside the transitions; returns all fingerprints."""
        index, agent_file, array_file = _file_names(name)
        with (
            files.replacing(self._folder / agent_file) as aside,
            files.system("write", aside),
        ):
            keras.Model.save(agent, aside)
        written = {}
        for file in (index, agent_file):
            with files.opened(self._folder / file) as (content, size):
                written[file] = _fingerprint(content, size)
        if arrays:
            data = _array_bytes(arrays)
            files.write_file(self._folder / array_file, data)
            written[array_file] = _fingerprint(io.BytesIO(data), len(data))
        return written

    def _require_same_run(self, agent: "EnvTrainer", found: Checkpoint) -> None:
        content = found.content
        for name, value in manifest.identity(agent).items():
            if name in content and value != content[name]:
                raise ValueError(
                    f"Expected {name}={content[name]!r}, that of the run whose "
                    f"checkpoints are in {self._folder}. Received: {name}="
                    f"{value!r}. Pass another checkpoint_dir."
                )
        saved = {**content.get("run", {}), **content["versions"]}
        now = {**manifest.settings(agent, self._every), **manifest.versions()}
        changes = [
            f"{name}={saved[name]!r}, now {value!r}"
            for name, value in now.items()
            if None not in (value, saved.get(name)) and value != saved[name]
        ]
        if changes:
            warnings.warn(
                f"{self._folder} was written with {'; '.join(changes)}: the "
                "run may go on in another way.",
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


def is_run(folder: pathlib.Path) -> bool:
    """Whether a folder holds checkpoints, good or not."""
    found = folder.glob("checkpoint-*.json")
    return any(_NUMBER.match(path.name) for path in found)


def _file_names(name: str) -> tuple[str, str, str]:
    """The files of a checkpoint beside its manifest."""
    return f"{_REPLAY}/{name}.index", f"{name}.keras", f"{name}.npz"


def _require_fingerprint(path: pathlib.Path, expected: dict[str, Any]) -> None:
    """Refuses a file that is not as it was written."""
    with files.opened(path) as (file, size):
        if size != expected["bytes"]:  # before any of it is read
            damaged(path, f"expected {expected['bytes']} bytes, found {size}")
        found = _fingerprint(file, size)
    if found != expected:
        damaged(path, f"expected {expected}, found {found}")


def _fingerprint(file: IO[bytes], size: int) -> dict[str, Any]:
    digest = hashlib.file_digest(cast(Any, file), "sha256")
    return {"bytes": size, "sha256": digest.hexdigest()}


def _way_on(whole: Checkpoint | None) -> str:
    """Says how to go on where no checkpoint is good."""
    if whole is None:
        return (
            "A checkpoint-N.keras that is whole loads by itself, as an agent "
            "without its transitions."
        )
    return (
        f"The agent of checkpoint {whole.number} is good. To go on with it, "
        "and gather transitions anew: agent = tfsac.load("
        f"{str(whole.agent_file)!r}); agent.fit(..., initial_epoch="
        f"{whole.epoch_number}, checkpoint_dir=ANOTHER_FOLDER)."
    )


def _array_bytes(arrays: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **cast(dict[str, Any], arrays))
    return buffer.getvalue()
