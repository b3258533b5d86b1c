"""The loop behind `fit`: act, store, learn, report.

It knows environments, replay, checkpoints and Keras' callbacks, and nothing of
the algorithm: an agent is what can `explore` and `update`.
"""

import contextlib
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import keras

from tfsac.batches import Batches
from tfsac.checkpoint import Checkpoint, Checkpoints
from tfsac.env import EnvError
from tfsac.epoch import Epoch
from tfsac.not_finite import NotFiniteError
from tfsac.overlap import OverlappedBatches
from tfsac.restarts import Restarting
from tfsac.transition import Transition

if TYPE_CHECKING:
    from tfsac.trainer import EnvTrainer

__all__ = ["fit"]


def fit(
    agent: "EnvTrainer",
    stream: Restarting,
    *,
    epochs: int,
    steps_per_epoch: int,
    initial_epoch: int,
    callbacks: Sequence[keras.callbacks.Callback] | None,
    verbose: str | int,
    validate: Callable[[], float] | None,
    checkpoints: Checkpoints | None,
    resumed: Checkpoint | None,
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
        validate: Returns `val_episode_return`, NaN if told to stop; `None`
            leaves it out.
        checkpoints: Takes those of this run; `None` writes none.
        resumed: What the agent goes on from; `None` if it begins.

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
    heard = callback_list.callbacks
    epoch = _first_epoch(agent, initial_epoch, resumed, heard)
    logs: dict[str, Any] = {}
    while epoch.number < epochs and not agent.stop_training:
        callback_list.on_epoch_begin(epoch.number)
        if epoch.has_begun and resumed is not None:
            # What callbacks do to an agent when an epoch begins was done to
            # this one already.
            agent.load_weights(resumed.agent_file)
        end = epoch.start + steps_per_epoch
        with _reporting(checkpoints), _saving(checkpoints, agent, epoch, heard):
            logs = _epoch(agent, stream, epoch, end, heard, checkpoints)
            if validate is not None:
                callback_list.on_test_begin()
                # Who asked to stop amid the epoch does not wait for this.
                value = math.nan if agent.stop_training else validate()
                logs["val_episode_return"] = value
                callback_list.on_test_end({"episode_return": value})
        callback_list.on_epoch_end(epoch.number, logs)
        end = min(end, agent.env_steps)  # less where it was told to stop
        epoch = Epoch(epoch.number + 1, end, agent.METRICS)
    callback_list.on_train_end(logs)
    if checkpoints is not None and logs:
        with _reporting(checkpoints):  # after TerminateOnNaN there is need
            checkpoints.save(agent, epoch, heard)
        stream.restart_episodes()
    return agent.history


@contextlib.contextmanager
def _reporting(checkpoints: Checkpoints | None) -> Iterator[None]:
    """Keeps the batches of a training that came to NaN."""
    try:
        yield
    except NotFiniteError as error:
        if checkpoints is not None:
            checkpoints.report(error)
        raise


@contextlib.contextmanager
def _saving(
    checkpoints: Checkpoints | None,
    agent: "EnvTrainer",
    epoch: Epoch,
    callbacks: Sequence[keras.callbacks.Callback],
) -> Iterator[None]:
    """Saves what was learned until environments failed: it is good."""
    try:
        yield
    except EnvError:
        if checkpoints is not None:
            checkpoints.save(agent, epoch, callbacks)
        raise


def _first_epoch(
    agent: "EnvTrainer",
    initial_epoch: int,
    resumed: Checkpoint | None,
    callbacks: Sequence[keras.callbacks.Callback],
) -> Epoch:
    """Returns the epoch to go on with; callbacks are where it is."""
    if resumed is None:
        # Where Keras' BackupAndRestore says, now, that an interrupted fit was.
        number = agent._initial_epoch or initial_epoch
    else:
        resumed.restore_callbacks(callbacks)
        epoch = Epoch.from_state(resumed.content["epoch"], agent.METRICS)
        if resumed.env_steps == agent.env_steps:
            return epoch
        number = epoch.number  # begun anew by an agent that is further
    return Epoch(number, agent.env_steps, agent.METRICS)


def _epoch(
    agent: "EnvTrainer",
    stream: Restarting,
    epoch: Epoch,
    end: int,
    callbacks: Sequence[keras.callbacks.Callback],
    checkpoints: Checkpoints | None,
) -> dict[str, Any]:
    """Runs until `end` transitions, or until told to stop; returns the logs."""
    progress = agent.progress
    epoch.begin(progress.env_steps)
    due: float = math.inf
    if checkpoints is not None:
        due = checkpoints.due_after(progress.env_steps)
    with _batches(agent, callbacks, epoch) as batches:
        while progress.env_steps < end and not agent.stop_training:
            transitions = stream.step(batches.explore(stream.observation))
            is_cut = progress.env_steps + len(transitions.reward) >= due
            if is_cut:
                transitions = _cut(transitions)
            batches.store(transitions)
            for episode in stream.episodes:
                epoch.episodes.add((episode.episode_return, episode.length))
            epoch.env_restarts += stream.take_count()

            # One Keras batch is one call of the train step.
            while batches.are_due():
                batches.run()
                if agent.stop_training:
                    break
            if checkpoints is not None and is_cut:
                batches.finish()
                checkpoints.save(agent, epoch, callbacks)
                stream.restart_episodes()
                due = checkpoints.due_after(progress.env_steps)
        batches.finish()
    return epoch.logs(progress.env_steps)


def _cut(transitions: Transition) -> Transition:
    """The last ones before a checkpoint: episodes go no further, as if late."""
    return transitions._replace(
        truncated=transitions.truncated | ~transitions.terminated
    )


def _batches(
    agent: "EnvTrainer",
    callbacks: Sequence[keras.callbacks.Callback],
    epoch: Epoch,
) -> Batches:
    if agent.snapshot is None:
        return Batches(agent, callbacks, epoch)
    return OverlappedBatches(agent, callbacks, epoch, agent.snapshot)
