"""The mathematics of Soft Actor-Critic, one equation a line.

Pure functions in the order of Algorithm 1 of SAC 2018b. They know neither
networks nor environments: values and log-probabilities come in, losses go out.

| symbol    | name                         | shape    | meaning              |
|-----------|------------------------------|----------|----------------------|
| r         | `reward`                     | `[B]`    | after reward scaling |
| d         | `terminated`                 | `[B]`    | 1 where the MDP really ended, never for a time limit |
| gamma     | `discount`                   | `[]`     | in [0, 1]            |
| Q_i       | `q`                          | `[N, B]` | the critic ensemble  |
| y         | `target_q`                   | `[B]`    | what the critics regress on |
| log pi    | `log_prob`                   | `[B]`    | nats, density over [-1, 1]^A |
| alpha     | `alpha = exp(log_alpha)`     | `[]`     | temperature, reward units per nat |
| H-bar     | `target_entropy`             | `[]`     | nats                 |
| tau       | `tau`                        | `[]`     | soft target step     |

Sources: SAC 2018a (arXiv 1801.01290), SAC 2018b (arXiv 1812.05905); `seed eq.`
are the equations of the explanation that the project grew from, see
docs/sac.md, which also lists how other implementations differ.
"""  # noqa: E501

from collections.abc import Iterable

import tensorflow as tf

__all__ = [
    "actor_loss",
    "critic_loss",
    "soft_q_target",
    "soft_update",
    "temperature_loss",
]


def soft_q_target(
    reward: tf.Tensor,
    terminated: tf.Tensor,
    next_q: tf.Tensor,
    next_log_prob: tf.Tensor,
    alpha: tf.Tensor,
    discount: float,
    backup_entropy: bool = True,
) -> tf.Tensor:
    """The soft Bellman target (2018b eqs. 2, 3 and 5; seed eq. 6).

    `y = r + gamma (1 - d) (min_i Q'_i(s', a') - alpha log pi(a'|s'))`, with a'
    drawn from the policy at s' and Q' the target ensemble. No gradient passes.

    Args:
        reward: `[B]`.
        terminated: `[B]`, 1. where the episode ended in a terminal state.
        next_q: `[N, B]`, the target ensemble's values of (s', a').
        next_log_prob: `[B]`, log pi(a'|s').
        alpha: `[]`.
        discount: gamma.
        backup_entropy: Whether the next action's entropy is part of its value.
            Defaults to `True`.

    Returns:
        `target_q`, `[B]`.
    """
    _assert_shapes(next_q, reward, terminated, next_log_prob)
    next_value = tf.reduce_min(next_q, axis=0)
    if backup_entropy:
        next_value = next_value - alpha * next_log_prob
    return tf.stop_gradient(reward + discount * (1.0 - terminated) * next_value)


def critic_loss(q: tf.Tensor, target_q: tf.Tensor) -> tf.Tensor:
    """The soft Bellman residual (2018b eq. 5, without its factor 1/2).

    `J_Q = sum_i mean_B (Q_i(s, a) - y)**2`

    Args:
        q: `[N, B]`.
        target_q: `[B]`.

    Returns:
        The loss, `[]`.
    """
    _assert_shapes(q, target_q)
    return tf.reduce_sum(tf.reduce_mean((q - target_q) ** 2, axis=1))


def actor_loss(
    log_prob: tf.Tensor, q: tf.Tensor, alpha: tf.Tensor
) -> tf.Tensor:
    """The projection on the energy-based policy (2018b eqs. 7 and 9).

    `J_pi = mean_B (alpha log pi(a|s) - min_i Q_i(s, a))`, with a drawn from
    the policy at s by the reparameterisation trick, so that the gradient
    reaches the actor through both terms.

    Args:
        log_prob: `[B]`, log pi(a|s).
        q: `[N, B]`, the ensemble's values of (s, a).
        alpha: `[]`.

    Returns:
        The loss, `[]`.
    """
    _assert_shapes(q, log_prob)
    return tf.reduce_mean(alpha * log_prob - tf.reduce_min(q, axis=0))


def temperature_loss(
    log_alpha: tf.Tensor, log_prob: tf.Tensor, target_entropy: float
) -> tf.Tensor:
    """The constraint on the entropy (2018b eq. 18, in log alpha for alpha).

    `J_alpha = -log_alpha * mean_B (log pi(a|s) + H-bar)`: alpha rises while the
    entropy is below its target. No gradient passes to the policy.

    Args:
        log_alpha: `[]`.
        log_prob: `[B]`, log pi(a|s) of the actor loss's own sample.
        target_entropy: H-bar, nats.

    Returns:
        The loss, `[]`.
    """
    excess = tf.stop_gradient(tf.reduce_mean(log_prob + target_entropy))
    return -log_alpha * excess


def soft_update(
    target: Iterable[tf.Variable], source: Iterable[tf.Variable], tau: float
) -> None:
    """Moves the target variables towards the source (Algorithm 1, last line).

    `Q' <- tau Q + (1 - tau) Q'`

    Args:
        target: Variables of the target critics.
        source: The critics' variables, in the same order.
        tau: In (0, 1].
    """
    for q_target, q in zip(target, source, strict=True):
        q_target.assign(tau * q + (1.0 - tau) * q_target)


def _assert_shapes(q: tf.Tensor, *per_sample: tf.Tensor) -> None:
    """Q is `[N, B]` and the others `[B]`: checked when the step is traced."""
    tf.debugging.assert_shapes(
        [(q, ("N", "B")), *((value, ("B",)) for value in per_sample)],
        message="sac: values of the ensemble are [N, B], of a sample [B].",
    )
