"""Counts of a training."""

import dataclasses

__all__ = ["Progress"]


@dataclasses.dataclass
class Progress:
    """How far a training has come.

    Apart from the agent, because to set an attribute of a Keras model takes
    longer than to act.

    Attributes:
        env_steps: Transitions so far.
        answered_steps: Those among them that updates have answered.
        explored: How often the policy has explored: its place in the noise.
    """

    env_steps: int = 0
    answered_steps: int = 0
    explored: int = 0

    @property
    def pending_steps(self) -> int:
        """Transitions that no update has answered yet."""
        return self.env_steps - self.answered_steps
