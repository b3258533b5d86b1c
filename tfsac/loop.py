"""The loop behind `fit`: act, store, learn, report.

It knows environments, replay and Keras' callbacks, and nothing of the
algorithm: an agent is what can `explore` and `update`.
"""

import math
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import keras

from tfsac.batches import Batches, Mean
from tfsac.env import EnvStream
from tfsac.overlap import OverlappedBatches

if TYPE_CHECKING:
    from tfsac.trainer import EnvTrainer

__all__ = ["fit"]


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
    progress = agent.progress
    begin, started = progress.env_steps, time.perf_counter()
    episodes = Mean(("episode_return", "episode_length"))
    with _batches(agent, callback_list.callbacks) as batches:
        while progress.env_steps < end and not agent.stop_training:
            transitions = stream.step(batches.explore(stream.observation))
            agent.replay.insert(transitions)
            progress.env_steps += len(transitions.reward)
            progress.pending_steps += len(transitions.reward)
            for episode in stream.episodes:
                episodes.add((episode.episode_return, episode.length))

            # One Keras batch is one call of the train step.
            while batches.are_due():
                batches.run()
                if agent.stop_training:
                    break
        batches.finish()
    seconds = time.perf_counter() - started
    return {
        **batches.learned.result(),
        **episodes.result(),
        "env_steps": progress.env_steps,
        "steps_per_second": (progress.env_steps - begin) / seconds,
    }


def _batches(
    agent: "EnvTrainer", callbacks: Sequence[keras.callbacks.Callback]
) -> Batches:
    if agent.snapshot is None:
        return Batches(agent, callbacks)
    return OverlappedBatches(agent, callbacks, agent.snapshot)
