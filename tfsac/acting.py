"""The policy at work: observations in, actions in the env's units out."""

import itertools
import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfsac import networks, policy
from tfsac.config import SACConfig
from tfsac.kernel_policy import KernelPolicy
from tfsac.noise import standard_normal
from tfsac.spaces import Flattener

__all__ = ["Policy", "Snapshot"]

# Where tanh is inverted, actions stay this share of the half range inside.
_EDGE = 2.0**-24


class Policy:
    """A squashed Gaussian over the actions of an environment.

    Called with observations, it returns the TFP distribution over actions in
    [-1, 1]; everything else here is in the environment's own units. "Rows"
    are flattened observations, `[B, O]`.

    Args:
        actor: Keras model, rows to `(mean, log_std)`, each `[B, A]`.
        flatten: Turns observations into rows.
        scale: Maps [-1, 1] to the environment's units.
        config: For the bounds of the log standard deviation.
        seed: Of the noise in `predict`.

    Attributes:
        deterministic: The function from rows to tanh of the mean, `[B, A]` in
            the environment's units: the median, since the mode has no closed
            form.
        seeded: The function from rows and a seed `[2]`, int64, to sampled
            actions and their log densities, as of `sample`.
        kernels: What acts in their place where the C++ kernels can, with the
            same actions but for rounding; else `None`.
    """

    def __init__(
        self,
        actor: keras.Model,
        flatten: Flattener,
        scale: policy.ActionScale,
        config: SACConfig,
        seed: int,
    ):
        self.actor = actor
        self.flatten = flatten
        self.scale = scale
        self.config = config
        self._seeds = ((seed, count) for count in itertools.count())
        rows = tf.TensorSpec([None, flatten.size], flatten.dtype)
        self.deterministic = tf.function(
            self._deterministic, input_signature=[rows]
        )
        self.seeded = tf.function(
            self._seeded, input_signature=[rows, tf.TensorSpec([2], tf.int64)]
        )
        self.kernels: KernelPolicy | None = None
        if KernelPolicy.serves(actor):
            row = flatten.size, flatten.dtype
            self.kernels = KernelPolicy(actor, row, scale, config)
        self.compile()

    def compile(self, jit_compile: bool = True) -> None:
        """Compiles `explore` anew, for where no kernels serve.

        Args:
            jit_compile: Whether XLA does it. Defaults to `True`.
        """
        self._explore = tf.function(self._explored, jit_compile=jit_compile)

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

    def _seeded(
        self, rows: tf.Tensor, seed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        shape = (tf.shape(rows)[0], len(self.scale.low))
        return self.sample(rows, standard_normal(shape, seed))

    def __call__(self, observations: Any) -> tfp.distributions.Distribution:
        """Returns the distribution over actions, scaled to [-1, 1].

        Args:
            observations: One observation of the environment, or a batch.

        Returns:
            A TFP distribution of event shape `[A]`, and of batch shape `[B]`
            for a batch, `[]` for one observation.
        """
        return policy.squashed_gaussian(*self._parameters(observations))

    def act(
        self, rows: np.ndarray, seed: tuple[int, int] | None = None
    ) -> np.ndarray:
        """Actions as fast as they can be had.

        Args:
            rows: `[B, O]`.
            seed: Of the noise. Defaults to `None`, which acts by tanh of the
                mean.

        Returns:
            `[B, A]`, in the environment's units.
        """
        if self.kernels is not None:
            return self.kernels(rows, seed)
        if seed is None:
            return self.deterministic(rows).numpy()
        return self.seeded(rows, tf.constant(seed, tf.int64))[0].numpy()

    def explore(self, rows: np.ndarray, seed: tuple[int, int]) -> np.ndarray:
        """Sampled actions for always as many rows, as training takes them.

        Args:
            rows: `[E, O]`.
            seed: Of the noise.

        Returns:
            `[E, A]`, in the environment's units.
        """
        if self.kernels is not None:
            return self.kernels(rows, seed)
        return self._explore(rows, tf.constant(seed, tf.int64)).numpy()

    def _explored(self, rows: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        # Of a static shape, unlike `_seeded`: XLA compiles it for that alone.
        noise = standard_normal((rows.shape[0], len(self.scale.low)), seed)
        return self.sample(rows, noise)[0]

    def predict(self, observations: Any, deterministic: bool) -> np.ndarray:
        """`SAC.predict` has the description."""
        rows = self._rows(observations)
        seed = None if deterministic else next(self._seeds)
        actions = self.act(np.atleast_2d(rows), seed)
        return actions if rows.ndim == 2 else actions[0]

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

    def _rows(self, observations: Any) -> np.ndarray:
        rows = self.flatten(observations)
        if np.isnan(rows).any():
            raise ValueError(
                "Expected observations without NaN, as no action answers it. "
                f"Received: {observations!r}."
            )
        return rows


class Snapshot(Policy):
    """A policy as it was when it was last taken, while the original learns.

    Args:
        original: The policy to take.
    """

    def __init__(self, original: Policy):
        flatten, actor = original.flatten, original.actor
        rows = tf.zeros([1, flatten.size], flatten.dtype)
        copy = networks.clone(actor, rows)
        super().__init__(copy, flatten, original.scale, original.config, 0)
        pairs = zip(copy.variables, actor.variables, strict=True)
        self._pairs = [(mine.value, theirs.value) for mine, theirs in pairs]

    def take(self) -> None:
        """Takes the weights that the original has now."""
        for mine, theirs in self._pairs:
            # Both share the values until somebody assigns to one of the two.
            mine.assign(theirs)


def _nan_where(rows: tf.Tensor, actions: tf.Tensor) -> tf.Tensor:
    """Answers a row that holds NaN with NaN, which not each ReLU passes on."""
    is_nan = tf.reduce_any(tf.math.is_nan(rows), axis=1, keepdims=True)
    return tf.where(is_nan, math.nan, actions)
