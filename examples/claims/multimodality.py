"""Claim: a maximum entropy policy keeps every good action, DDPG keeps one.

A point in the middle of four equal goals: which of them does each agent reach,
over 200 walks? A row of the CSV is a run; `goals` counts those that at least
one walk in twenty reaches, `arrived` is the share of walks that reach any.

    python examples/claims/multimodality.py
"""

from typing import Any

import comparison
import numpy as np
import plane
from comparison import DETERMINISTIC, GREEDY, SAC, SQL

SIDES = (SQL, SAC, DETERMINISTIC, GREEDY)
CONFIG = {
    "discount": 0.9,
    "hidden_units": (64, 64),
    "batch_size": 128,
    "learning_rate": 1e-3,
    "random_steps": 1_000,
    "replay_capacity": 50_000,
    "train_every": 10,
}
TEMPERATURE = 0.3
EPISODES = 200


def run(side: str, seed: int, steps: int) -> list[comparison.Row]:
    """Trains, and lets the agent walk as it explored, but without noise."""
    agent = comparison.make(side, plane.Plane(), seed, TEMPERATURE, **CONFIG)
    agent.fit(steps_per_epoch=steps, validation_episodes=0, verbose=0)
    reached, paths = plane.walks(agent, plane.EQUAL, EPISODES)
    shares = [np.mean(reached == goal) for goal in range(len(plane.EQUAL))]
    return [
        {
            "goals": sum(share >= 0.05 for share in shares),
            "arrived": round(float(np.mean(reached >= 0)), 3),
            "largest_share": round(float(max(shares)), 3),
            "paths": paths[:, :20],
        }
    ]


def draw(rows: list[comparison.Row], sides: tuple[str, ...]) -> Any:
    """A panel for each side: 20 walks of its first run."""
    figure, axes = comparison.figure(len(sides))
    for axis, side in zip(axes, sides, strict=True):
        first = next(row for row in rows if row["side"] == side)
        axis.plot(*first["paths"].transpose(2, 0, 1), lw=0.7, alpha=0.7)
        for x, y, _ in plane.EQUAL:
            axis.plot(x, y, "o", ms=14, mfc="none", mec="black")
        axis.set(title=side, xlim=(-7, 7), ylim=(-7, 7), aspect="equal")
    return figure


if __name__ == "__main__":
    args = comparison.parse(__doc__, "multimodality", steps=10_000)
    rows = comparison.collect(args, SIDES, run)
    for key in ("goals", "arrived", "largest_share"):
        comparison.show(rows, key, SIDES)
    goals = {s: comparison.values(rows, "goals", side=s) for s in SIDES}
    for side in (SQL, SAC):
        comparison.judge(
            f"{side} reaches more goals than {DETERMINISTIC}",
            goals[side],
            goals[DETERMINISTIC],
        )
    draw(rows, SIDES).savefig(args.out.with_suffix(".png"), dpi=100)
