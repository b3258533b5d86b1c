"""What policies over a `Box` of actions share."""

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfsac.acting import Policy
from tfsac.noise import standard_normal
from tfsac.policy import ActionScale
from tfsac.spaces import Flattener

__all__ = ["BoxPolicy", "nan_where"]


class BoxPolicy(Policy):
    """A policy over actions in a box, which it makes of normal noise.

    Subclasses have densities over [-1, 1]^A; all that others see is in the
    environment's own units.

    Args:
        actor: Keras model.
        flatten: Turns observations into rows.
        scale: Maps [-1, 1] to the environment's units.
        seed: Of the noise in `predict`.
    """

    def __init__(
        self,
        actor: keras.Model,
        flatten: Flattener,
        scale: ActionScale,
        seed: int,
    ):
        super().__init__(actor, flatten, seed)
        self.scale = scale

    def random(self, generator: np.random.Generator, count: int) -> np.ndarray:
        """Uniformly random actions, `[count, A]`."""
        uniform = generator.uniform(-1, 1, (count, len(self.scale.low)))
        return self.scale.to_env(uniform.astype(np.float32))

    def action_values(
        self, critic: keras.Model, rows: tf.Tensor, actions: tf.Tensor
    ) -> tf.Tensor:
        """Q of the actions in the replay buffer, as the critics are trained.

        Args:
            critic: Rows and actions in [-1, 1] to values, `[N, B]`.
            rows: `[B, O]`.
            actions: `[B, A]`, in the environment's units.

        Returns:
            `[N, B]`.
        """
        return critic((rows, self.scale.from_env(actions)), training=True)

    def _seeded(
        self, rows: tf.Tensor, seed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        count = rows.shape[0] or tf.shape(rows)[0]
        noise = standard_normal((count, len(self.scale.low)), seed)
        return self.sample(rows, noise)

    def sample(
        self, rows: tf.Tensor, noise: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Actions made by given noise, and their log densities.

        Args:
            rows: `[B, O]`.
            noise: `[B, A]`, standard normal.

        Returns:
            Actions `[B, A]` and, per volume of the same units, nats `[B]`.
        """
        raise NotImplementedError

    def log_prob(self, observations: Any, actions: Any) -> np.ndarray:
        """Log densities of actions; the agent's own has the description."""
        rows = self._rows(observations)
        actions = np.asarray(actions, np.float64)
        expected = (*rows.shape[:-1], len(self.scale.low))
        if actions.shape != expected:
            raise ValueError(
                f"Expected actions of the shape {expected}, one for each "
                f"observation. Received: shape {actions.shape}."
            )
        unit = self.scale.from_env(np.atleast_2d(actions))
        log_prob = self._log_prob(np.atleast_2d(rows), unit).numpy()
        is_possible = np.all(self.scale.contains(actions), axis=-1)
        log_prob = log_prob.reshape(is_possible.shape) - self.scale.log_volume
        return np.where(is_possible, log_prob, -np.inf)

    def _log_prob(self, rows: np.ndarray, actions: np.ndarray) -> tf.Tensor:
        """Log densities over [-1, 1]^A, `[B]`, of `[B, A]` in float64."""
        raise NotImplementedError


def nan_where(rows: tf.Tensor, actions: tf.Tensor) -> tf.Tensor:
    """Answers a row that holds NaN with NaN, which not each ReLU passes on."""
    is_nan = tf.reduce_any(tf.math.is_nan(rows), axis=1, keepdims=True)
    return tf.where(is_nan, math.nan, actions)
