"""The mathematics of Soft Actor-Critic, one equation a line.

Pure functions in the order of Algorithm 1 of SAC 2018b. They know neither
networks nor environments: values and log-probabilities come in, losses go out.

| symbol    | name                         | shape    | meaning              |
|-----------|------------------------------|----------|----------------------|
| r         | `reward`                     | `[B]`    | after reward scaling |
| d         | `terminated`                 | `[B]`    | 1 where the MDP really ended, never for a time limit |
| gamma     | `discount`                   | `[]`     | in [0, 1]            |
| Q_i       | `q`                          | `[N, B]` | the critic ensemble  |
| V         | `value`                      | `[B]`    | soft value: with the entropy of s |
| y         | `target_q`                   | `[B]`    | what the critics regress on |
| log pi    | `log_prob`                   | `[B]`    | nats, density over [-1, 1]^A |
| alpha     | `alpha = exp(log_alpha)`     | `[]`     | temperature, reward units per nat |
| H-bar     | `target_entropy`             | `[]`     | nats                 |
| tau       | `tau`                        | `[]`     | soft target step     |

With n discrete actions Q_i is `[N, B, n]` and log pi `[B, n]`, a probability,
where all of them are meant; V is then exact.

Sources: SAC 2018a (arXiv 1801.01290), SAC 2018b (arXiv 1812.05905), 2019 for
discrete actions (arXiv 1910.07207); `seed eq.` are the equations of the
explanation that the project grew from, see docs/sac.md, which also lists how
other implementations differ.
"""  # noqa: E501

from collections.abc import Iterable

import tensorflow as tf

__all__ = [
    "actor_loss",
    "critic_loss",
    "expected_log_prob",
    "soft_q_target",
    "soft_update",
    "soft_value",
    "soft_value_discrete",
    "temperature_loss",
]


def soft_value(
    q: tf.Tensor, log_prob: tf.Tensor, alpha: tf.Tensor
) -> tf.Tensor:
    """The value of a state, from one action of its policy (2018b eq. 3).

    `V(s) = min_i Q_i(s, a) - alpha log pi(a|s)`, with a drawn from the policy
    at s: an estimate whose mean over a is the policy's value.

    Args:
        q: `[N, B]`, the ensemble's values of (s, a).
        log_prob: `[B]`, log pi(a|s).
        alpha: `[]`; 0 leaves the entropy out.

    Returns:
        `value`, `[B]`.
    """
    _assert_shapes(q, log_prob)
    return tf.reduce_min(q, axis=0) - alpha * log_prob


def soft_value_discrete(
    q: tf.Tensor, log_probs: tf.Tensor, alpha: tf.Tensor
) -> tf.Tensor:
    """The same exactly, where actions can be counted (2019, sec. 3).

    `V(s) = sum_a pi(a|s) (min_i Q_i(s, a) - alpha log pi(a|s))`, which has its
    largest value, `alpha log sum_a exp(min_i Q_i(s, a) / alpha)`, at the
    energy-based policy.

    Args:
        q: `[N, B, n]`, the ensemble's values of every action.
        log_probs: `[B, n]`, log pi(.|s).
        alpha: `[]`; 0 leaves the entropy out.

    Returns:
        `value`, `[B]`.
    """
    _assert_discrete_shapes(q, log_probs)
    gain = tf.reduce_min(q, axis=0) - alpha * log_probs
    return tf.reduce_sum(tf.exp(log_probs) * gain, axis=-1)


def expected_log_prob(log_probs: tf.Tensor) -> tf.Tensor:
    """Minus the entropy of each state's policy, where actions can be counted.

    `E log pi(a|s) = sum_a pi(a|s) log pi(a|s)`

    Args:
        log_probs: `[B, n]`, log pi(.|s).

    Returns:
        `log_prob`, `[B]`, what a sampled action's is in the mean.
    """
    return tf.reduce_sum(tf.exp(log_probs) * log_probs, axis=-1)


def soft_q_target(
    reward: tf.Tensor,
    terminated: tf.Tensor,
    next_value: tf.Tensor,
    discount: float,
) -> tf.Tensor:
    """The soft Bellman target (2018b eqs. 2 and 5; seed eq. 6).

    `y = r + gamma (1 - d) V(s')`, with V by the target ensemble. No gradient
    passes.

    Args:
        reward: `[B]`.
        terminated: `[B]`, 1. where the episode ended in a terminal state.
        next_value: `[B]`, the soft value of s'.
        discount: gamma.

    Returns:
        `target_q`, `[B]`.
    """
    _assert_shapes(None, reward, terminated, next_value)
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


def actor_loss(value: tf.Tensor) -> tf.Tensor:
    """The projection on the energy-based policy (2018b eqs. 7 and 9).

    `J_pi = -mean_B V(s) = mean_B E (alpha log pi(a|s) - min_i Q_i(s, a))`: the
    actor climbs the value that the target is made of. For a sampled action the
    gradient comes by the reparameterisation trick, through both terms.

    Args:
        value: `[B]`, the soft value of s by the critics of now.

    Returns:
        The loss, `[]`.
    """
    _assert_shapes(None, value)
    return -tf.reduce_mean(value)


def temperature_loss(
    log_alpha: tf.Tensor, log_prob: tf.Tensor, target_entropy: float
) -> tf.Tensor:
    """The constraint on the entropy (2018b eq. 18, in log alpha for alpha).

    `J_alpha = -log_alpha * mean_B (log pi(a|s) + H-bar)`: alpha rises while the
    entropy is below its target. No gradient passes to the policy.

    Args:
        log_alpha: `[]`.
        log_prob: `[B]`, log pi(a|s) of the actor loss's own sample, or its
            expectation.
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


def _assert_shapes(q: tf.Tensor | None, *per_sample: tf.Tensor) -> None:
    """Q is `[N, B]` and the others `[B]`: checked when the step is traced."""
    shapes: list[tuple[tf.Tensor, tuple[str, ...]]] = [
        (value, ("B",)) for value in per_sample
    ]
    tf.debugging.assert_shapes(
        shapes if q is None else [(q, ("N", "B")), *shapes],
        message="sac: values of the ensemble are [N, B], of a sample [B].",
    )


def _assert_discrete_shapes(q: tf.Tensor, log_probs: tf.Tensor) -> None:
    tf.debugging.assert_shapes(
        [(q, ("N", "B", "n")), (log_probs, ("B", "n"))],
        message="sac: values of n actions are [N, B, n], their policy [B, n].",
    )
