"""An epoch of `fit`: where it begins, and what it has come to so far."""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

__all__ = ["Epoch", "Mean"]


class Mean:
    """Running means of named values; NaN before there are any."""

    def __init__(self, names: Sequence[str]):
        self._names = names
        self._sums = [0.0] * len(names)
        self._count = 0

    def add(self, values: Iterable[float]) -> None:
        """Adds one value for each name, or nothing at all."""
        if numbers := list(values):
            pairs = zip(self._sums, numbers, strict=True)
            self._sums = [total + number for total, number in pairs]
            self._count += 1

    def result(self) -> dict[str, float]:
        """Returns the mean of each name."""
        count = self._count or math.nan
        return {
            name: total / count
            for name, total in zip(self._names, self._sums, strict=True)
        }

    def state(self) -> dict[str, Any]:
        """Returns what `restore` goes on from, as JSON holds it."""
        return {"sums": self._sums, "count": self._count}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from where `state` was asked for."""
        self._sums, self._count = list(state["sums"]), state["count"]


class Epoch:
    """One epoch, which may begin in one process and end in another.

    Args:
        number: Its number, from 0 on.
        start: Transitions after which its own share of them begins. Of E
            environments that step at once, the epoch before may have taken
            some of these already.
        metrics: Names of what a call of the train step returns.

    Attributes:
        calls: Calls of the train step so far.
        learned: Means of what they returned.
        episodes: Means over the episodes that have ended in it.
        env_restarts: How often fresh environments took the place of others.
    """

    def __init__(self, number: int, start: int, metrics: Sequence[str]):
        self.number = number
        self.start = start
        self.calls = 0
        self.learned = Mean(metrics)
        self.episodes = Mean(("episode_return", "episode_length"))
        self.env_restarts = 0
        self._first: int | None = None  # transitions when it began
        self._seconds = 0.0  # in other processes
        self._since = 0.0

    @property
    def has_begun(self) -> bool:
        """Whether it has, in whichever process."""
        return self._first is not None

    def begin(self, env_steps: int) -> None:
        """Begins, or goes on: its time runs."""
        if self._first is None:
            self._first = env_steps
        self._since = time.perf_counter()

    def logs(self, env_steps: int) -> dict[str, Any]:
        """Returns what Keras' callbacks get at its end."""
        steps = env_steps - (self._first or 0)
        return {
            **self.learned.result(),
            **self.episodes.result(),
            "env_steps": env_steps,
            "steps_per_second": steps / self._time(),
            "env_restarts": self.env_restarts,
        }

    def state(self) -> dict[str, Any]:
        """Returns what `from_state` goes on from, as JSON holds it."""
        return {
            "number": self.number,
            "start": self.start,
            "first": self._first,
            "calls": self.calls,
            "seconds": self._time() if self.has_begun else 0.0,
            "learned": self.learned.state(),
            "episodes": self.episodes.state(),
            "env_restarts": self.env_restarts,
        }

    @classmethod
    def from_state(
        cls, state: Mapping[str, Any], metrics: Sequence[str]
    ) -> Self:
        """Returns the epoch as it was when its `state` was asked for."""
        epoch = cls(state["number"], state["start"], metrics)
        epoch.calls = state["calls"]
        epoch.learned.restore(state["learned"])
        epoch.episodes.restore(state["episodes"])
        epoch.env_restarts = state["env_restarts"]
        epoch._first, epoch._seconds = state["first"], state["seconds"]
        return epoch

    def _time(self) -> float:
        return self._seconds + time.perf_counter() - self._since
