"""Claim: a maximum entropy policy is a good start for a new task.

Agents learn to reach any of four equal goals. Then one goal alone pays, each of
the four in turn, and they go on from those networks with an empty replay
buffer; others learn the new tasks from scratch. `steps` is after how many
transitions, in hundreds, 80% of 200 walks reach the new goal for the first
time, or all that there were. A row of the CSV is a seed, with the means of its
four new tasks: who went to one goal only has learned one of them already.

    python examples/claims/fine_tuning.py
"""

from typing import Any

import comparison
import numpy as np
import plane
from comparison import DETERMINISTIC, SAC

SCRATCH = {SAC: f"{SAC}, from scratch", DETERMINISTIC: "deterministic, scratch"}
SIDES = (SAC, DETERMINISTIC, *SCRATCH.values())
CONFIG = {
    "discount": 0.9,
    "hidden_units": (64, 64),
    "batch_size": 128,
    "learning_rate": 1e-3,
    "replay_capacity": 50_000,
    "train_every": 10,
}
TEMPERATURE = 0.3
BEFORE = 10_000  # transitions of the first task
EPISODES, ENOUGH, EVERY = 200, 0.8, 100


def run(side: str, seed: int, steps: int) -> list[comparison.Row]:
    """Learns the new tasks, from what the old one taught or from nothing."""
    [kind] = [k for k in SCRATCH if side in (k, SCRATCH[k])]
    weights = None
    if side == kind:
        old = _make(kind, plane.Plane(), seed, random_steps=1_000)
        old.fit(steps_per_epoch=BEFORE, validation_episodes=0, verbose=0)
        weights = old.get_weights()
    curves = np.stack(
        [
            _learn(kind, weights, target, seed, steps)
            for target in range(len(plane.EQUAL))
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
    random_steps = 200 if weights is None else 0
    agent = _make(kind, plane.Plane(goals), seed, random_steps)
    if weights is not None:
        agent.set_weights(weights)
    curve = []
    for _ in range(steps // EVERY):
        agent.fit(steps_per_epoch=EVERY, validation_episodes=0, verbose=0)
        goal, _ = plane.walks(agent, goals, EPISODES)
        curve.append(float(np.mean(goal == target)))
    return curve


def _make(kind: str, env: plane.Plane, seed: int, random_steps: int) -> Any:
    config = CONFIG | {"random_steps": random_steps}
    return comparison.make(kind, env, seed, TEMPERATURE, **config)


def draw(rows: list[comparison.Row]) -> Any:
    """The share that reaches the new goal, as it grows: mean and range."""
    figure, axes = comparison.figure(1)
    for side in SIDES:
        curves = np.stack([r["curve"] for r in rows if r["side"] == side])
        x = EVERY * np.arange(1, curves.shape[1] + 1)
        axes[0].plot(x, curves.mean(0), label=side)
        axes[0].fill_between(x, curves.min(0), curves.max(0), alpha=0.15)
    axes[0].set(xlabel="transitions", ylabel="share that reaches the new goal")
    axes[0].legend(fontsize="small")
    figure.set_size_inches(6, 3.5)
    return figure


if __name__ == "__main__":
    args = comparison.parse(__doc__, "fine_tuning", steps=6_000)
    rows = comparison.collect(args, SIDES, run)
    for key in ("steps", "solved", "last"):
        comparison.show(rows, key, SIDES)
    steps = {s: comparison.values(rows, "steps", side=s) for s in SIDES}
    for other in SIDES[1:]:
        comparison.judge(
            f"{SAC}, pretrained, is sooner there than {other}",
            steps[other],
            steps[SAC],
        )
    draw(rows).savefig(args.out.with_suffix(".png"), dpi=100)
