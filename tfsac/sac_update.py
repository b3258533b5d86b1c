"""One update of Soft Actor-Critic: the inner loop of Algorithm 1 of 2018b."""

from typing import TYPE_CHECKING

import tensorflow as tf

from tfsac import sac
from tfsac.networks import averaged
from tfsac.optimizers import descend, watching
from tfsac.transition import Transition

if TYPE_CHECKING:
    from tfsac.sac_agent import SAC
    from tfsac.sql_agent import SoftQLearning

__all__ = ["METRICS", "regress_critics", "update"]

METRICS = (
    "loss",
    "critic_loss",
    "actor_loss",
    "temperature_loss",
    "alpha",
    "entropy",
    "q_mean",
)


def update(agent: "SAC", batch: Transition, noise: tf.Tensor) -> tf.Tensor:
    """Runs one update of critics, actor, temperature and target critics.

    One alpha, from the start of the update, serves target and actor; the
    actor sees the updated critics; the temperature sees the actor's sample.

    Args:
        agent: Owner of the networks, optimizers, `log_alpha` and `config`.
        batch: Fields `[B, ...]`.
        noise: `[2, B, A]`, standard normal: for the next action and for the
            actor's. `[2, B, 0]` with discrete actions, over which expectations
            are exact.

    Returns:
        The metrics in the order of `METRICS`, `[M]`.
    """
    alpha = tf.exp(agent.log_alpha)
    critic_loss, q = _update_critics(agent, batch, noise[0], alpha)
    delay = agent.config.policy_delay
    is_due = delay == 1 or agent.critic_optimizer.iterations % delay == 0
    actor_loss, log_prob = _update_actor(agent, batch, noise[1], alpha, is_due)
    temperature_loss = _update_temperature(agent, log_prob, is_due)
    sac.soft_update(
        averaged(agent.target_critic),
        averaged(agent.critic),
        agent.config.tau,
    )
    metrics = {
        "loss": critic_loss + actor_loss + temperature_loss,
        "critic_loss": critic_loss,
        "actor_loss": actor_loss,
        "temperature_loss": temperature_loss,
        "alpha": alpha,
        "entropy": -tf.reduce_mean(log_prob),
        "q_mean": tf.reduce_mean(q),
    }
    return tf.stack([metrics[name] for name in METRICS])


def _update_critics(
    agent: "SAC", batch: Transition, noise: tf.Tensor, alpha: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """One gradient step of the critics; returns their loss and Q, `[N, B]`."""
    config = agent.config
    next_value, _ = agent.policy.soft_value(
        agent.target_critic,
        batch.next_observation,
        noise,
        alpha if config.backup_entropy else tf.constant(0.0),
    )
    target_q = sac.soft_q_target(
        config.reward_scale * batch.reward,
        tf.cast(batch.terminated, tf.float32),
        next_value,
        config.discount,
    )
    return regress_critics(agent, batch, target_q)


def regress_critics(
    agent: "SAC | SoftQLearning", batch: Transition, target_q: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """One gradient step of the critics towards their target.

    Args:
        agent: Owner of the critics, their optimizer and the policy.
        batch: Fields `[B, ...]`.
        target_q: `[B]`.

    Returns:
        Their loss, and Q from before the step, `[N, B]`.
    """
    variables = agent.critic.trainable_variables
    with watching(variables) as tape:
        q = agent.policy.action_values(
            agent.critic, batch.observation, batch.action
        )
        loss = sac.critic_loss(q, target_q)
    descend(agent.critic_optimizer, tape, loss, variables)
    return loss, q


def _update_actor(
    agent: "SAC",
    batch: Transition,
    noise: tf.Tensor,
    alpha: tf.Tensor,
    is_due: bool | tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """One gradient step of the actor; returns its loss and log pi, `[B]`."""
    variables = agent.actor.trainable_variables
    with watching(variables) as tape:  # not the critics': they stay as they are
        value, log_prob = agent.policy.soft_value(
            agent.critic, batch.observation, noise, alpha, training=True
        )
        loss = sac.actor_loss(value)
    descend(agent.actor_optimizer, tape, loss, variables, is_due)
    return loss, log_prob


def _update_temperature(
    agent: "SAC", log_prob: tf.Tensor, is_due: bool | tf.Tensor
) -> tf.Tensor:
    """One gradient step of log alpha, unless it is fixed; returns the loss."""
    if agent.temperature_optimizer is None:
        return tf.constant(0.0)
    variables = [agent.log_alpha]
    with watching(variables) as tape:
        loss = sac.temperature_loss(
            agent.log_alpha.value, log_prob, agent.target_entropy
        )
    descend(agent.temperature_optimizer, tape, loss, variables, is_due)
    return loss
