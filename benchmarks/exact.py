"""SAC against exact answers: how far from the optimum it ends, seed by seed.

    python benchmarks/exact.py --out benchmarks/results/exact.csv

The tasks, with derivations, are in tests/exact_tasks.py: on "Circle-v0" the
optimum is known exactly and is one of SAC's own policies, on
"LinearQuadratic-v0" it is one but for the bounds of the action. Temperature and
discount are the task's. Errors are the largest over a grid of states:

- "mean_error": of the deterministic action, as a share of half its range;
- "entropy_error": of the entropy of an action's dimension, nats;
- "value_error": of V, relative.

With two critics, SAC's default, V takes the smaller value and so is too low;
with one critic that error goes. If two critics end further from the optimum
than tests/exact_agent.py tolerates, the exit code is 1.
"""

import argparse
import pathlib
import sys
import time

import common

sys.path.append(str(common.ROOT / "tests"))

import exact_agent  # noqa: E402
import exact_tasks  # noqa: E402

ENVS = (exact_tasks.CIRCLE, exact_tasks.LINEAR_QUADRATIC)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=30_000)
    args = parser.parse_args()
    rows = []
    for env_id in ENVS:
        for num_critics in (2, 1):
            for seed in args.seeds:
                rows.append(measure(env_id, seed, args.steps, num_critics))
                print(rows[-1], flush=True)
    common.write_csv(args.out, rows)
    return 0 if all(map(is_close, rows)) else 1


def measure(env_id: str, seed: int, steps: int, num_critics: int) -> dict:
    """Trains one agent; returns its CSV row."""
    began = time.perf_counter()
    agent = exact_agent.train(env_id, seed, steps, num_critics)
    seconds = time.perf_counter() - began
    errors = exact_agent.errors(agent)
    return {
        "env": env_id,
        "num_critics": num_critics,
        "seed": seed,
        "updates": agent.updates,
        **{name: round(float(error), 4) for name, error in errors.items()},
        "train_seconds": round(seconds, 1),
    }


def is_close(row: dict) -> bool:
    """Whether a row keeps the tolerances, if it has to."""
    return row["num_critics"] == 1 or all(
        row[name] <= tolerance
        for name, tolerance in exact_agent.TOLERANCES.items()
    )


if __name__ == "__main__":
    sys.exit(main())
