"""Claim: maximum entropy training explores multimodal rewards better.

Four goals, of which the one that is farthest away pays most: three are 3 from
the centre and pay 3, one is 6 away and pays 10. Who settles for the first goal
that was found never sees it. A row of the CSV is a run; `best` is the share of
200 walks that reach the best goal, `found` whether most of them do.

    python examples/claims/exploration.py --seeds 0 1 2 3 4 5 6 7 8 9
"""

from typing import Any

import comparison
import numpy as np
import plane
from comparison import DETERMINISTIC, GREEDY, SAC, SQL

SIDES = (SAC, SQL, DETERMINISTIC, GREEDY)
GOALS = ((3, 0, 3), (0, 3, 3), (-3, 0, 3), (0, -6, 10))
CONFIG = {
    "discount": 0.9,
    "hidden_units": (64, 64),
    "batch_size": 128,
    "learning_rate": 1e-3,
    "random_steps": 200,  # hardly any: to explore is the agent's part
    "replay_capacity": 50_000,
    "train_every": 10,
}
TEMPERATURE = 0.3
EPISODES = 200


def run(side: str, seed: int, steps: int) -> list[comparison.Row]:
    """Trains, and counts the walks that reach the best goal."""
    env = plane.Plane(GOALS)
    agent = comparison.make(side, env, seed, TEMPERATURE, **CONFIG)
    agent.fit(steps_per_epoch=steps, validation_episodes=0, verbose=0)
    # As it would be used in the end: by its best action, without sampling.
    deterministic, _ = plane.walks(agent, GOALS, EPISODES, deterministic=True)
    sampled, _ = plane.walks(agent, GOALS, EPISODES)
    best = float(np.mean(sampled == len(GOALS) - 1))
    return [
        {
            "best": round(best, 3),
            "best_deterministic": round(
                float(np.mean(deterministic == len(GOALS) - 1)), 3
            ),
            "found": int(best > 0.5),
        }
    ]


def draw(rows: list[comparison.Row]) -> Any:
    """How many walks reach the best goal, of each side and seed."""
    figure, axes = comparison.figure(1)
    comparison.bars(axes[0], rows, "best", {"": {}}, SIDES)
    axes[0].set(ylim=(0, 1.05), ylabel="share that reaches the best goal")
    figure.legend(loc="outside right upper", fontsize="small")
    figure.set_size_inches(5.5, 3.2)
    return figure


if __name__ == "__main__":
    args = comparison.parse(__doc__, "exploration", steps=10_000)
    rows = comparison.collect(args, SIDES, run)
    for key in ("best", "best_deterministic", "found"):
        comparison.show(rows, key, SIDES)
    found = {s: comparison.values(rows, "found", side=s) for s in SIDES}
    for side in (SAC, SQL):
        comparison.judge(
            f"{side} finds the best goal more often than {DETERMINISTIC}",
            found[side],
            found[DETERMINISTIC],
        )
    draw(rows).savefig(args.out.with_suffix(".png"), dpi=100)
