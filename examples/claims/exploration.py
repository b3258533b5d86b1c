"""Claim: maximum entropy training explores multimodal rewards better.

Four goals, of which the one that is farthest away pays most: three are 3 from
the centre and pay 3, one is 6 away and pays 10. Who settles for the first goal
that was found never sees it. A row of the CSV is a run; `best` is the share of
200 walks that reach the best goal, `found` whether most of them do.

    python examples/claims/exploration.py
"""

import functools
from typing import Any

import comparison
import drawing
import numpy as np
import plane
from comparison import DETERMINISTIC, GREEDY, SAC, SQL

SIDES = (SAC, SQL, DETERMINISTIC, GREEDY)
# Fixed before any of them was run.
SEEDS = range(10, 20)
EPISODES = 200
BEST = len(plane.UNEQUAL) - 1


def run(side: str, seed: int, steps: int) -> list[comparison.Row]:
    """Trains, and counts the walks that reach the best goal."""
    # Hardly any random steps: to explore is the agent's part.
    agent = plane.make(side, plane.UNEQUAL, seed, random_steps=200)
    agent.fit(steps_per_epoch=steps, validation_episodes=0, verbose=0)
    sampled, deterministic = (
        plane.walks(
            functools.partial(agent.predict, deterministic=deterministic),
            plane.UNEQUAL,
            EPISODES,
        )
        for deterministic in (False, True)
    )
    best = float(np.mean(sampled.goal == BEST))
    return [
        {
            "best": round(best, 3),
            # As it would be used in the end: by its best action.
            "best_deterministic": round(
                float(np.mean(deterministic.goal == BEST)), 3
            ),
            "found": int(best > 0.5),
        }
    ]


def draw(rows: list[comparison.Row]) -> Any:
    """How many walks reach the best goal, of each side and seed."""
    figure, axes = drawing.figure(1)
    drawing.bars(axes[0], rows, "best", {"": {}}, SIDES)
    axes[0].set(ylim=(0, 1.05), ylabel="share that reaches the best goal")
    figure.legend(loc="outside right upper", fontsize="small")
    figure.set_size_inches(5.5, 3.2)
    return figure


def report(rows: list[comparison.Row]) -> list[str]:
    """What is shown, and what follows."""
    found = {s: comparison.values(rows, "found", side=s) for s in SIDES}
    return [
        *comparison.table(
            rows,
            {
                "share of runs that find the best goal": ("found", {}),
                "share of walks that reach it": ("best", {}),
                "without sampling": ("best_deterministic", {}),
            },
            SIDES,
        ),
        "",
        *comparison.verdicts(
            {
                f"{side} finds it more often than {other}": (
                    found[side],
                    found[other],
                )
                for side in (SAC, SQL)
                for other in (DETERMINISTIC, GREEDY)
            }
        ),
    ]


if __name__ == "__main__":
    args = comparison.parse(__doc__, "exploration", steps=4_000, seeds=SEEDS)
    rows = comparison.collect(args, SIDES, run)
    print(*report(rows), sep="\n")
    draw(rows).savefig(args.out.with_suffix(".png"), dpi=100)
