"""Claim: A3C only regularises its actor with entropy, SAC optimises it.

With `backup_entropy=False` the critics know nothing of entropy to come: it is
a regulariser of the actor, as in A3C. The maximum entropy objective itself,
sum_t gamma^t (r + alpha H), is then not what is maximised, at the same alpha.
Both parts of the objective are estimated from 1,000 walks on the plane, where
the policy's entropy is measured in each step. A row of the CSV is a run at a
temperature: at 0.3 a goal is worth more than all entropy of a walk that never
ends, at 1 less.

    python examples/claims/backup_entropy.py
"""

from typing import Any

import comparison
import numpy as np
import plane

WITH, WITHOUT = "backup_entropy=True", "backup_entropy=False"
SIDES = (WITH, WITHOUT)
CONFIG = {
    "discount": 0.9,
    "hidden_units": (64, 64),
    "batch_size": 128,
    "learning_rate": 1e-3,
    "random_steps": 1_000,
    "replay_capacity": 50_000,
    "train_every": 10,
}
TEMPERATURES = (0.3, 1.0)
WALKS = 1_000
KEYS = ("objective", "discounted_return", "discounted_entropy")


def run(side: str, seed: int, steps: int) -> list[comparison.Row]:
    """Trains at each temperature, and estimates the objective."""
    config = CONFIG | {"backup_entropy": side == WITH}
    rows = []
    for alpha in TEMPERATURES:
        agent = comparison.make(
            comparison.SAC, plane.Plane(), seed, alpha, **config
        )
        agent.fit(steps_per_epoch=steps, validation_episodes=0, verbose=0)
        reward, entropy = objective(agent)
        rows.append(
            {
                "alpha": alpha,
                "objective": round(reward + alpha * entropy, 3),
                "discounted_return": round(reward, 3),
                "discounted_entropy": round(entropy, 3),
            }
        )
    return rows


def objective(agent: Any) -> tuple[float, float]:
    """The discounted return and entropy of walks from the centre.

    Time limits do not count as ends in training, so that walks go on here
    until a goal is reached or nothing more counts.
    """
    goals = np.array(plane.EQUAL, np.float64)
    position, walking = np.zeros((WALKS, 2)), np.ones(WALKS, bool)
    reward, entropy, weight = 0.0, 0.0, 1.0
    while weight > 1e-3 and walking.any():
        rows = position.astype(np.float32)
        action = agent.predict(rows, deterministic=False)
        log_prob = agent.log_prob(rows, action)
        entropy -= weight * float(np.mean(log_prob * walking))
        position = np.clip(position + action, -7, 7)
        goal = plane.reached(position, goals)
        paid = np.where(goal >= 0, goals[goal, 2], 0.0)
        reward += weight * float(np.mean(paid * walking))
        walking &= goal < 0
        weight *= CONFIG["discount"]
    return reward, entropy


def draw(rows: list[comparison.Row]) -> Any:
    """A panel for the objective and for each part of it."""
    figure, axes = comparison.figure(len(KEYS))
    groups = {f"alpha {alpha}": {"alpha": alpha} for alpha in TEMPERATURES}
    for axis, key in zip(axes, KEYS, strict=True):
        comparison.bars(axis, rows, key, groups, SIDES)
    handles = axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=len(SIDES))
    return figure


if __name__ == "__main__":
    args = comparison.parse(__doc__, "backup_entropy", steps=15_000)
    rows = comparison.collect(args, SIDES, run)
    for alpha in TEMPERATURES:
        for key in KEYS:
            comparison.show(rows, key, SIDES, alpha=alpha)
    for alpha in TEMPERATURES:
        values = [
            comparison.values(rows, "objective", side=side, alpha=alpha)
            for side in SIDES
        ]
        comparison.judge(
            f"alpha {alpha}: SAC reaches more of the objective", *values
        )
    draw(rows).savefig(args.out.with_suffix(".png"), dpi=100)
