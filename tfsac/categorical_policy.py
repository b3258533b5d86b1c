"""The categorical policy of SAC over discrete actions."""

import math
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from gymnasium import spaces

from tfsac import networks, policy, sac
from tfsac.acting import Policy
from tfsac.action_spaces import count_actions
from tfsac.noise import gumbel
from tfsac.spaces import Flattener

__all__ = ["CategoricalPolicy", "DiscreteActions"]

# Share of log n, the entropy of choosing uniformly; docs/sac.md says why.
_TARGET_ENTROPY = 0.5


class DiscreteActions:
    """The one-to-one map between 0, ..., n - 1 and the env's actions.

    Of a `MultiDiscrete` space each combination of numbers has an index, the
    last number changing fastest. Were each number drawn by itself, the
    energy-based policy would be out of reach, and with it its value.

    Args:
        space: Of the env's actions.

    Attributes:
        count: n.
        shape: Of an action, as the env takes it: `()` or `(A,)`.
    """

    def __init__(self, space: spaces.Discrete | spaces.MultiDiscrete):
        self.count = count_actions(space)
        self.shape: tuple[int, ...] = space.shape or ()
        counts = space.n if isinstance(space, spaces.Discrete) else space.nvec
        self._counts = np.atleast_1d(counts).astype(np.int64)
        self._start = np.atleast_1d(space.start).astype(np.int64)
        # How many combinations of the numbers after it each number has.
        self._strides = np.cumprod([1, *self._counts[:0:-1]])[::-1]
        numbers = np.unravel_index(np.arange(self.count), self._counts)
        self._table = self._in_shape(np.stack(numbers, axis=-1) + self._start)

    def to_env(self, index: Any) -> Any:
        """Turns indices into the env's actions.

        Args:
            index: `[B]`, int64, a tensor or an array.

        Returns:
            int64, `[B]`; of a `MultiDiscrete` space `[B, A]`.
        """
        if isinstance(index, np.ndarray):
            return self._table[index]
        return tf.gather(self._table, index)

    def from_env(self, actions: tf.Tensor) -> tf.Tensor:
        """Turns actions as the replay buffer has them, `[B, A]`, into indices.

        Returns:
            `[B]`, int64.
        """
        numbers = tf.cast(actions, tf.int64) - self._start
        return tf.reduce_sum(numbers * self._strides, axis=-1)

    def contains(self, actions: np.ndarray) -> np.ndarray:
        """Whether each row of `[B, A]` is an action."""
        numbers = actions - self._start
        is_inside = (numbers >= 0) & (numbers < self._counts)
        return np.all(is_inside & (numbers % 1 == 0), axis=-1)

    def none_where(self, condition: tf.Tensor, actions: tf.Tensor) -> tf.Tensor:
        """Puts one below the first number, which is no action, somewhere.

        Args:
            condition: `[B]`, where.
            actions: As of `to_env`.
        """
        none = self._in_shape(self._start[np.newaxis] - 1)
        condition = self._in_shape(condition[:, tf.newaxis])
        return tf.where(condition, none, actions)

    def _in_shape(self, numbers: Any) -> Any:
        return numbers if self.shape else numbers[:, 0]


class CategoricalPolicy(Policy):
    """A probability for each of the actions of an environment.

    Called with observations, it returns the TFP distribution over indices of
    actions; everything else here is in the environment's own units. Its
    deterministic action is the most likely one.

    Args:
        actor: Keras model, rows to logits `[B, n]`.
        flatten: Turns observations into rows.
        actions: Maps indices to the environment's actions.
        seed: Of the noise in `predict`.
    """

    # How many numbers of noise an update needs for each sample: expectations
    # are exact.
    noise_size = 0

    def __init__(
        self,
        actor: keras.Model,
        flatten: Flattener,
        actions: DiscreteActions,
        seed: int,
    ):
        super().__init__(actor, flatten, seed)
        self.actions = actions

    @property
    def target_entropy(self) -> float:
        """The default of `SACConfig.target_entropy`, nats."""
        return _TARGET_ENTROPY * math.log(self.actions.count)

    def random(self, generator: np.random.Generator, count: int) -> np.ndarray:
        """Uniformly random actions, as many as `count`."""
        index = generator.integers(self.actions.count, size=count)
        return self.actions.to_env(index)

    def clone(self) -> Self:
        """Returns the same policy with an actor of its own."""
        rows = tf.zeros([1, self.flatten.size], self.flatten.dtype)
        actor = networks.clone(self.actor, rows)
        return type(self)(actor, self.flatten, self.actions, self._predict_seed)

    def log_probs(self, rows: tf.Tensor, training: bool = False) -> tf.Tensor:
        """The log-probabilities of all actions, `[B, n]`, nats.

        Args:
            rows: `[B, O]`.
            training: As Keras passes it to layers. Defaults to `False`.
        """
        return tf.nn.log_softmax(self.actor(rows, training=training))

    def soft_value(
        self,
        critic: keras.Model,
        rows: tf.Tensor,
        noise: tf.Tensor,
        alpha: tf.Tensor,
        training: bool = False,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The soft value of states by given critics, an expectation.

        Args:
            critic: Rows to values of all actions, `[N, B, n]`.
            rows: `[B, O]`.
            noise: `[B, 0]`.
            alpha: `[]`; 0 leaves the entropy out.
            training: Whether the actor is trained. Defaults to `False`.

        Returns:
            The values and the expected log-probabilities, `[B]` each.
        """
        log_probs = self.log_probs(rows, training)
        value = sac.soft_value_discrete(critic(rows), log_probs, alpha)
        return value, sac.expected_log_prob(log_probs)

    def action_values(
        self, critic: keras.Model, rows: tf.Tensor, actions: tf.Tensor
    ) -> tf.Tensor:
        """Q of the actions in the replay buffer, as the critics are trained.

        Args:
            critic: Rows to values of all actions, `[N, B, n]`.
            rows: `[B, O]`.
            actions: `[B, A]`, in the environment's units.

        Returns:
            `[N, B]`.
        """
        # Not gathered: the gradient, a scatter, takes XLA longer than this.
        chosen = tf.one_hot(self.actions.from_env(actions), self.actions.count)
        return tf.reduce_sum(critic(rows, training=True) * chosen, axis=-1)

    def _deterministic(self, rows: tf.Tensor) -> tf.Tensor:
        rows = policy.bounded(rows)
        index = tf.argmax(self.actor(rows), axis=-1)
        action = self.actions.to_env(index)
        return self.actions.none_where(_is_nan(rows), action)

    def _seeded(
        self, rows: tf.Tensor, seed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        rows = policy.bounded(rows)
        is_nan = _is_nan(rows)
        log_probs = self.log_probs(rows)
        count = rows.shape[0] or tf.shape(rows)[0]
        noise = gumbel((count, self.actions.count), seed)
        index = tf.argmax(log_probs + noise, axis=-1)
        action = self.actions.to_env(index)
        log_prob = tf.gather(log_probs, index, axis=1, batch_dims=1)
        return (
            self.actions.none_where(is_nan, action),
            tf.where(is_nan, math.nan, log_prob),
        )

    def __call__(self, observations: Any) -> tfp.distributions.Categorical:
        """Returns the distribution over the indices of actions.

        Args:
            observations: One observation of the environment, or a batch.

        Returns:
            A TFP distribution over 0, ..., n - 1, of batch shape `[B]` for a
            batch, `[]` for one observation. Of `Discrete` actions an index is
            the action minus `start`; of `MultiDiscrete` ones it is that of
            `numpy.ravel_multi_index`.
        """
        rows = self._rows(observations)
        logits = self.actor(policy.bounded(np.atleast_2d(rows)))
        if rows.ndim == 1:
            logits = logits[0]
        return tfp.distributions.Categorical(logits)

    def log_prob(self, observations: Any, actions: Any) -> np.ndarray:
        """`SAC.log_prob` has the description."""
        rows = self._rows(observations)
        actions = np.asarray(actions)
        expected = (*rows.shape[:-1], *self.actions.shape)
        if actions.shape != expected:
            raise ValueError(
                f"Expected actions of the shape {expected}, one for each "
                f"observation. Received: shape {actions.shape}."
            )
        logits = self.actor(policy.bounded(np.atleast_2d(rows)))
        log_probs = tf.nn.log_softmax(tf.cast(logits, tf.float64)).numpy()
        numbers = actions.reshape(len(log_probs), -1)
        is_possible = self.actions.contains(numbers)
        index = np.where(is_possible, self.actions.from_env(numbers), 0)
        log_prob = log_probs[np.arange(len(index)), index]
        log_prob = np.where(is_possible, log_prob, -np.inf)
        return log_prob.reshape(rows.shape[:-1])


def _is_nan(rows: tf.Tensor) -> tf.Tensor:
    return tf.reduce_any(tf.math.is_nan(rows), axis=1)
