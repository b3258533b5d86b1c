"""The loop behind `fit`: act, store, learn, report.

It knows environments, replay and Keras' callbacks, and nothing of the
algorithm: an agent is what can `explore` and `update`.
"""

import math
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import keras

from tfsac.env import EnvStream
from tfsac.step import METRICS

if TYPE_CHECKING:
    from tfsac.trainer import EnvTrainer

__all__ = ["fit"]

# So that an epoch of a million calls does not keep a million tensors.
_MAX_UNREAD = 1_000


def fit(
    agent: "EnvTrainer",
    stream: EnvStream,
    *,
    epochs: int,
    steps_per_epoch: int,
    initial_epoch: int,
    callbacks: Sequence[keras.callbacks.Callback] | None,
    verbose: str | int,
    validate: Callable[[], float] | None,
) -> keras.callbacks.History:
    """Trains `agent` on `stream`; `SAC.fit` has the description.

    An epoch ends at the first step at which its share of transitions is
    reached, and what E environments yield beyond it counts for the next.

    Args:
        agent: Explores and learns.
        stream: Its environments, already reset.
        epochs: Number of the last epoch.
        steps_per_epoch: Transitions in an epoch.
        initial_epoch: Epoch to start at.
        callbacks: Keras callbacks.
        verbose: As in Keras.
        validate: Returns `val_episode_return`; `None` leaves it out.

    Returns:
        The history.
    """
    if verbose == "auto":
        verbose = 1 if sys.stdout.isatty() else 2
    calls_per_epoch = math.ceil(steps_per_epoch / agent.config.train_every)
    callback_list = keras.callbacks.CallbackList(
        callbacks,
        add_history=True,
        add_progbar=verbose != 0,
        verbose=verbose,
        epochs=epochs,
        steps=calls_per_epoch,
        model=agent,
    )
    agent.stop_training = False
    agent._initial_epoch = None
    callback_list.on_train_begin()
    # Where Keras' BackupAndRestore says, now, that an interrupted fit was.
    initial_epoch = agent._initial_epoch or initial_epoch
    end = agent.env_steps
    logs: dict[str, Any] = {}
    for epoch in range(initial_epoch, epochs):
        end += steps_per_epoch
        callback_list.on_epoch_begin(epoch)
        logs = _epoch(agent, stream, end, callback_list)
        if validate is not None:
            callback_list.on_test_begin()
            # Who asked to stop amid the epoch does not wait for this.
            value = math.nan if agent.stop_training else validate()
            logs["val_episode_return"] = value
            callback_list.on_test_end({"episode_return": value})
        callback_list.on_epoch_end(epoch, logs)
        if agent.stop_training:
            break
    callback_list.on_train_end(logs)
    return agent.history


def _epoch(
    agent: "EnvTrainer",
    stream: EnvStream,
    end: int,
    callback_list: keras.callbacks.CallbackList,
) -> dict[str, Any]:
    """Runs until `end` transitions, or until told to stop; returns the logs."""
    progress, train_every = agent.progress, agent.config.train_every
    begin, started = progress.env_steps, time.perf_counter()
    listeners = list(filter(_hears_of_batches, callback_list.callbacks))
    learned = _Mean(METRICS)
    episodes = _Mean(("episode_return", "episode_length"))
    batch = 0
    can_learn = False
    while progress.env_steps < end and not agent.stop_training:
        transitions = stream.step(agent.explore(stream.observation))
        agent.replay.insert(transitions)
        progress.env_steps += len(transitions.reward)
        progress.pending_steps += len(transitions.reward)
        for episode in stream.episodes:
            episodes.add((episode.episode_return, episode.length))

        # One Keras batch is one call of the train step.
        while progress.pending_steps >= train_every:
            progress.pending_steps -= train_every
            for callback in listeners:
                callback.on_train_batch_begin(batch, logs={})
            # A replay buffer never shrinks: once is enough.
            can_learn = can_learn or agent.can_learn
            metrics = agent.update() if can_learn else {}
            learned.add(metrics.values())
            if listeners:
                logs = dict(metrics)
                for callback in listeners:
                    callback.on_train_batch_end(batch, logs=logs)
            batch += 1
            if agent.stop_training:
                break
    seconds = time.perf_counter() - started
    return {
        **learned.result(),
        **episodes.result(),
        "env_steps": progress.env_steps,
        "steps_per_second": (progress.env_steps - begin) / seconds,
    }


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


class _Mean:
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
