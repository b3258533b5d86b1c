"""Exact maximum entropy solutions of finite Markov decision processes.

Pure functions of float64 NumPy arrays, without samples or networks: what soft
Q-learning and SAC approximate, to the last digits. docs/maximum-entropy.md
derives the equations in the order of this file.

| symbol    | name         | shape       | meaning                            |
|-----------|--------------|-------------|------------------------------------|
| p         | `transition` | `[S, A, S]` | probability of s', given s and a   |
| r         | `reward`     | `[S, A]`    | expected reward of a in s          |
| d         | `terminal`   | `[S]`       | of s': arriving there ends the episode |
| gamma     | `discount`   | `[]`        | in [0, 1)                          |
| alpha     | `alpha`      | `[]`        | temperature, reward units per nat; 0 is ordinary reinforcement learning |
| pi        | `policy`     | `[S, A]`    | probability of a, given s          |
| Q         | `q`          | `[S, A]`    | soft value of a in s, without the entropy of s itself |
| V         | `value`      | `[S]`       | soft value of s, with it           |
| H         | `entropy`    | `[S]`       | of the policy, nats                |

Sources: SQL (soft Q-learning, arXiv 1702.08165), SAC 2018b (arXiv 1812.05905);
`seed eq.` are the equations of the explanation that the project grew from.

Each function raises a `ValueError` if an argument is out of its range or shapes
do not fit.
"""  # noqa: E501

import dataclasses
import math

import numpy as np
import numpy.typing as npt

from tfsac.mdp import MDP, distributions, finite

__all__ = [
    "MDP",
    "energy_based_policy",
    "entropy",
    "folded_soft_backup",
    "policy_value",
    "soft_backup",
    "soft_optimality_backup",
    "soft_policy_evaluation",
    "soft_policy_iteration",
    "soft_reward",
    "soft_value",
    "soft_value_iteration",
]


def soft_value(q: npt.ArrayLike, alpha: float) -> np.ndarray:
    """The soft maximum of Q over actions (SQL eq. 5; seed eq. 16).

    `V(s) = alpha log sum_a exp(Q(s, a) / alpha)`, which lies between `max Q`,
    its limit for alpha = 0, and `max Q + alpha log A`.

    Example:

    ```python
    tfsac.tabular.soft_value([[np.log(3.0), np.log(2.0)]], 1.0)  # [log 5]
    ```

    Args:
        q: `[S, A]`; or `[..., A]`.
        alpha: Temperature, at least 0.

    Returns:
        `value`, `[S]`; or `[...]`.
    """
    greatest, weights = _boltzmann(q, alpha)
    return greatest + alpha * np.log(weights.sum(axis=-1))


def energy_based_policy(q: npt.ArrayLike, alpha: float) -> np.ndarray:
    """The best policy for Q: Boltzmann's distribution (SQL eq. 6; seed eq. 14).

    `pi(a|s) = exp((Q(s, a) - V(s)) / alpha)`, with V the soft maximum; so it is
    proportional to `exp(Q(s, a) / alpha)` (seed eq. 13): the energy of an
    action is `-Q / alpha`. Of all policies it has the largest
    `E[Q(s, a)] + alpha H(pi(.|s))`, and that is V(s). For alpha = 0 it is
    uniform over the best actions.

    With Q^pi for Q this is soft policy improvement: no state and action has a
    smaller value than with pi (SQL theorem 4; SAC 2018b lemma 2).

    Args:
        q: `[S, A]`; or `[..., A]`.
        alpha: Temperature, at least 0.

    Returns:
        `policy`, of the shape of `q`.
    """
    _, weights = _boltzmann(q, alpha)
    return weights / weights.sum(axis=-1, keepdims=True)


def entropy(policy: npt.ArrayLike) -> np.ndarray:
    """The entropy of the policy in each state, in nats.

    `H(pi(.|s)) = -sum_a pi(a|s) log pi(a|s)`, from 0 to log A. An action
    without probability adds nothing.

    Args:
        policy: `[S, A]`; or `[..., A]`.

    Returns:
        `[S]`; or `[...]`.
    """
    policy = distributions("policy", policy)
    log_prob = np.zeros_like(policy)
    np.log(policy, out=log_prob, where=policy > 0)
    return -np.sum(policy * log_prob, axis=-1)


def policy_value(
    q: npt.ArrayLike, policy: npt.ArrayLike, alpha: float
) -> np.ndarray:
    """The soft value of acting by a policy, if Q follows (SAC 2018b eq. 3).

    `V(s) = E_{a ~ pi}[Q(s, a) - alpha log pi(a|s)]`

    Args:
        q: `[S, A]`.
        policy: `[S, A]`.
        alpha: Temperature, at least 0.

    Returns:
        `value`, `[S]`.
    """
    _check_alpha(alpha)
    q = finite("q", q)
    policy = distributions("policy", policy, q.shape)
    return np.sum(policy * q, axis=-1) + alpha * entropy(policy)


def soft_backup(
    mdp: MDP, q: npt.ArrayLike, policy: npt.ArrayLike, alpha: float
) -> np.ndarray:
    """The soft Bellman backup of a policy (SAC 2018b eq. 2; seed eq. 6).

    `Q(s, a) <- r + gamma E_{s', a'}[(1 - d) (Q(s', a') - alpha log pi(a'|s'))]`

    A contraction at rate gamma in the largest difference, with Q^pi as its
    fixed point. `sac.soft_q_target` is the same for one sample.

    Args:
        mdp: The problem.
        q: `[S, A]`, the values before.
        policy: `[S, A]`.
        alpha: Temperature, at least 0.

    Returns:
        The values after, `[S, A]`.
    """
    q = finite("q", q, mdp.reward.shape)
    return _look_ahead(mdp, policy_value(q, policy, alpha))


def soft_reward(mdp: MDP, policy: npt.ArrayLike, alpha: float) -> np.ndarray:
    """The reward with the entropy of the next state folded in (seed eq. 7).

    `r_soft(s, a) = r + gamma alpha E_{s'}[(1 - d) H(pi(.|s'))]`

    Args:
        mdp: The problem.
        policy: `[S, A]`.
        alpha: Temperature, at least 0.

    Returns:
        The reward, `[S, A]`.
    """
    _check_alpha(alpha)
    policy = distributions("policy", policy, mdp.reward.shape)
    return _look_ahead(mdp, alpha * entropy(policy))


def folded_soft_backup(
    mdp: MDP, q: npt.ArrayLike, policy: npt.ArrayLike, alpha: float
) -> np.ndarray:
    """The soft Bellman backup by the soft reward (seed eqs. 5 and 7).

    `Q(s, a) <- r_soft(s, a) + gamma E_{s', a'}[(1 - d) Q(s', a')]`

    The ordinary backup of another reward; `soft_backup` is the same.

    Args:
        mdp: The problem.
        q: `[S, A]`, the values before.
        policy: `[S, A]`.
        alpha: Temperature, at least 0.

    Returns:
        The values after, `[S, A]`.
    """
    reward = soft_reward(mdp, policy, alpha)
    return soft_backup(dataclasses.replace(mdp, reward=reward), q, policy, 0.0)


def soft_policy_evaluation(
    mdp: MDP, policy: npt.ArrayLike, alpha: float
) -> np.ndarray:
    """Q^pi, the soft values of a policy (SAC 2018b lemma 1).

    The reward of the first action, then all rewards and entropies to come:
    `Q(s, a) = r + E[sum_{t > 0} gamma^t (r_t + alpha H(pi(.|s_t)))]`. Lemma 1
    repeats the backup until it changes nothing; here one linear system gives
    that fixed point: V = E_{a ~ pi}[r] + alpha H + gamma E[(1 - d) V(s')].

    Args:
        mdp: The problem.
        policy: `[S, A]`.
        alpha: Temperature, at least 0.

    Returns:
        `q`, `[S, A]`.
    """
    policy = distributions("policy", policy, mdp.reward.shape)
    reward = policy_value(mdp.reward, policy, alpha)
    goes_on = np.einsum("sa,sat->st", policy, mdp.transition) * ~mdp.terminal
    system = np.eye(len(reward)) - mdp.discount * goes_on
    return _look_ahead(mdp, np.linalg.solve(system, reward))


def soft_policy_iteration(mdp: MDP, alpha: float) -> np.ndarray:
    """Q*, by evaluating and improving a policy (SAC 2018b theorem 1).

    From the uniform policy on, in turn `soft_policy_evaluation` and
    `energy_based_policy`, until no value rises. It takes a few turns, and is
    exact but for rounding.

    Example: with the problem in `MDP`'s docstring, where x = exp(V / 2)
    satisfies x^2 = x + 1, staying has the golden ratio's 0.618.

    ```python
    q = tfsac.tabular.soft_policy_iteration(mdp, alpha=1.0)
    tfsac.tabular.soft_value(q, alpha=1.0)[0]  # 0.962 = 2 log 1.618
    tfsac.tabular.energy_based_policy(q, alpha=1.0)[0]  # [0.618, 0.382]
    ```

    Args:
        mdp: The problem.
        alpha: Temperature, at least 0.

    Returns:
        `q`, `[S, A]`; `energy_based_policy` makes the best policy of it,
        `soft_value` the best values of states.
    """
    uniform = np.full(mdp.reward.shape, 1 / mdp.reward.shape[1])
    q = soft_policy_evaluation(mdp, uniform, alpha)
    while True:
        better = energy_based_policy(q, alpha)
        new_q = soft_policy_evaluation(mdp, better, alpha)
        if not np.any(new_q > q):
            return q
        # By theorem 4 nothing falls but by rounding; so the loop must end.
        q = np.maximum(q, new_q)


def soft_optimality_backup(
    mdp: MDP, q: npt.ArrayLike, alpha: float
) -> np.ndarray:
    """The soft Bellman optimality backup (SQL eq. 7).

    `Q(s, a) <- r + gamma E_{s'}[(1 - d) V(s')]`, with V the soft maximum of Q
    (`soft_value`) where Bellman has the maximum. A contraction at rate gamma in
    the largest difference, with Q* as its fixed point.

    Args:
        mdp: The problem.
        q: `[S, A]`, the values before.
        alpha: Temperature, at least 0.

    Returns:
        The values after, `[S, A]`.
    """
    q = finite("q", q, mdp.reward.shape)
    return _look_ahead(mdp, soft_value(q, alpha))


def soft_value_iteration(
    mdp: MDP, alpha: float, tolerance: float = 1e-8
) -> np.ndarray:
    """Q*, by repeating the optimality backup (SQL theorem 3).

    From Q = 0 on, until the last change bounds the error by the tolerance:
    `|Q - Q*| <= gamma / (1 - gamma) |Q - Q_before|` in the largest difference,
    because the backup is a contraction. This is but for rounding, some
    `1e-16 |Q*| / (1 - gamma)`. `soft_policy_iteration` needs fewer steps, each
    with a linear system to solve.

    Args:
        mdp: The problem.
        alpha: Temperature, at least 0.
        tolerance: By how much a value may be wrong, in units of reward, above
            0. Defaults to `1e-8`.

    Returns:
        `q`, `[S, A]`; `energy_based_policy` makes the best policy of it,
        `soft_value` the best values of states.
    """
    if not (math.isfinite(tolerance) and tolerance > 0):
        raise ValueError(
            "tolerance must be a finite number above 0. Received: "
            f"tolerance={tolerance!r}."
        )
    error_per_change = mdp.discount / (1 - mdp.discount)
    q = soft_optimality_backup(mdp, np.zeros_like(mdp.reward), alpha)
    error = bound = error_per_change * np.max(np.abs(q))
    # The error is at most the bound, which shrinks by gamma, but for rounding:
    # where that is larger than the tolerance, the bound ends the loop.
    while error > tolerance and bound > tolerance / 2:
        new_q = soft_optimality_backup(mdp, q, alpha)
        error = error_per_change * np.max(np.abs(new_q - q))
        bound *= mdp.discount
        q = new_q
    return q


def _look_ahead(mdp: MDP, value: np.ndarray) -> np.ndarray:
    """`r + gamma E_{s'}[(1 - d) V(s')]`, `[S, A]`."""
    bootstrap = mdp.transition @ (value * ~mdp.terminal)
    return mdp.reward + mdp.discount * bootstrap


def _boltzmann(q: npt.ArrayLike, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """`max Q`, and `exp((Q - max Q) / alpha)`, its limit if alpha is 0."""
    _check_alpha(alpha)
    q = finite("q", q)
    greatest = q.max(axis=-1, keepdims=True)
    if alpha == 0:
        weights = (q == greatest).astype(np.float64)
    else:
        # An action that is too bad for float64 has no weight.
        with np.errstate(over="ignore", under="ignore"):
            weights = np.exp((q - greatest) / alpha)
    return greatest[..., 0], weights


def _check_alpha(alpha: float) -> None:
    if not (math.isfinite(alpha) and alpha >= 0):
        raise ValueError(
            "alpha must be a finite number of at least 0, where 0 is ordinary "
            f"reinforcement learning. Received: alpha={alpha!r}."
        )
