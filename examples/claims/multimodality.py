"""Claim: a maximum entropy policy keeps every good action, DDPG keeps one.

A point in the middle of four equal goals: which of them does each agent reach,
over 200 walks? They begin where training does. The deterministic actor walks
twice: as it is, and with the noise that it explores by. A row of the CSV is a
run; `goals` counts those that at least one walk in twenty reaches, `arrived` is
the share of walks that reach any.

    python examples/claims/multimodality.py
"""

import functools
from typing import Any

import comparison
import drawing
import numpy as np
import plane
from comparison import DETERMINISTIC, GREEDY, SAC, SQL

NOISY = "deterministic, with its noise"
TRAINED = (SQL, SAC, DETERMINISTIC, GREEDY)
SIDES = (SQL, SAC, DETERMINISTIC, NOISY, GREEDY)
EPISODES = 200


def run(side: str, seed: int, steps: int) -> list[comparison.Row]:
    """Trains, and lets the agent walk by what it learned."""
    agent = plane.make(side, plane.EQUAL, seed, random_steps=1_000)
    agent.fit(steps_per_epoch=steps, validation_episodes=0, verbose=0)
    act = functools.partial(agent.predict, deterministic=False)
    rows = [{"side": side, **_walk(act)}]
    if side == DETERMINISTIC:
        rng = np.random.default_rng(seed)
        rows.append(
            {
                "side": NOISY,
                **_walk(lambda position: agent.noisy(act(position), rng)),
            }
        )
    return rows


def _walk(act: Any) -> comparison.Row:
    walks = plane.walks(act, plane.EQUAL, EPISODES)
    shares = [np.mean(walks.goal == goal) for goal in range(len(plane.EQUAL))]
    return {
        "goals": sum(share >= 0.05 for share in shares),
        "arrived": round(float(np.mean(walks.goal >= 0)), 3),
        "largest_share": round(float(max(shares)), 3),
        "paths": walks.paths[:, :20],
    }


def draw(rows: list[comparison.Row]) -> Any:
    """A panel for each side: 20 walks of its first run."""
    figure, axes = drawing.figure(len(SIDES))
    for axis, side in zip(axes, SIDES, strict=True):
        first = next(row for row in rows if row["side"] == side)
        axis.plot(*first["paths"].transpose(2, 0, 1), lw=0.7, alpha=0.7)
        for x, y, _ in plane.EQUAL:
            axis.plot(x, y, "o", ms=14, mfc="none", mec="black")
        axis.set(title=side, xlim=(-7, 7), ylim=(-7, 7), aspect="equal")
    return figure


def report(rows: list[comparison.Row]) -> list[str]:
    """What is shown, and what follows."""
    goals = {s: comparison.values(rows, "goals", side=s) for s in SIDES}
    return [
        *comparison.table(
            rows,
            {
                "goals reached, of 4": ("goals", {}),
                "share of walks that arrive": ("arrived", {}),
                "share of the most frequent goal": ("largest_share", {}),
            },
            SIDES,
        ),
        _count("runs with more than one goal", goals, 2),
        _count("runs with every goal", goals, 4),
        "",
        *comparison.verdicts(
            {
                f"{side} reaches more goals than {other}": (
                    goals[side],
                    goals[other],
                )
                for side in (SQL, SAC)
                for other in (DETERMINISTIC, NOISY)
            }
        ),
    ]


def _count(label: str, goals: dict[str, np.ndarray], least: int) -> str:
    cells = [
        f"{np.sum(goals[side] >= least)} of {len(goals[side])}"
        for side in SIDES
    ]
    return f"| {label} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    args = comparison.parse(__doc__, "multimodality", steps=4_000)
    rows = comparison.collect(args, TRAINED, run)
    print(*report(rows), sep="\n")
    draw(rows).savefig(args.out.with_suffix(".png"), dpi=100)
