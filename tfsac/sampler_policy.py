"""The policy of soft Q-learning: a network that samples, and its energy."""

from typing import Self

import keras
import numpy as np
import tensorflow as tf

from tfsac import networks, policy, sql
from tfsac.box_policy import BoxPolicy, nan_where
from tfsac.sampler import each_action, each_q
from tfsac.spaces import Flattener

__all__ = ["SamplerPolicy"]

# Actions that the deterministic one is the best of.
_CANDIDATES = 32
# Actions over which the energy is normalised.
_NORMALISERS = 256


class SamplerPolicy(BoxPolicy):
    """Samples by a network, approximately from exp((Q - V) / alpha).

    Its deterministic action is the one of largest Q among those that the
    network makes of 32 fixed draws of noise, spread evenly: an estimate of the
    most likely action. (A mean would be of no use: between two modes there is
    none.)

    The network has no density, so log densities are those of the policy that
    it approximates: `(Q(s, a) - V(s)) / alpha` by the critics of now, with V
    estimated from 256 actions that are spread evenly over [-1, 1]^A. They
    integrate to 1 only as far as these can tell, and in many dimensions they
    cannot.

    Args:
        actor: Keras model, rows and noise to actions before tanh.
        critic: Keras model, rows and actions to values `[N, B]`.
        log_alpha: Variable of the temperature.
        flatten: Turns observations into rows.
        scale: Maps [-1, 1] to the environment's units.
        seed: Of the noise in `predict`.
    """

    def __init__(
        self,
        actor: keras.Model,
        critic: keras.Model,
        log_alpha: keras.Variable,
        flatten: Flattener,
        scale: policy.ActionScale,
        seed: int,
    ):
        super().__init__(actor, flatten, scale, seed)
        self.critic = critic
        self.log_alpha = log_alpha
        self._candidates = _spread_noise(_CANDIDATES, len(scale.low))
        # As numbers, so that where it is exported to needs no error function.
        self._normalisers = [
            each.numpy()
            for each in sql.uniform_proposals(
                tf.constant(_spread_noise(_NORMALISERS, len(scale.low)))
            )
        ]

    @property
    def variables(self) -> list[keras.Variable]:
        """Those that actions and densities depend on."""
        critic = self.critic.variables
        return [*self.actor.variables, *critic, self.log_alpha]

    def clone(self) -> Self:
        """Returns the same policy with an actor of its own."""
        inputs = networks.example_inputs(self.flatten, len(self.scale.low))
        return type(self)(
            networks.clone(self.actor, inputs),
            self.critic,
            self.log_alpha,
            self.flatten,
            self.scale,
            self._predict_seed,
        )

    def _deterministic(self, rows: tf.Tensor) -> tf.Tensor:
        rows = policy.bounded(rows)
        noise = _for_each(rows, self._candidates)
        action = tf.tanh(each_action(self.actor, rows, noise))
        q = tf.reduce_min(each_q(self.critic, rows, action), axis=0)
        best = tf.gather(action, tf.argmax(q, axis=1), batch_dims=1)
        return nan_where(rows, self.scale.to_env(best))

    def sample(
        self, rows: tf.Tensor, noise: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Actions made by given noise, and the log densities they should have.

        Args:
            rows: `[B, O]`.
            noise: `[B, A]`, standard normal.

        Returns:
            Actions `[B, A]` and, per volume of the same units, nats `[B]`.
        """
        rows = policy.bounded(rows)
        action = tf.tanh(self.actor((rows, noise)))
        log_prob = self._log_density(rows, action) - self.scale.log_volume
        return nan_where(rows, self.scale.to_env(action)), log_prob

    def _log_prob(self, rows: np.ndarray, actions: np.ndarray) -> tf.Tensor:
        unit = tf.cast(actions, tf.float32)
        log_density = self._log_density(policy.bounded(rows), unit)
        return tf.cast(log_density, tf.float64)

    def _log_density(self, rows: tf.Tensor, action: tf.Tensor) -> tf.Tensor:
        """(Q(s, a) - V(s)) / alpha, `[B]`, of actions `[B, A]`."""
        alpha = tf.exp(self.log_alpha)
        q = tf.reduce_min(self.critic((rows, action)), axis=0)
        proposals, log_density = (
            _for_each(rows, each) for each in self._normalisers
        )
        q_of_all = each_q(self.critic, rows, proposals)
        return (q - sql.soft_value(q_of_all, log_density, alpha)) / alpha


def _spread_noise(count: int, size: int) -> np.ndarray:
    """Noise `[count, size]` that fills the normal distribution evenly."""
    uniform = tf.math.sobol_sample(size, count)
    return tf.math.ndtri(uniform).numpy()


def _for_each(rows: tf.Tensor, constants: np.ndarray) -> tf.Tensor:
    """The same constants `[M, ...]` for each row, `[B, M, ...]`."""
    return tf.repeat(constants[np.newaxis], tf.shape(rows)[0], axis=0)
