"""Environments that fail, and the fresh ones that take their place."""

import warnings
from typing import TYPE_CHECKING

import numpy as np

from tfsac.env import EnvError, EnvStream, Episode, again
from tfsac.transition import Transition

if TYPE_CHECKING:
    from tfsac.trainer import EnvTrainer

__all__ = ["Restarting"]


class Restarting:
    """A stream of transitions that goes on when its environments fail.

    A step that fails yields no transition, in any of the environments: all of
    them are made afresh and begin a new episode.

    Args:
        stream: The stream, already reset.
        agent: For the starts that follow a failure.
        allowed: How often it may go on; the next failure is raised.

    Raises:
        ValueError: If the environments cannot be made again.
    """

    def __init__(self, stream: EnvStream, agent: "EnvTrainer", allowed: int):
        if allowed:
            again(stream.env)  # raises now rather than later
        self._stream = stream
        self._agent = agent
        self._allowed = allowed
        self._count = 0
        self._told = 0
        self._failures = 0, 0  # the step, and how many there were at it

    @property
    def observation(self) -> np.ndarray:
        """As of `EnvStream`."""
        try:
            return self._stream.observation
        except EnvError as error:
            self._restart(error)
            return self._stream.observation

    @property
    def episodes(self) -> list[Episode]:
        """As of `EnvStream`."""
        return self._stream.episodes

    def step(self, action: np.ndarray) -> Transition:
        """As of `EnvStream`."""
        try:
            return self._stream.step(action)
        except EnvError as error:
            self._restart(error)
            rows = self._stream.observation[:0]
            numbers, flags = np.zeros(0, np.float32), np.zeros(0, bool)
            index = np.zeros(0, np.int32)
            return Transition(
                rows, action[:0], numbers, rows, flags, flags, index
            )

    def restart_episodes(self) -> None:
        """As `EnvTrainer.restart_episodes`."""
        try:
            self._agent.restart_episodes()
        except EnvError as error:
            self._restart(error)

    def take_count(self) -> int:
        """Returns how often it restarted since it was last asked."""
        count, self._told = self._count - self._told, self._count
        return count

    def _restart(self, error: EnvError) -> None:
        while self._count < self._allowed:
            self._count += 1
            warnings.warn(
                f"{error} Going on with fresh environments, number "
                f"{self._count} of at most {self._allowed}.",
                stacklevel=3,
            )
            try:
                self._stream.restart(self._next_seed())
                return
            except EnvError as next_error:
                error = next_error
        if self._allowed:
            error.add_note(f"After {self._allowed} restarts, the most allowed.")
        raise error

    def _next_seed(self) -> int:
        """Another one after each failure, also of those at one step.

        Failures before the last checkpoint do not count: no checkpoint tells
        of them.
        """
        step, count = self._failures
        now = self._agent.env_steps
        self._failures = now, count + 1 if step == now else 1
        words = np.random.SeedSequence([self._agent.seed, *self._failures])
        return int(words.generate_state(1)[0])
