"""Keras batches: one call of the train step each, run, counted, reported."""

import math
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

import keras
import numpy as np

from tfsac.epoch import Epoch
from tfsac.not_finite import not_finite
from tfsac.spaces import all_finite
from tfsac.transition import Transition

if TYPE_CHECKING:
    from tfsac.trainer import EnvTrainer

__all__ = ["Batches"]


class Batches:
    """The batches of an epoch: the environment and the step take turns.

    As a context manager it sees to it that no call is left running, and that
    the counts are those of what was done, wherever an interrupt comes.

    Args:
        agent: Explores and learns.
        callbacks: Those of `fit`.
        epoch: Counts the calls, and takes the means of what they return.
    """

    def __init__(
        self,
        agent: "EnvTrainer",
        callbacks: Sequence[keras.callbacks.Callback],
        epoch: Epoch,
    ):
        self._agent = agent
        self._epoch = epoch
        self._progress = agent.progress
        self._transitions = agent.config.train_every
        self._listeners = list(filter(_hears_of_batches, callbacks))
        self._has_begun_to_learn = False
        self._metrics: Mapping[str, float] = {}
        # What counts go by if something fails between a deed and its count.
        self._surplus = agent.replay.inserted - agent.env_steps
        self._storing = 0
        self._updates = int(agent.optimizer.iterations)
        self._due: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self._settle()

    def explore(self, observation: np.ndarray) -> np.ndarray:
        """Actions to learn from, for rows `[E, O]`; finite ones."""
        return self._finite(self._agent.explore(observation))

    def store(self, transitions: Transition) -> None:
        """Inserts transitions into the replay buffer, and counts them."""
        self._storing = len(transitions.reward)
        self._agent.replay.insert(transitions)
        self._progress.env_steps += self._storing
        self._storing = 0

    def are_due(self) -> bool:
        """Whether there are transitions for another call."""
        return self._progress.pending_steps >= self._transitions

    def run(self) -> None:
        """Runs the call that is due."""
        self._begin()
        self._end(self._agent.update() if self._can_learn() else {})

    def finish(self) -> None:
        """Waits for what has been begun; here nothing has."""

    def _finite(self, actions: np.ndarray) -> np.ndarray:
        # By weights that are NaN: this is how it is noticed at once.
        if not all_finite(actions):
            raise not_finite(
                self._agent, f"the action {actions}", self._metrics
            )
        return actions

    def _begin(self) -> None:
        for callback in self._listeners:
            callback.on_train_batch_begin(self._epoch.calls, logs={})
        self._due = self._progress.answered_steps + self._transitions

    def _can_learn(self) -> bool:
        # A replay buffer never shrinks: once is enough.
        if not self._has_begun_to_learn:
            self._has_begun_to_learn = self._agent.can_learn
        return self._has_begun_to_learn

    def _answer(self, updates: int) -> None:
        if self._due is not None:
            self._progress.answered_steps = self._due
        self._updates += updates
        self._due = None

    def _settle(self) -> None:
        """Counts what was done, and not counted any more."""
        stored = self._agent.replay.inserted - self._surplus
        missing = stored - self._progress.env_steps
        self._progress.env_steps += min(max(0, missing), self._storing)
        per_call = self._agent.config.updates_per_call
        updates = int(self._agent.optimizer.iterations)
        if updates >= self._updates + per_call:
            self._answer(per_call)

    def _end(self, metrics: Mapping[str, float]) -> None:
        self._answer(self._agent.config.updates_per_call if metrics else 0)
        self._metrics = metrics
        self._epoch.learned.add(metrics.values())
        if self._listeners:
            logs = dict(metrics)
            for callback in self._listeners:
                callback.on_train_batch_end(self._epoch.calls, logs=logs)
        self._epoch.calls += 1
        # Unless a callback has asked to stop, as TerminateOnNaN does.
        finite = all(map(math.isfinite, metrics.values()))
        if not finite and not self._agent.stop_training:
            raise not_finite(self._agent, "a loss that is not", metrics)


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
