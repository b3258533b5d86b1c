"""One compiled call of the train step: K times the inner loop of Algorithm 1.

`update` reads like SAC 2018b's Algorithm 1; `compile_step` puts K of them
into one `tf.function`, by default compiled by XLA.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import keras
import tensorflow as tf

from tfsac import policy, sac
from tfsac.transition import Transition

if TYPE_CHECKING:
    from tfsac.agent import SAC

__all__ = ["METRICS", "compile_step", "update"]

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
            actor's.

    Returns:
        The metrics in the order of `METRICS`, `[M]`.
    """
    config = agent.config
    critic_weights = agent.critic.trainable_variables
    actor_weights = agent.actor.trainable_variables
    alpha = tf.exp(agent.log_alpha)
    reward = config.reward_scale * batch.reward
    terminated = tf.cast(batch.terminated, tf.float32)
    action = agent.scale.from_env(batch.action)

    # Critics: a' and log pi(a'|s') drawn together, then one gradient step.
    next_action, next_log_prob = policy.sample(
        *agent.policy.gaussian(batch.next_observation), noise[0]
    )
    target_q = sac.soft_q_target(
        reward,
        terminated,
        agent.target_critic((batch.next_observation, next_action)),
        next_log_prob,
        alpha,
        config.discount,
        config.backup_entropy,
    )
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(_values(critic_weights))
        q = agent.critic((batch.observation, action), training=True)
        critic_loss = sac.critic_loss(q, target_q)
    _descend(agent.critic_optimizer, tape, critic_loss, critic_weights)

    # Actor: a new action through the updated critics, which stay as they are.
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(_values(actor_weights))
        mean, log_std = agent.policy.gaussian(batch.observation, training=True)
        new_action, log_prob = policy.sample(mean, log_std, noise[1])
        new_q = agent.critic((batch.observation, new_action))
        actor_loss = sac.actor_loss(log_prob, new_q, alpha)

    # Temperature: on the actor's own sample; a fixed one has no optimizer.
    temperature_loss = tf.constant(0.0)
    if agent.temperature_optimizer is not None:
        with tf.GradientTape(watch_accessed_variables=False) as alpha_tape:
            alpha_tape.watch(agent.log_alpha.value)
            temperature_loss = sac.temperature_loss(
                agent.log_alpha.value, log_prob, agent.target_entropy
            )

    def descend_actor_and_temperature() -> None:
        _descend(agent.actor_optimizer, tape, actor_loss, actor_weights)
        if agent.temperature_optimizer is not None:
            _descend(
                agent.temperature_optimizer,
                alpha_tape,
                temperature_loss,
                [agent.log_alpha],
            )

    if config.policy_delay == 1:
        descend_actor_and_temperature()
    else:
        is_due = agent.critic_optimizer.iterations % config.policy_delay == 0
        tf.cond(is_due, descend_actor_and_temperature, lambda: None)

    sac.soft_update(
        _averaged(agent.target_critic), _averaged(agent.critic), config.tau
    )
    return tf.stack(
        [
            critic_loss + actor_loss + temperature_loss,
            critic_loss,
            actor_loss,
            temperature_loss,
            alpha,
            -tf.reduce_mean(log_prob),
            tf.reduce_mean(q),
        ]
    )


def compile_step(
    agent: "SAC", batches: Transition
) -> Callable[[Transition], tf.Tensor]:
    """Compiles K updates into one call.

    Step counters, temperature and learning rates are variables, so one trace
    serves for ever.

    Args:
        agent: As for `update`; its `jit_compile` says whether XLA compiles.
        batches: An example, fields `[K, B, ...]`.

    Returns:
        A function of such batches that returns the metrics' means over the K
        updates, `[M]`.
    """
    updates = batches.reward.shape[0]
    noise_shape = (2, *batches.action.shape[1:])

    def run(*fields: tf.Tensor) -> tf.Tensor:
        def body(k: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            batch = Transition(*(field[k] for field in fields))
            noise = agent.learning_noise.draw(noise_shape)
            return k + 1, total + update(agent, batch, noise)

        start = (tf.constant(0), tf.zeros([len(METRICS)]))
        if updates == 1:
            _, total = body(*start)
        else:
            _, total = tf.while_loop(lambda k, _: k < updates, body, start)
        return total / updates

    function = tf.function(run, jit_compile=agent.jit_compile, autograph=False)
    # A concrete function skips the check of the signature: 0.5 ms a call.
    concrete = function.get_concrete_function(*batches)
    return lambda batches: concrete(*batches)


def _descend(
    optimizer: keras.optimizers.Optimizer,
    tape: tf.GradientTape,
    loss: tf.Tensor,
    variables: list[keras.Variable],
) -> None:
    """One gradient step on `loss`."""
    optimizer.apply(tape.gradient(loss, _values(variables)), variables)


def _values(variables: list[keras.Variable]) -> list[tf.Variable]:
    return [variable.value for variable in variables]


def _averaged(model: keras.Model) -> list[tf.Variable]:
    """What the soft update averages: all floats, normalisation's state too."""
    return [v.value for v in model.variables if v.dtype.startswith("float")]
