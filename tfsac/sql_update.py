"""One update of soft Q-learning: the inner loop of Algorithm 1 of SQL."""

from typing import TYPE_CHECKING

import tensorflow as tf

from tfsac import sac, sql
from tfsac.networks import averaged
from tfsac.optimizers import descend, watching
from tfsac.sac_update import regress_critics
from tfsac.sampler import each_action, each_q
from tfsac.transition import Transition

if TYPE_CHECKING:
    from tfsac.sql_agent import SoftQLearning

__all__ = ["METRICS", "update"]

METRICS = (
    "loss",
    "critic_loss",
    "stein_gradient",
    "alpha",
    "entropy",
    "q_mean",
    "value_mean",
)


def update(
    agent: "SoftQLearning", batch: Transition, noise: tf.Tensor
) -> tf.Tensor:
    """Runs one update of critics, sampling network and target critics.

    The sampling network sees the updated critics.

    Args:
        agent: Owner of the networks, optimizers, `log_alpha` and `config`.
        batch: Fields `[B, ...]`.
        noise: `[B, M + K, A]`, standard normal: for the particles, and for the
            proposals that the value is estimated from.

    Returns:
        The metrics in the order of `METRICS`, as many.
    """
    alpha = tf.exp(agent.log_alpha)
    num_particles = agent.config.num_particles
    next_value, next_entropy = _evaluate_next(
        agent, batch, noise[:, num_particles:], alpha
    )
    target_q = sac.soft_q_target(
        agent.config.reward_scale * batch.reward,
        tf.cast(batch.terminated, tf.float32),
        next_value,
        agent.config.discount,
    )
    critic_loss, q = regress_critics(agent, batch, target_q)
    direction = _update_actor(agent, batch, noise[:, :num_particles], alpha)
    sac.soft_update(
        averaged(agent.target_critic),
        averaged(agent.critic),
        agent.config.tau,
    )
    metrics = {
        "loss": critic_loss,
        "critic_loss": critic_loss,
        "stein_gradient": tf.sqrt(tf.reduce_mean(direction**2)),
        "alpha": alpha,
        "entropy": tf.reduce_mean(next_entropy),
        "q_mean": tf.reduce_mean(q),
        "value_mean": tf.reduce_mean(next_value),
    }
    return tf.stack([metrics[name] for name in METRICS])


def _evaluate_next(
    agent: "SoftQLearning",
    batch: Transition,
    noise: tf.Tensor,
    alpha: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """The soft values of s' and the entropies of its policy, `[B]` each."""
    action, log_density = sql.uniform_proposals(noise)
    q = each_q(agent.target_critic, batch.next_observation, action)
    value = sql.soft_value(q, log_density, alpha)
    return value, sql.soft_entropy(q, log_density, alpha)


def _update_actor(
    agent: "SoftQLearning",
    batch: Transition,
    noise: tf.Tensor,
    alpha: tf.Tensor,
) -> tf.Tensor:
    """One step of the sampling network; returns Stein's gradient."""
    variables = agent.actor.trainable_variables
    observation = batch.observation
    with watching(variables) as tape:
        particles = each_action(agent.actor, observation, noise, training=True)
        direction = _stein_gradient(
            agent, observation, tf.stop_gradient(particles), alpha
        )
        loss = sql.sampler_loss(particles, direction)
    descend(agent.actor_optimizer, tape, loss, variables)
    return direction


def _stein_gradient(
    agent: "SoftQLearning",
    observation: tf.Tensor,
    particles: tf.Tensor,
    alpha: tf.Tensor,
) -> tf.Tensor:
    """Where the particles, `[B, M, A]`, should move by the critics of now."""
    action = tf.tanh(particles)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(action)
        q = tf.reduce_min(each_q(agent.critic, observation, action), axis=0)
    score = sql.score(tape.gradient(q, action), action, alpha)
    return sql.stein_gradient(particles, score)
