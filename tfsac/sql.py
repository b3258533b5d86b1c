"""The mathematics of soft Q-learning, one equation a line.

Pure functions in the order of Algorithm 1 of SQL (arXiv 1702.08165), beside
those of `sac`, whose symbols and Bellman target they share. Numbers in brackets
are its equations.

| symbol    | name         | shape       | meaning                            |
|-----------|--------------|-------------|------------------------------------|
| Q_i       | `q`          | `[N, B, K]` | the ensemble's values of K actions in each state |
| log q     | `log_density`| `[B, K]`    | nats, of these actions over [-1, 1]^A |
| V         | `value`      | `[B]`       | soft value                         |
| u         | `particles`  | `[B, M, A]` | actions of the sampling network before tanh |
| a         | `action`     | `[B, M, A]` | tanh(u)                            |
| s         | `score`      | `[B, M, A]` | d log p(u) / du                    |
| kappa, h  | `kernel`, `bandwidth` | `[B, M, M]`, `[B]` | how much particles matter to each other |
| alpha     | `alpha`      | `[]`        | temperature, reward units per nat  |

**Particles live before tanh**, in all of R^A. There the energy-based policy has
the density p(u) = exp((Q(tanh u) - V) / alpha) prod_j (1 - tanh(u_j)^2), which
vanishes at infinity. Stein's identity, by which the update comes to rest where
particles are distributed as p, needs that: it is integration by parts. In
[-1, 1]^A the density does not vanish at the bounds, and particles would be
pushed against them.
"""  # noqa: E501

import math

import tensorflow as tf

__all__ = [
    "median_bandwidth",
    "sampler_loss",
    "score",
    "soft_entropy",
    "soft_value",
    "stein_gradient",
    "uniform_proposals",
]

# Below it a bandwidth is 0: all particles are in one place.
_MIN_BANDWIDTH = 1e-6
_INFINITY_BITS = 0x7F800000


def uniform_proposals(noise: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Uniform actions, and their log density.

    `a = 2 Phi(eps) - 1 = erf(eps / sqrt 2)`, with Phi the distribution
    function of eps, so that all noise of an update is of one kind.

    Args:
        noise: eps, `[B, K, A]`, standard normal.

    Returns:
        The actions in [-1, 1], `[B, K, A]`, and log q = -A log 2, `[B, K]`.
    """
    log_density = -noise.shape[-1] * math.log(2)
    action = tf.math.erf(noise * math.sqrt(0.5))
    return action, tf.fill(tf.shape(noise)[:-1], log_density)


def soft_value(
    q: tf.Tensor, log_density: tf.Tensor, alpha: tf.Tensor
) -> tf.Tensor:
    """The soft value by importance sampling (10).

    `V(s) = alpha log mean_k exp(min_i Q_i(s, a_k) / alpha) / q(a_k|s)`, for
    actions drawn from q. It errs on the low side, by Jensen's inequality, the
    less so the more actions there are and the more alike q is to pi.

    Args:
        q: `[N, B, K]`, of actions drawn from a known density.
        log_density: log q, `[B, K]`.
        alpha: `[]`.

    Returns:
        V, `[B]`.
    """
    log_weight = _log_weight(q, log_density, alpha)
    log_sum = tf.reduce_logsumexp(log_weight, axis=1)
    return alpha * (log_sum - math.log(q.shape[2]))


def soft_entropy(
    q: tf.Tensor, log_density: tf.Tensor, alpha: tf.Tensor
) -> tf.Tensor:
    """The entropy of the energy-based policy, by the same sampling.

    `H = E_pi[-log pi(a|s)] = (V(s) - E_pi[Q(s, a)]) / alpha` (6), with the mean
    by self-normalised importance weights.

    Args:
        q: As for `soft_value`.
        log_density: As for `soft_value`.
        alpha: `[]`.

    Returns:
        Nats over [-1, 1]^A, `[B]`.
    """
    weight = tf.nn.softmax(_log_weight(q, log_density, alpha), axis=1)
    mean_q = tf.reduce_sum(weight * tf.reduce_min(q, axis=0), axis=1)
    return (soft_value(q, log_density, alpha) - mean_q) / alpha


def score(
    q_gradient: tf.Tensor, action: tf.Tensor, alpha: tf.Tensor
) -> tf.Tensor:
    """The gradient of the log density that particles should have.

    `s = d log p(u) / du = (1 - a^2) dQ/da / alpha - 2 a`, with a = tanh(u): the
    second term is the gradient of log(1 - tanh(u)^2).

    Args:
        q_gradient: d min_i Q_i / da, `[B, M, A]`.
        action: a, `[B, M, A]`.
        alpha: `[]`.

    Returns:
        s, `[B, M, A]`.
    """
    return (1.0 - action**2) * q_gradient / alpha - 2.0 * action


def median_bandwidth(squared_distance: tf.Tensor) -> tf.Tensor:
    """The bandwidth of the kernel, by the median heuristic.

    `h = median_{i < j} |u_i - u_j|^2 / log M`, so that by and large the M
    particles together matter to each as much as itself: that of Liu and Wang
    2016 (arXiv 1608.04471), section 5, and of the authors' code. Appendix D.1
    of SQL has the median distance, not squared, over 2 log(M + 1).

    Args:
        squared_distance: `[B, M, M]`.

    Returns:
        h, `[B]`.
    """
    size = squared_distance.shape[2]
    pairs = size * (size - 1) // 2
    # Each pair is in it twice, and before them the zeros of the diagonal.
    median = _smallest(squared_distance, rank=size + 2 * (pairs // 2) + 1)
    return tf.maximum(median / math.log(size), _MIN_BANDWIDTH)


def stein_gradient(particles: tf.Tensor, score: tf.Tensor) -> tf.Tensor:
    """Where each particle should move, by Stein's method (13, appendix C.1).

    `Delta_j = mean_{i != j} (kappa(u_i, u_j) s_i + d kappa(u_i, u_j) / du_i)`
    with `kappa(u, u') = exp(-|u - u'|^2 / h)`: the first term draws particles
    to where the density is high, the second parts them. It is (13) over alpha.
    No particle is its own neighbour: so, for a given bandwidth, the mean is 0
    over particles drawn from p, whatever their number. That the bandwidth is
    theirs too leaves a bias, which is small from 8 particles on.

    Args:
        particles: u, `[B, M, A]`.
        score: s at each, `[B, M, A]`.

    Returns:
        Delta, `[B, M, A]`.
    """
    tf.debugging.assert_shapes(
        [(particles, ("B", "M", "A")), (score, ("B", "M", "A"))],
        message="sql: particles and their scores are [B, M, A].",
    )
    size = particles.shape[1]
    difference = particles[:, :, tf.newaxis] - particles[:, tf.newaxis]
    squared_distance = tf.reduce_sum(difference**2, axis=3)
    bandwidth = median_bandwidth(squared_distance)[:, tf.newaxis, tf.newaxis]
    kernel = tf.exp(-squared_distance / bandwidth) * (1.0 - tf.eye(size))
    slope = -2.0 * (kernel / bandwidth)[..., tf.newaxis] * difference
    driven = tf.matmul(kernel, score)  # the kernel is symmetric
    return (driven + tf.reduce_sum(slope, axis=1)) / (size - 1)


def sampler_loss(particles: tf.Tensor, direction: tf.Tensor) -> tf.Tensor:
    """What the sampling network descends (14).

    `J = -mean_{B, M} Delta . f(eps; s)`, whose gradient is (14), with Delta
    frozen: its value means nothing.

    Args:
        particles: u = f(eps; s), `[B, M, A]`.
        direction: Delta, `[B, M, A]`.

    Returns:
        The loss, `[]`.
    """
    along = tf.reduce_sum(tf.stop_gradient(direction) * particles, axis=2)
    return -tf.reduce_mean(along)


def _log_weight(
    q: tf.Tensor, log_density: tf.Tensor, alpha: tf.Tensor
) -> tf.Tensor:
    """Log of exp(min Q / alpha) / q, `[B, K]`."""
    tf.debugging.assert_shapes(
        [(q, ("N", "B", "K")), (log_density, ("B", "K"))],
        message="sql: values of K actions are [N, B, K], densities [B, K].",
    )
    return tf.reduce_min(q, axis=0) / alpha - log_density


def _smallest(values: tf.Tensor, rank: int) -> tf.Tensor:
    """The number of that rank, from 1, in each `[M, M]` of `[B, M, M]`.

    None may be negative: then their bits are integers in the same order, whose
    range is halved until one is left. XLA takes five times as long to sort.
    """
    bits = tf.bitcast(values, tf.int32)
    low = tf.zeros_like(bits[:, 0, 0])
    high = low + _INFINITY_BITS
    for _ in range(31):
        middle = low + (high - low) // 2
        is_below = tf.cast(bits <= middle[:, tf.newaxis, tf.newaxis], tf.int32)
        is_enough = tf.reduce_sum(is_below, axis=[1, 2]) >= rank
        low = tf.where(is_enough, low, middle + 1)
        high = tf.where(is_enough, middle, high)
    return tf.bitcast(high, tf.float32)
