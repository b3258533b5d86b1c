"""Which settings each side takes to the plane: the same number of tries for all.

Six settings of each side, on the plane with unequal goals, where returns differ
most, with seeds that no experiment has. Those with a temperature are tried with
three of them, the others with three steps of the target critics, each at two
learning rates. What counts is the same for all: the discounted return of 200
walks by the policy that was learned, in the mean over seeds. A row of the CSV
is a setting with one seed; `comparison.tuned` picks each side's best, which the
experiments on the plane take from there.

    python examples/claims/tuning.py
"""  # noqa: E501

import functools
import itertools

import comparison
import numpy as np
import plane
from comparison import DETERMINISTIC, GREEDY, SAC, SQL

SIDES = (SAC, SQL, DETERMINISTIC, GREEDY)
SEEDS = (100, 101)
LEARNING_RATES = (1e-3, 3e-3)
TEMPERATURES = (0.1, 0.3, 1.0)
TAUS = (0.005, 0.01, 0.02)
TAU = 0.005  # of those that have a temperature
EPISODES = 200


def settings(side: str) -> list[dict[str, float | None]]:
    """What is tried of a side."""
    if side in (SAC, SQL):
        tried = itertools.product(LEARNING_RATES, (TAU,), TEMPERATURES)
    else:
        tried = itertools.product(LEARNING_RATES, TAUS, (None,))
    return [dict(zip(comparison.SETTINGS, each, strict=True)) for each in tried]


def run(side: str, seed: int, steps: int) -> list[comparison.Row]:
    """Trains with each setting, and lets the agents walk."""
    rows = []
    for setting in settings(side):
        env = plane.Plane(plane.UNEQUAL)
        config = plane.CONFIG | setting | {"random_steps": 200}
        agent = comparison.make(side, env, seed, **config)
        agent.fit(steps_per_epoch=steps, validation_episodes=0, verbose=0)
        act = functools.partial(agent.predict, deterministic=False)
        paid = np.mean(plane.walks(act, plane.UNEQUAL, EPISODES).paid)
        rows.append({**setting, "discounted_return": round(float(paid), 3)})
    return rows


def report(rows: list[comparison.Row]) -> list[str]:
    """The mean over seeds of each setting, and each side's best in bold."""
    thirds = [f"{a}, or {b}" for a, b in zip(TEMPERATURES, TAUS, strict=True)]
    lines = [
        "| | temperature or tau " + " | ".join(thirds) + " |",
        "|---" * 4 + "|",
    ]
    for side, rate in itertools.product(SIDES, LEARNING_RATES):
        cells = [f"{side}, learning rate {rate}"]
        best = comparison.best_settings(rows, side)
        for setting in settings(side):
            if setting["learning_rate"] == rate:
                paid = comparison.values(
                    rows, "discounted_return", side=side, **setting
                )
                is_best = best.items() <= setting.items()
                mark = "**" if is_best else ""
                cells.append(f"{mark}{np.mean(paid):.2f}{mark}")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


if __name__ == "__main__":
    args = comparison.parse(__doc__, "tuning", steps=4_000, seeds=SEEDS)
    print(*report(comparison.collect(args, SIDES, run)), sep="\n")
