"""The squashed Gaussian policy of SAC over a `Box` of actions."""

import math
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfsac import networks, policy
from tfsac.acting import Policy
from tfsac.config import SACConfig
from tfsac.kernel_policy import KernelPolicy
from tfsac.noise import standard_normal
from tfsac.spaces import Flattener

__all__ = ["GaussianPolicy"]

# Where tanh is inverted, actions stay this share of the half range inside.
_EDGE = 2.0**-24


class GaussianPolicy(Policy):
    """A squashed Gaussian over the actions of an environment.

    Called with observations, it returns the TFP distribution over actions in
    [-1, 1]; everything else here is in the environment's own units. Its
    deterministic action is tanh of the mean, the median, since the mode has no
    closed form.

    Args:
        actor: Keras model, rows to `(mean, log_std)`, each `[B, A]`.
        flatten: Turns observations into rows.
        scale: Maps [-1, 1] to the environment's units.
        config: For the bounds of the log standard deviation.
        seed: Of the noise in `predict`.
    """

    def __init__(
        self,
        actor: keras.Model,
        flatten: Flattener,
        scale: policy.ActionScale,
        config: SACConfig,
        seed: int,
    ):
        super().__init__(actor, flatten, seed)
        self.scale = scale
        self.config = config
        if KernelPolicy.serves(actor):
            row = flatten.size, flatten.dtype
            self.kernels = KernelPolicy(actor, row, scale, config)

    def random(self, generator: np.random.Generator, count: int) -> np.ndarray:
        """Uniformly random actions, `[count, A]`."""
        uniform = generator.uniform(-1, 1, (count, len(self.scale.low)))
        return self.scale.to_env(uniform.astype(np.float32))

    def clone(self) -> Self:
        """Returns the same policy with an actor of its own."""
        rows = tf.zeros([1, self.flatten.size], self.flatten.dtype)
        actor = networks.clone(self.actor, rows)
        return type(self)(
            actor, self.flatten, self.scale, self.config, self._predict_seed
        )

    def gaussian(
        self, rows: tf.Tensor, training: bool = False
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The actor's Gaussian before tanh, its log std bounded.

        Args:
            rows: `[B, O]`.
            training: As Keras passes it to layers. Defaults to `False`.

        Returns:
            Mean and log standard deviation, each `[B, A]`.
        """
        mean, log_std = self.actor(rows, training=training)
        low, high = self.config.log_std_min, self.config.log_std_max
        return mean, tf.clip_by_value(log_std, low, high)

    def _deterministic(self, rows: tf.Tensor) -> tf.Tensor:
        rows = policy.bounded(rows)
        mean, _ = self.gaussian(rows)
        return _nan_where(rows, self.scale.to_env(tf.tanh(mean)))

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
        rows = policy.bounded(rows)
        mean, log_std = self.gaussian(rows)
        action, log_prob = policy.sample(mean, log_std, noise)
        log_prob = log_prob - self.scale.log_volume
        return _nan_where(rows, self.scale.to_env(action)), log_prob

    def __call__(self, observations: Any) -> tfp.distributions.Distribution:
        """Returns the distribution over actions, scaled to [-1, 1].

        Args:
            observations: One observation of the environment, or a batch.

        Returns:
            A TFP distribution of event shape `[A]`, and of batch shape `[B]`
            for a batch, `[]` for one observation.
        """
        return policy.squashed_gaussian(*self._parameters(observations))

    def log_prob(self, observations: Any, actions: Any) -> np.ndarray:
        """`SAC.log_prob` has the description."""
        mean, log_std = self._parameters(observations)
        actions = np.asarray(actions, np.float64)
        if actions.shape != mean.shape:
            raise ValueError(
                f"Expected actions of the shape {tuple(mean.shape)}, one for "
                f"each observation. Received: shape {actions.shape}."
            )
        unit = self.scale.from_env(actions)
        distribution = policy.squashed_gaussian(
            tf.cast(mean, tf.float64), tf.cast(log_std, tf.float64)
        )
        inside = np.clip(unit, _EDGE - 1, 1 - _EDGE)
        log_prob = distribution.log_prob(inside).numpy()
        is_possible = np.all(self.scale.contains(actions), axis=-1)
        return np.where(is_possible, log_prob - self.scale.log_volume, -np.inf)

    def _parameters(self, observations: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """`[A]` each for one observation, `[B, A]` for a batch."""
        rows = self._rows(observations)
        mean, log_std = self.gaussian(policy.bounded(np.atleast_2d(rows)))
        return (mean, log_std) if rows.ndim == 2 else (mean[0], log_std[0])


def _nan_where(rows: tf.Tensor, actions: tf.Tensor) -> tf.Tensor:
    """Answers a row that holds NaN with NaN, which not each ReLU passes on."""
    is_nan = tf.reduce_any(tf.math.is_nan(rows), axis=1, keepdims=True)
    return tf.where(is_nan, math.nan, actions)
