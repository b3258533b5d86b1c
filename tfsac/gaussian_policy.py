"""The squashed Gaussian policy of SAC over a `Box` of actions."""

from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfsac import networks, policy, sac
from tfsac.box_policy import BoxPolicy, nan_where
from tfsac.config import SACConfig
from tfsac.kernel_policy import KernelPolicy
from tfsac.spaces import Flattener

__all__ = ["GaussianPolicy"]

# Where tanh is inverted, actions stay this share of the half range inside.
_EDGE = 2.0**-24


class GaussianPolicy(BoxPolicy):
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
        super().__init__(actor, flatten, scale, seed)
        self.config = config
        if KernelPolicy.serves(actor):
            row = flatten.size, flatten.dtype
            self.kernels = KernelPolicy(actor, row, scale, config)

    def clone(self) -> Self:
        """Returns the same policy with an actor of its own."""
        rows = tf.zeros([1, self.flatten.size], self.flatten.dtype)
        actor = networks.clone(self.actor, rows)
        return type(self)(
            actor, self.flatten, self.scale, self.config, self._predict_seed
        )

    @property
    def noise_size(self) -> int:
        """How many numbers of noise a sample needs, A."""
        return len(self.scale.low)

    @property
    def target_entropy(self) -> float:
        """The default of `SACConfig.target_entropy`, nats (2018b, app. D)."""
        return -float(len(self.scale.low))

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

    def soft_value(
        self,
        critic: keras.Model,
        rows: tf.Tensor,
        noise: tf.Tensor,
        alpha: tf.Tensor,
        training: bool = False,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The soft value of states by given critics, from a sample in each.

        Args:
            critic: Rows and actions in [-1, 1] to values, `[N, B]`.
            rows: `[B, O]`.
            noise: Makes the sample, `[B, A]`, standard normal.
            alpha: `[]`; 0 leaves the entropy out.
            training: Whether the actor is trained. Defaults to `False`.

        Returns:
            The values and the samples' log densities over [-1, 1]^A, `[B]`
            each.
        """
        # a and log pi(a|s) come together: one cannot be had of the other.
        mean, log_std = self.gaussian(rows, training)
        action, log_prob = policy.sample(mean, log_std, noise)
        value = sac.soft_value(critic((rows, action)), log_prob, alpha)
        return value, log_prob

    def _deterministic(self, rows: tf.Tensor) -> tf.Tensor:
        rows = policy.bounded(rows)
        mean, _ = self.gaussian(rows)
        return nan_where(rows, self.scale.to_env(tf.tanh(mean)))

    def sample(
        self, rows: tf.Tensor, noise: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Actions made by given noise, and their log densities."""
        rows = policy.bounded(rows)
        mean, log_std = self.gaussian(rows)
        action, log_prob = policy.sample(mean, log_std, noise)
        log_prob = log_prob - self.scale.log_volume
        return nan_where(rows, self.scale.to_env(action)), log_prob

    def __call__(self, observations: Any) -> tfp.distributions.Distribution:
        """Returns the distribution over actions, scaled to [-1, 1].

        Args:
            observations: One observation of the environment, or a batch.

        Returns:
            A TFP distribution of event shape `[A]`, and of batch shape `[B]`
            for a batch, `[]` for one observation.
        """
        rows = self._rows(observations)
        mean, log_std = self.gaussian(policy.bounded(np.atleast_2d(rows)))
        if rows.ndim == 1:
            mean, log_std = mean[0], log_std[0]
        return policy.squashed_gaussian(mean, log_std)

    def _log_prob(self, rows: np.ndarray, actions: np.ndarray) -> tf.Tensor:
        mean, log_std = self.gaussian(policy.bounded(rows))
        distribution = policy.squashed_gaussian(
            tf.cast(mean, tf.float64), tf.cast(log_std, tf.float64)
        )
        return distribution.log_prob(np.clip(actions, _EDGE - 1, 1 - _EDGE))
