"""Batches that are learned from while the environment goes on."""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from types import TracebackType
from typing import TYPE_CHECKING, Self

import keras
import numpy as np

from tfsac.acting import Snapshot
from tfsac.batches import Batches
from tfsac.epoch import Epoch

if TYPE_CHECKING:
    from tfsac.trainer import EnvTrainer

__all__ = ["OverlappedBatches"]


class OverlappedBatches(Batches):
    """The batches of an epoch: the environment goes on while the step learns.

    A call of the step that is due begins on a thread of its own, and is waited
    for when the next one is due or the epoch ends. Meanwhile, while it is in
    flight, a snapshot of the policy from before it acts. What it learns from
    was drawn before it, so that nothing depends on how long anything takes.

    All else happens on the thread of `fit`. Callbacks are told of batches when
    no call is in flight, and may do with the agent what they like.

    Args:
        agent: Explores and learns.
        callbacks: Those of `fit`.
        epoch: As for `Batches`.
        snapshot: Of the agent's policy.
    """

    def __init__(
        self,
        agent: "EnvTrainer",
        callbacks: Sequence[keras.callbacks.Callback],
        epoch: Epoch,
        snapshot: Snapshot,
    ):
        super().__init__(agent, callbacks, epoch)
        self._snapshot = snapshot
        self._in_flight: futures.Future[Mapping[str, float]] | None = None

    def __enter__(self) -> Self:
        self._thread = futures.ThreadPoolExecutor(1, "tfsac-step")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._thread.shutdown()  # which waits for the call in flight
        # If something else failed nobody is told of the call, yet it counts.
        super().__exit__(kind, error, traceback)
        call = self._in_flight
        if call is not None and call.exception() is not error:
            call.result()  # raises, if it failed too

    def explore(self, observation: np.ndarray) -> np.ndarray:
        """Actions to learn from, by weights that nobody changes meanwhile."""
        policy = None if self._in_flight is None else self._snapshot.policy
        return self._finite(self._agent.explore(observation, policy))

    def are_due(self) -> bool:
        """Whether there are transitions for another call."""
        calls = 1 if self._in_flight is None else 2
        return self._progress.pending_steps >= calls * self._transitions

    def run(self) -> None:
        """Begins the call that is due, as soon as the one before is over."""
        self.finish()
        if self._agent.stop_training:
            return  # as callbacks may just have asked; the call stays due
        self._begin()
        if self._can_learn():
            self._snapshot.take()
            self._start(self._agent.prepare_update())
        else:
            self._end({})

    def finish(self) -> None:
        """Waits for the call in flight, and tells of it."""
        if self._in_flight is not None:
            metrics = self._in_flight.result()
            self._in_flight = None
            self._end(metrics)

    def _start(self, learn: Callable[[], Mapping[str, float]]) -> None:
        begun = threading.Event()

        def call() -> Mapping[str, float]:
            begun.set()
            return learn()

        self._in_flight = self._thread.submit(call)
        # An environment in pure Python would else keep the interpreter to
        # itself for milliseconds, sys.getswitchinterval(), before this begins.
        begun.wait()
