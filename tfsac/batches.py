"""Keras batches: one call of the train step each, run and reported."""

import math
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

import keras
import numpy as np

if TYPE_CHECKING:
    from tfsac.trainer import EnvTrainer

__all__ = ["Batches", "Mean"]

# So that an epoch of a million calls does not keep a million tensors.
_MAX_UNREAD = 1_000


class Batches:
    """The batches of an epoch: the environment and the step take turns.

    As a context manager it sees to it that no call is left running.

    Args:
        agent: Explores and learns.
        callbacks: Those of `fit`.

    Attributes:
        learned: Means of what the calls returned.
    """

    def __init__(
        self,
        agent: "EnvTrainer",
        callbacks: Sequence[keras.callbacks.Callback],
    ):
        self.learned = Mean(agent.METRICS)
        self._agent = agent
        self._progress = agent.progress
        self._transitions = agent.config.train_every
        self._listeners = list(filter(_hears_of_batches, callbacks))
        self._count = 0
        self._has_begun_to_learn = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass

    def explore(self, observation: np.ndarray) -> np.ndarray:
        """Actions to learn from, for rows `[E, O]`."""
        return self._agent.explore(observation)

    def are_due(self) -> bool:
        """Whether there are transitions for another call."""
        return self._progress.pending_steps >= self._transitions

    def run(self) -> None:
        """Runs the call that is due."""
        self._begin()
        self._end(self._agent.update() if self._can_learn() else {})

    def finish(self) -> None:
        """Waits for what has been begun; here nothing has."""

    def _begin(self) -> None:
        for callback in self._listeners:
            callback.on_train_batch_begin(self._count, logs={})

    def _can_learn(self) -> bool:
        # A replay buffer never shrinks: once is enough.
        if not self._has_begun_to_learn:
            self._has_begun_to_learn = self._agent.can_learn
        return self._has_begun_to_learn

    def _answer(self) -> None:
        self._progress.pending_steps -= self._transitions

    def _end(self, metrics: Mapping[str, float]) -> None:
        self._answer()
        self.learned.add(metrics.values())
        if self._listeners:
            logs = dict(metrics)
            for callback in self._listeners:
                callback.on_train_batch_end(self._count, logs=logs)
        self._count += 1


def _hears_of_batches(callback: keras.callbacks.Callback) -> bool:
    """Whether a callback does anything when a batch begins or ends.

    Keras' `CallbackList` tells all of them, and first converts the logs, which
    takes longer than a step of most environments.
    """
    if isinstance(callback, keras.callbacks.ProgbarLogger):
        return callback.verbose == 1  # else it shows epochs alone
    hooks = ["batch_begin", "batch_end"]
    hooks += [f"train_{hook}" for hook in hooks]
    # As functions: a method is another object each time it is asked for.
    return any(
        getattr(method, "__func__", method)
        is not getattr(keras.callbacks.Callback, f"on_{hook}")
        for hook in hooks
        for method in [getattr(callback, f"on_{hook}")]
    )


class Mean:
    """Running means of named values; NaN before there are any."""

    def __init__(self, names: Sequence[str]):
        self._names = names
        self._sums = [0.0] * len(names)
        self._count = 0
        self._unread: list[Iterable[float]] = []

    def add(self, values: Iterable[float]) -> None:
        """Adds one value for each name, or nothing at all.

        They are read later, as those on a device are to be waited for.
        """
        self._unread.append(values)
        if len(self._unread) == _MAX_UNREAD:
            self._read()

    def result(self) -> dict[str, float]:
        """Returns the mean of each name."""
        self._read()
        count = self._count or math.nan
        return {
            name: total / count
            for name, total in zip(self._names, self._sums, strict=True)
        }

    def _read(self) -> None:
        for each in map(list, self._unread):
            if each:
                pairs = zip(self._sums, each, strict=True)
                self._sums = [total + value for total, value in pairs]
                self._count += 1
        self._unread = []
