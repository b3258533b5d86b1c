"""One compiled call of the train step: K times the inner loop of Algorithm 1.

`update` reads like SAC 2018b's Algorithm 1; `compile_step` puts K of them
into one `tf.function`, by default compiled by XLA.
"""

import contextlib
from collections.abc import Callable, Iterator
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
    alpha = tf.exp(agent.log_alpha)
    critic_loss, q = _update_critics(agent, batch, noise[0], alpha)
    delay = agent.config.policy_delay
    is_due = delay == 1 or agent.critic_optimizer.iterations % delay == 0
    actor_loss, log_prob = _update_actor(agent, batch, noise[1], alpha, is_due)
    temperature_loss = _update_temperature(agent, log_prob, is_due)
    sac.soft_update(
        _averaged(agent.target_critic),
        _averaged(agent.critic),
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
    # a' and log pi(a'|s') are drawn together: one cannot be had of the other.
    next_action, next_log_prob = policy.sample(
        *agent.policy.gaussian(batch.next_observation), noise
    )
    target_q = sac.soft_q_target(
        config.reward_scale * batch.reward,
        tf.cast(batch.terminated, tf.float32),
        agent.target_critic((batch.next_observation, next_action)),
        next_log_prob,
        alpha,
        config.discount,
        config.backup_entropy,
    )
    action = agent.scale.from_env(batch.action)
    variables = agent.critic.trainable_variables
    with _tape(variables) as tape:
        q = agent.critic((batch.observation, action), training=True)
        loss = sac.critic_loss(q, target_q)
    _descend(agent.critic_optimizer, tape, loss, variables)
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
    with _tape(variables) as tape:  # not the critics': they stay as they are
        mean, log_std = agent.policy.gaussian(batch.observation, training=True)
        action, log_prob = policy.sample(mean, log_std, noise)
        q = agent.critic((batch.observation, action))
        loss = sac.actor_loss(log_prob, q, alpha)
    _descend(agent.actor_optimizer, tape, loss, variables, is_due)
    return loss, log_prob


def _update_temperature(
    agent: "SAC", log_prob: tf.Tensor, is_due: bool | tf.Tensor
) -> tf.Tensor:
    """One gradient step of log alpha, unless it is fixed; returns the loss."""
    if agent.temperature_optimizer is None:
        return tf.constant(0.0)
    variables = [agent.log_alpha]
    with _tape(variables) as tape:
        loss = sac.temperature_loss(
            agent.log_alpha.value, log_prob, agent.target_entropy
        )
    _descend(agent.temperature_optimizer, tape, loss, variables, is_due)
    return loss


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
    # Some 50 variables are captured. To look at each of them for a tape, and
    # at the arguments' signature, would take 6% of a call with K = 1.
    concrete = function.get_concrete_function(*batches)
    call, captured = concrete.inference_fn.call_flat, concrete.captured_inputs
    return lambda batches: call(*batches, *captured)[0]


@contextlib.contextmanager
def _tape(variables: list[keras.Variable]) -> Iterator[tf.GradientTape]:
    """Records what depends on these variables, and on no others."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(_values(variables))
        yield tape


def _descend(
    optimizer: keras.optimizers.Optimizer,
    tape: tf.GradientTape,
    loss: tf.Tensor,
    variables: list[keras.Variable],
    is_due: bool | tf.Tensor = True,
) -> None:
    """One gradient step on `loss`, if it is due."""

    def step() -> None:
        optimizer.apply(tape.gradient(loss, _values(variables)), variables)

    if is_due is True:
        step()
    else:
        tf.cond(is_due, step, lambda: None)


def _values(variables: list[keras.Variable]) -> list[tf.Variable]:
    return [variable.value for variable in variables]


def _averaged(model: keras.Model) -> list[tf.Variable]:
    """What the soft update averages: all floats, normalisation's state too."""
    return [v.value for v in model.variables if v.dtype.startswith("float")]
