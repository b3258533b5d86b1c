"""The agent's optimizers, and one gradient step with one of them."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

__all__ = ["Optimizers", "descend", "resolve", "watching"]


class Optimizers:
    """What `agent.optimizer` is: Keras' callbacks act on each of its members.

    `ReduceLROnPlateau` and `LearningRateScheduler` set the rate of each,
    `TensorBoard` logs them against `iterations`.

    Args:
        *optimizers: Optimizers that have been built; the first counts.
    """

    built = True

    def __init__(self, *optimizers: keras.optimizers.Optimizer):
        self.optimizers = list(optimizers)

    @property
    def iterations(self) -> keras.Variable:
        """Updates so far."""
        return self.optimizers[0].iterations

    @property
    def variables(self) -> list[keras.Variable]:
        """Those of all, which `summary` counts."""
        return [v for each in self.optimizers for v in each.variables]


def resolve(
    name: str,
    given: Any,
    variables: list[keras.Variable],
    learning_rate: float,
    current: keras.optimizers.Optimizer | None,
) -> keras.optimizers.Optimizer:
    """Returns the user's optimizer, or Adam as in SAC 2018b, and builds it.

    Args:
        name: What it is for; Adam's name, which callbacks show.
        given: A Keras optimizer, its name or config, or `None` for Adam.
        variables: What it optimizes.
        learning_rate: That of Adam.
        current: The optimizer of these variables so far, which may stay.

    Raises:
        ValueError: If the optimizer holds the state of other variables.
    """
    if given is None:
        given = keras.optimizers.Adam(learning_rate, epsilon=1e-8, name=name)
    optimizer = keras.optimizers.get(given)
    if optimizer.built and optimizer is not current:
        raise ValueError(
            f"Expected an optimizer of its own for the {name}. Received: "
            f"{optimizer.name!r}, which holds the state of other variables. "
            "Make a new one."
        )
    optimizer.build(variables)
    return optimizer


@contextlib.contextmanager
def watching(variables: list[keras.Variable]) -> Iterator[tf.GradientTape]:
    """Records what depends on these variables, and on no others."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(_values(variables))
        yield tape


def descend(
    optimizer: keras.optimizers.Optimizer,
    tape: tf.GradientTape,
    loss: tf.Tensor,
    variables: list[keras.Variable],
    is_due: bool | tf.Tensor = True,
) -> None:
    """One gradient step on `loss`, if it is due."""

    def step() -> None:
        optimizer.apply(tape.gradient(loss, _values(variables)), variables)

    if is_due is True:
        step()
    else:
        tf.cond(is_due, step, lambda: None)


def _values(variables: list[keras.Variable]) -> list[tf.Variable]:
    return [variable.value for variable in variables]
