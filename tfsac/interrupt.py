"""How a signal stops `tfsac train`: after a step, and saved."""

import os
import signal
from types import FrameType
from typing import Any

__all__ = ["Interrupt"]


class Interrupt:
    """Within it, a signal stops training after the step; a second one at once.

    Attributes:
        received: The first signal that came.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self, agent: Any):
        self.received: int | None = None
        self._agent = agent

    def __enter__(self) -> None:
        self._previous = [signal.signal(s, self._receive) for s in self.SIGNALS]

    def __exit__(self, *_: Any) -> None:
        for number, handler in zip(self.SIGNALS, self._previous, strict=True):
            signal.signal(number, handler)

    def _receive(self, signum: int, frame: FrameType | None) -> None:
        for number in self.SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        # Not print: the signal may have come in the middle of another one.
        os.write(
            2, b"\nStopping after this step. Ctrl-C again stops at once.\n"
        )
        self.received = signum
        self.pass_on()

    def pass_on(self) -> None:
        """Tells the agent; once more when `fit` begins, which forgets it."""
        if self.received is not None:
            self._agent.stop_training = True
