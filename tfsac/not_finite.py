"""Training that has come to NaN or infinity: what to tell of it.

Losses are looked at after each call of the step, actions before each step of
the environment, which tells of the weights, and these when they are saved.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tfsac.transition import Transition

if TYPE_CHECKING:
    from tfsac.trainer import EnvTrainer

__all__ = ["NotFiniteError", "not_finite", "require_finite_weights"]

_NUMBERS = ("observation", "action", "reward", "next_observation")


class NotFiniteError(FloatingPointError):
    """Training has come to NaN or infinity; to go on would lose all.

    Args:
        message: What is not finite, and after what.
        batches: What the agent learned from last, fields `[K, B, ...]`; with
            `overlap`, of the last two calls. Empty before there was a call.

    Attributes:
        batches: As given.
    """

    def __init__(self, message: str, batches: list[Transition]):
        super().__init__(message)
        self.batches = batches


def not_finite(
    agent: "EnvTrainer", what: str, metrics: Mapping[str, float]
) -> NotFiniteError:
    """Returns the error that says what is not finite, and when.

    Args:
        agent: The agent.
        what: What was found to be NaN or infinite.
        metrics: Of the last call of the step that is over.
    """
    bad = [f"{n}={v}" for n, v in metrics.items() if not np.isfinite(v)]
    batches = list(agent.last_batches)
    return NotFiniteError(
        f"Expected finite losses, weights and actions. Received: {what}, after "
        f"{agent.env_steps:,} transitions and {int(agent.optimizer.iterations)}"
        f" updates. The last call of the step returned "
        f"{', '.join(bad) or 'finite losses'}, and learned from "
        f"{_ranges(batches)}. Large rewards or learning rates are the usual "
        "reasons: see reward_scale and learning_rate.",
        batches,
    )


def require_finite_weights(agent: "EnvTrainer") -> None:
    """Refuses to save weights that are not finite.

    Raises:
        NotFiniteError: If one is not.
    """
    for variable in agent.weights:
        value = np.asarray(variable.numpy())
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise not_finite(agent, f"NaN or infinity in {variable.path}", {})


def _ranges(batches: list[Transition]) -> str:
    if not batches:
        return "nothing yet"
    fields: dict[str, Any] = batches[-1]._asdict()
    values = {name: np.asarray(fields[name]) for name in _NUMBERS}
    return ", ".join(
        f"{name} from {value.min():.3g} to {value.max():.3g}"
        for name, value in values.items()
    )
