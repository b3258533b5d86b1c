"""An environment that waits, as for a robot: nothing is computed meanwhile."""

import time
from typing import Any

import gymnasium

PERIOD = 0.005  # seconds of a step: 200 Hz


class Waiting(gymnasium.Wrapper):
    """Pendulum-v1, each step of which takes a time that no core works in."""

    def __init__(self) -> None:
        super().__init__(gymnasium.make("Pendulum-v1"))

    def step(self, action: Any) -> Any:
        """Steps, and waits."""
        time.sleep(PERIOD)
        return self.env.step(action)


gymnasium.register("Waiting-v0", entry_point=Waiting)
