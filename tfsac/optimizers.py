"""The agent's optimizers, in the way that Keras' callbacks look for them."""

from typing import Any

import keras

__all__ = ["Optimizers", "resolve"]


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


def resolve(
    given: Any, learning_rate: float, name: str
) -> keras.optimizers.Optimizer:
    """Returns the user's optimizer, or Adam as in SAC 2018b.

    Args:
        given: A Keras optimizer, its name or config, or `None` for Adam.
        learning_rate: That of Adam.
        name: That of Adam, which callbacks show.
    """
    if given is None:
        return keras.optimizers.Adam(learning_rate, epsilon=1e-8, name=name)
    return keras.optimizers.get(given)
