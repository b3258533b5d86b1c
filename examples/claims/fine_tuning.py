"""Claim: a maximum entropy policy is a good start for a new task.

Agents learn to reach any of four equal goals. Then one goal alone pays, and
they go on from those networks with an empty replay buffer; others learn the new
task from scratch. Both begin with the same number of random steps. `steps` is
after how many transitions 80% of 200 walks reach the new goal for the first
time, or all that there were. Any start may help, as it knows the plane; the
claim is that this one helps more: what each side gains over its own start from
scratch is compared. A row of the CSV is a seed, with the means of its two new
tasks, whose goals are opposite each other: who went to one goal only has
learned one of four already.

    python examples/claims/fine_tuning.py
"""

import functools
from typing import Any

import comparison
import drawing
import numpy as np
import plane
from comparison import DETERMINISTIC, GREEDY, SAC

KINDS = (SAC, DETERMINISTIC, GREEDY)
SCRATCH = {kind: f"{kind}, from scratch" for kind in KINDS}
SIDES = (*KINDS, *SCRATCH.values())
BEFORE = 4_000  # transitions of the first task
RANDOM_STEPS = 200  # of a new task
EPISODES, ENOUGH, EVERY = 200, 0.8, 200


def run(side: str, seed: int, steps: int) -> list[comparison.Row]:
    """Learns the new tasks, from what the old one taught or from nothing."""
    [kind] = [k for k in KINDS if side in (k, SCRATCH[k])]
    weights = None
    if side == kind:
        old = plane.make(kind, plane.EQUAL, seed, random_steps=1_000)
        old.fit(steps_per_epoch=BEFORE, validation_episodes=0, verbose=0)
        weights = old.get_weights()
    curves = np.stack(
        [
            _learn(kind, weights, target, seed, steps)
            for target in (seed % 4, (seed + 2) % 4)
        ]
    )
    enough = curves >= ENOUGH
    solved = enough.any(1)
    took = np.where(solved, EVERY * (1 + enough.argmax(1)), steps)
    return [
        {
            "steps": float(took.mean()),
            "solved": float(solved.mean()),
            "last": round(float(curves[:, -1].mean()), 3),
            "curve": curves.mean(0),
        }
    ]


def _learn(
    kind: str, weights: Any, target: int, seed: int, steps: int
) -> list[float]:
    """The share of walks that reach the target, every so many transitions."""
    goals = [
        (x, y, reward if goal == target else 0)
        for goal, (x, y, reward) in enumerate(plane.EQUAL)
    ]
    agent = plane.make(kind, goals, seed, random_steps=RANDOM_STEPS)
    if weights is not None:
        agent.set_weights(weights)
    act = functools.partial(agent.predict, deterministic=False)
    curve = []
    for _ in range(steps // EVERY):
        agent.fit(steps_per_epoch=EVERY, validation_episodes=0, verbose=0)
        walks = plane.walks(act, goals, EPISODES)
        curve.append(float(np.mean(walks.goal == target)))
    return curve


def gain(rows: list[comparison.Row], kind: str) -> np.ndarray:
    """How many transitions sooner than from scratch, of each seed."""
    return comparison.values(
        rows, "steps", side=SCRATCH[kind]
    ) - comparison.values(rows, "steps", side=kind)


def draw(rows: list[comparison.Row]) -> Any:
    """The share that reaches the new goal, as it grows: mean and range."""
    figure, axes = drawing.figure(1)
    for side in SIDES:
        curves = np.stack([r["curve"] for r in rows if r["side"] == side])
        x = EVERY * np.arange(1, curves.shape[1] + 1)
        [kind] = [k for k in KINDS if side in (k, SCRATCH[k])]
        style = {
            "color": drawing.COLOURS[kind],
            "linestyle": "-" if side == kind else "--",
        }
        axes[0].plot(x, curves.mean(0), label=side, **style)
        band = drawing.COLOURS[kind]
        axes[0].fill_between(
            x, curves.min(0), curves.max(0), color=band, alpha=0.08
        )
    axes[0].set(xlabel="transitions", ylabel="share that reaches the new goal")
    figure.legend(loc="outside right upper", fontsize="small")
    figure.set_size_inches(8, 3.5)
    return figure


def report(rows: list[comparison.Row]) -> list[str]:
    """What is shown, and what follows."""
    gains = {kind: gain(rows, kind) for kind in KINDS}
    zero = np.zeros_like(gains[SAC])
    return [
        *comparison.table(rows, {"transitions": ("steps", {})}, SIDES, 0),
        *comparison.table(
            rows,
            {
                "share of new tasks solved": ("solved", {}),
                "share of walks at the end": ("last", {}),
            },
            SIDES,
        )[2:],
        "",
        *comparison.verdicts(
            {
                f"{kind}: pretraining saves transitions": (gains[kind], zero)
                for kind in KINDS
            }
            | {
                f"it saves {SAC} more than {other}": (gains[SAC], gains[other])
                for other in KINDS[1:]
            },
            0,
        ),
    ]


if __name__ == "__main__":
    args = comparison.parse(__doc__, "fine_tuning", steps=2_000)
    rows = comparison.collect(args, SIDES, run)
    print(*report(rows), sep="\n")
    draw(rows).savefig(args.out.with_suffix(".png"), dpi=100)
