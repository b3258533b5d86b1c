"""Claim: A3C only regularises its actor with entropy, SAC optimises it.

With `backup_entropy=False` the critics know nothing of entropy to come: it is
a regulariser of the actor, as in A3C. The maximum entropy objective itself,
sum_t gamma^t (r + alpha H), is then not what is maximised, at the same alpha.
Both parts of the objective are estimated from 1,000 walks on the plane, where
the policy's entropy is measured in each step. A row of the CSV is a run at a
temperature: at 0.3 a goal is worth more than all entropy of a walk that never
ends, at 1 less. The sides without entropy have one row, at 0, where the return
alone is the objective; a deterministic actor's entropy is minus infinity.

    python examples/claims/backup_entropy.py
"""

from typing import Any

import comparison
import drawing
import numpy as np
import plane
from comparison import DETERMINISTIC, GREEDY, SAC

WITH, WITHOUT = "backup_entropy=True", "backup_entropy=False"
SIDES = (WITH, WITHOUT, DETERMINISTIC, GREEDY)
TEMPERATURES = (0.3, 1.0)
WALKS = 1_000
KEYS = ("objective", "discounted_return", "discounted_entropy")


def run(side: str, seed: int, steps: int) -> list[comparison.Row]:
    """Trains at each temperature, and estimates the objective."""
    if side in (WITH, WITHOUT):
        return [
            _run(SAC, seed, steps, alpha, backup_entropy=side == WITH)
            for alpha in TEMPERATURES
        ]
    return [_run(side, seed, steps, 0.0)]


def _run(
    side: str, seed: int, steps: int, alpha: float, **config: Any
) -> comparison.Row:
    if alpha:
        config["temperature"] = alpha
    agent = plane.make(side, plane.EQUAL, seed, random_steps=1_000, **config)
    agent.fit(steps_per_epoch=steps, validation_episodes=0, verbose=0)
    reward, entropy = objective(agent)
    if side == DETERMINISTIC:
        entropy = float("-inf")
    gained = alpha * entropy if alpha else 0.0
    return {
        "alpha": alpha,
        "objective": round(reward + gained, 3),
        "discounted_return": round(reward, 3),
        "discounted_entropy": round(entropy, 3),
    }


def objective(agent: Any) -> tuple[float, float]:
    """The discounted return and entropy of walks, begun as training's are.

    Time limits do not count as ends in training, so that walks go on here
    until a goal is reached or nothing more counts.
    """
    goals = np.array(plane.EQUAL, np.float64)
    rng = np.random.default_rng(0)
    position = rng.normal(0, plane.SPREAD, (WALKS, 2))
    walking = np.ones(WALKS, bool)
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
        weight *= plane.CONFIG["discount"]
    return reward, entropy


def draw(rows: list[comparison.Row]) -> Any:
    """A panel for the objective and for each part of it."""
    sides = SIDES[:2]
    figure, axes = drawing.figure(len(KEYS))
    groups = {f"alpha {alpha}": {"alpha": alpha} for alpha in TEMPERATURES}
    for axis, key in zip(axes, KEYS, strict=True):
        drawing.bars(axis, rows, key, groups, sides)
    for side in SIDES[2:]:
        paid = comparison.values(rows, "discounted_return", side=side)
        colour = drawing.COLOURS[side]
        axes[1].axhline(np.mean(paid), color=colour, ls="--", label=side)
    handles = axes[1].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=len(SIDES))
    return figure


def report(rows: list[comparison.Row]) -> list[str]:
    """What is shown, and what follows."""
    found = {
        (key, side, alpha): comparison.values(rows, key, side=side, alpha=alpha)
        for key in KEYS
        for side in (WITH, WITHOUT)
        for alpha in TEMPERATURES
    }
    paid = comparison.values(rows, "discounted_return", side=DETERMINISTIC)
    lines = {
        f"alpha {alpha}: {key.replace('_', ' ')}": (key, {"alpha": alpha})
        for alpha in TEMPERATURES
        for key in KEYS
    }
    claims = {}
    for alpha in TEMPERATURES:
        for key in KEYS[:2]:
            claims[
                f"alpha {alpha}: more {key.replace('_', ' ')} with than without"
            ] = (found[key, WITH, alpha], found[key, WITHOUT, alpha])
        for side in (WITH, WITHOUT):
            claims[
                f"alpha {alpha}: {side}: more return than {DETERMINISTIC}"
            ] = (found["discounted_return", side, alpha], paid)
    return [
        *comparison.table(rows, lines, (WITH, WITHOUT)),
        "",
        *comparison.table(
            rows,
            {"discounted return": ("discounted_return", {})},
            (DETERMINISTIC, GREEDY),
        ),
        "",
        *comparison.verdicts(claims),
    ]


if __name__ == "__main__":
    args = comparison.parse(__doc__, "backup_entropy", steps=4_000)
    rows = comparison.collect(args, SIDES, run)
    print(*report(rows), sep="\n")
    draw(rows).savefig(args.out.with_suffix(".png"), dpi=100)
