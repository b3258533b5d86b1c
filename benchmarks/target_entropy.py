"""What a target entropy costs in reward, exactly, in random finite problems.

For each share of log n, the temperature is searched at which the optimal
policy has that entropy in the mean over states. `kept` is the part of what the
best policy collects above the uniform one that this policy still collects:
the mean over problems and the least. docs/sac.md draws on it.

    python benchmarks/target_entropy.py --out benchmarks/results/target_entropy.csv
"""  # noqa: E501

import argparse
import pathlib

import common
import numpy as np

from tfsac import tabular

ACTIONS = (2, 4, 18)
SHARES = (0.98, 0.89, 0.7, 0.5, 0.3, 0.1)
PROBLEMS = 40
NUM_STATES, DISCOUNT = 8, 0.95


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--out", metavar="NAME.csv", type=pathlib.Path, required=True
    )
    args = parser.parse_args()
    rows = []
    for actions in ACTIONS:
        problems = [problem(seed, actions) for seed in range(PROBLEMS)]
        for share in SHARES:
            kept = [kept_reward(mdp, share) for mdp in problems]
            rows.append(
                {
                    "actions": actions,
                    "share": share,
                    "kept_mean": round(float(np.mean(kept)), 3),
                    "kept_min": round(float(np.min(kept)), 3),
                }
            )
            print(*(f"{name}: {value}" for name, value in rows[-1].items()))
    common.write_csv(args.out, rows)


def problem(seed: int, num_actions: int) -> tabular.MDP:
    rng = np.random.default_rng(seed)
    size = NUM_STATES, num_actions
    return tabular.MDP(
        transition=rng.dirichlet(np.full(NUM_STATES, 0.3), size),
        reward=rng.normal(size=size),
        terminal=np.zeros(NUM_STATES, bool),
        discount=DISCOUNT,
    )


def kept_reward(mdp: tabular.MDP, share: float) -> float:
    policy = policy_of_entropy(mdp, share * np.log(mdp.reward.shape[1]))
    uniform = np.full_like(policy, 1 / policy.shape[1])
    best = optimal_policy(mdp, 0.0)
    low, high, value = (
        mean_reward(mdp, each) for each in (uniform, best, policy)
    )
    return (value - low) / (high - low)


def policy_of_entropy(mdp: tabular.MDP, wanted: float) -> np.ndarray:
    """The optimal policy at the temperature that gives it this entropy."""
    low, high = 1e-3, 1e3  # bisected on a logarithmic scale
    for _ in range(40):
        alpha = np.sqrt(low * high)
        policy = optimal_policy(mdp, alpha)
        if tabular.entropy(policy).mean() < wanted:
            low = alpha
        else:
            high = alpha
    return policy


def optimal_policy(mdp: tabular.MDP, alpha: float) -> np.ndarray:
    q = tabular.soft_policy_iteration(mdp, alpha)
    return tabular.energy_based_policy(q, alpha)


def mean_reward(mdp: tabular.MDP, policy: np.ndarray) -> float:
    """The discounted sum of rewards alone, the mean over states."""
    q = tabular.soft_policy_evaluation(mdp, policy, 0.0)
    return float(tabular.policy_value(q, policy, 0.0).mean())


if __name__ == "__main__":
    main()
