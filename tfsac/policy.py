"""The squashed Gaussian policy, and the scale between it and the env.

Inside the policy, actions live in [-1, 1]^A; `ActionScale` maps them to the
env's own units and back.
"""

import math
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

__all__ = ["ActionScale", "bounded", "sample", "squashed_gaussian"]

tfb = tfp.bijectors
tfd = tfp.distributions


def squashed_gaussian(
    mean: tf.Tensor, log_std: tf.Tensor
) -> tfp.distributions.TransformedDistribution:
    """The distribution of `tanh(mean + exp(log_std) * eps)`, eps unit normal.

    Its `log_prob` of an action inverts tanh, which loses all precision near
    the bounds; where the action was drawn from known noise, use `sample`.

    Args:
        mean: `[B, A]`, before tanh.
        log_std: `[B, A]`, before tanh.

    Returns:
        A `tfp.distributions.TransformedDistribution` of batch shape `[B]` and
        event shape `[A]`, over actions in [-1, 1].

    References:
        - [SAC 2018b](https://arxiv.org/abs/1812.05905), appendix C
    """
    base = tfd.Independent(
        tfd.Normal(tf.zeros_like(mean), tf.ones_like(mean)),
        reinterpreted_batch_ndims=1,
    )
    flow = tfb.Chain(
        [tfb.Tanh(), tfb.Shift(mean), tfb.Scale(log_scale=log_std)]
    )
    return tfd.TransformedDistribution(base, flow)


def sample(
    mean: tf.Tensor, log_std: tf.Tensor, noise: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The action that given noise makes, and its exact log-probability.

    `log pi(a|s) = log N(eps; 0, 1) - log |da/deps|` (2018b eq. 26), computed
    from the noise and never from the action: inverting tanh fails from u = 8
    on in float32.

    Args:
        mean: `[B, A]`.
        log_std: `[B, A]`.
        noise: eps, `[B, A]`, standard normal.

    Returns:
        The action in [-1, 1], `[B, A]`, and its log-probability, `[B]`.
    """
    distribution = squashed_gaussian(mean, log_std)
    base, flow = distribution.distribution, distribution.bijector
    log_det = flow.forward_log_det_jacobian(noise, event_ndims=1)
    return flow.forward(noise), base.log_prob(noise) - log_det


def bounded(observation: tf.Tensor) -> tf.Tensor:
    """Keeps an observation where no network of ordinary weights overflows.

    Acting uses it, so that an extreme reading, infinity included, gives an
    action inside the bounds. NaN stays NaN.

    Args:
        observation: `[B, O]`.

    Returns:
        `[B, O]` as float32, inside +-1e12.
    """
    return tf.clip_by_value(tf.cast(observation, tf.float32), -1e12, 1e12)


class ActionScale:
    """The affine map between the policy's [-1, 1]^A and the env's bounds.

    Args:
        low: `[A]`, the env's lower bounds.
        high: `[A]`, its upper bounds, above `low`.
    """

    def __init__(self, low: np.ndarray, high: np.ndarray):
        self.low = np.asarray(low, np.float32)
        self.high = np.asarray(high, np.float32)
        # Halved before subtracting: high - low may overflow float32.
        self.half_range = self.high / 2 - self.low / 2
        self.centre = self.high / 2 + self.low / 2

    @property
    def log_volume(self) -> float:
        """Log |d(env action) / d(action)|: the densities' difference, nats."""
        return math.fsum(np.log(self.half_range.astype(np.float64)))

    def to_env(self, action: Any) -> Any:
        """Scales `[..., A]` from [-1, 1] to the env's units, inside bounds.

        Args:
            action: A tensor, or an array, which becomes an array.

        Returns:
            `[..., A]`.
        """
        scaled = self.centre + self.half_range * action
        clip = np.clip if isinstance(action, np.ndarray) else tf.clip_by_value
        return clip(scaled, self.low, self.high)

    def from_env(self, action: tf.Tensor) -> tf.Tensor:
        """Scales `[..., A]` from the env's units to [-1, 1]."""
        return (action - self.centre) / self.half_range

    def contains(self, action: np.ndarray) -> np.ndarray:
        """Whether each number of `[..., A]`, in env units, is in bounds."""
        return (self.low <= action) & (action <= self.high)
