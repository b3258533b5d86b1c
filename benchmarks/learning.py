"""Learning curves: environments x seeds to a CSV file, and to a plot.

Each (environment, seed) trains in a process of its own, and is evaluated with
deterministic actions from the same starts every time. Each evaluation is one
CSV line, written at once. The same command again goes on where it was stopped:
finished runs are kept, an unfinished one starts afresh. `NAME.json` beside
`NAME.csv` tells command, commit, config, hardware and versions.

    python benchmarks/learning.py Pendulum-v1 --steps 5000 --eval-every 1000 \
        --eval-episodes 50 --out benchmarks/results/pendulum.csv --plot
"""

import argparse
import ast
import concurrent.futures
import csv
import dataclasses
import json
import multiprocessing
import pathlib
import time
from typing import Any

import common
import curves

COLUMNS = (
    "env",
    "seed",
    "env_steps",
    "updates",
    "return_mean",  # over the evaluation's episodes
    "return_std",
    "episode_return",  # of training, the mean since the last line
    "alpha",  # the same
    "steps_per_second",  # of training, without the evaluations
    "wall_seconds",  # since the agent was made, evaluations included
)


def main() -> None:
    args = _parse()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    wanted = [(env, seed) for env in args.envs for seed in args.seeds]
    runs = _unfinished(args.out, wanted, args.steps)
    if runs:
        _describe(args, runs)
        _drop(args.out, runs)
        # One process a run, so that each is what a user gets.
        with concurrent.futures.ProcessPoolExecutor(
            max_workers=args.jobs,
            mp_context=multiprocessing.get_context("spawn"),
            max_tasks_per_child=1,
        ) as pool:
            futures = [pool.submit(train, args, *run) for run in runs]
            for future in concurrent.futures.as_completed(futures):
                future.result()
    _summarise(args.out, wanted)
    if args.plot:
        print(curves.draw([args.out], args.out.with_suffix(".png")))


def train(args: argparse.Namespace, env: str, seed: int) -> None:
    """Trains one agent, and appends a CSV line for each evaluation."""
    import keras
    import tensorflow as tf

    from tfsac.cli_train import ALGORITHMS

    if args.threads is not None:
        tf.config.threading.set_intra_op_parallelism_threads(args.threads)
        tf.config.threading.set_inter_op_parallelism_threads(args.threads)
    began = time.perf_counter()
    algorithm = ALGORITHMS[args.algorithm]
    agent = algorithm(env, algorithm.CONFIG(**dict(args.config)), seed=seed)

    def evaluate(epoch: int, logs: dict[str, Any]) -> None:
        result = agent.evaluate(
            episodes=args.eval_episodes, seed=args.eval_seed
        )
        row = {
            "env": env,
            "seed": seed,
            "env_steps": agent.env_steps,
            "updates": agent.updates,
            "return_mean": round(result["episode_return"], 3),
            "return_std": round(result["episode_return_std"], 3),
            "episode_return": round(logs["episode_return"], 3),
            "alpha": round(logs["alpha"], 6),
            "steps_per_second": round(logs["steps_per_second"], 2),
            "wall_seconds": round(time.perf_counter() - began, 1),
        }
        _append(args.out, row)
        print(", ".join(f"{name} {row[name]}" for name in COLUMNS), flush=True)

    agent.fit(
        epochs=args.steps // args.eval_every,
        steps_per_epoch=args.eval_every,
        validation_episodes=0,  # that would start from the run's own seed
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=evaluate)],
        verbose=0,
    )
    if args.save is not None:
        agent.save(args.save / f"{env.replace('/', '_')}-seed{seed}")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("envs", metavar="ENV", nargs="+", help="Gymnasium ids")
    parser.add_argument(
        "--seeds", metavar="S", type=int, nargs="+", default=[0, 1, 2]
    )
    parser.add_argument("--steps", metavar="N", type=int, required=True)
    parser.add_argument(
        "--out", metavar="NAME.csv", type=pathlib.Path, required=True
    )
    parser.add_argument("--eval-every", metavar="N", type=int, default=10_000)
    parser.add_argument("--eval-episodes", metavar="N", type=int, default=10)
    parser.add_argument("--eval-seed", metavar="S", type=int, default=0)
    parser.add_argument("--algorithm", choices=["sac", "sql"], default="sac")
    parser.add_argument(
        "--config",
        metavar="NAME=VALUE",
        type=_setting,
        nargs="+",
        default=[],
        help="hyperparameters, such as learning_rate=1e-3",
    )
    parser.add_argument(
        "--jobs", metavar="J", type=int, default=1, help="runs at a time"
    )
    parser.add_argument(
        "--threads",
        metavar="T",
        type=int,
        help="TensorFlow's, for each run. Defaults to its own choice.",
    )
    parser.add_argument(
        "--save",
        metavar="DIR",
        type=pathlib.Path,
        help="saves each final agent, as DIR/ENV-seedS",
    )
    parser.add_argument("--plot", action="store_true", help="draws NAME.png")
    args = parser.parse_args()
    if args.steps % args.eval_every:
        parser.error(
            f"--steps {args.steps} is not a multiple of "
            f"--eval-every {args.eval_every}"
        )
    return args


def _setting(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    try:
        return name, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return name, value  # a name, such as activation=tanh


def _unfinished(
    out: pathlib.Path, wanted: list[tuple[str, int]], steps: int
) -> list[tuple[str, int]]:
    """Returns the runs that do not have their last line yet."""
    finished = {
        _run(row)
        for row in (curves.read(out) if out.exists() else [])
        if int(row["env_steps"]) >= steps
    }
    return [run for run in wanted if run not in finished]


def _drop(out: pathlib.Path, runs: list[tuple[str, int]]) -> None:
    """Writes the file anew, without the lines of runs that start afresh."""
    rows = curves.read(out) if out.exists() else []
    with out.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=COLUMNS)
        writer.writeheader()
        writer.writerows(row for row in rows if _run(row) not in runs)


def _run(row: dict[str, str]) -> tuple[str, int]:
    return row["env"], int(row["seed"])


def _append(out: pathlib.Path, row: dict[str, Any]) -> None:
    with out.open("a", newline="") as file:
        csv.DictWriter(file, fieldnames=COLUMNS).writerow(row)


def _describe(args: argparse.Namespace, runs: list[tuple[str, int]]) -> None:
    """Adds an entry for these runs to the description beside the CSV."""
    from tfsac.cli_train import ALGORITHMS

    config = ALGORITHMS[args.algorithm].CONFIG(**dict(args.config))
    path = args.out.with_suffix(".json")
    entries = json.loads(path.read_text()) if path.exists() else []
    runs = [f"{env} seed {seed}" for env, seed in runs]
    settings = {
        "algorithm": args.algorithm,
        "config": dataclasses.asdict(config),
    }
    entries.append({**common.describe(), "runs": runs, **settings})
    path.write_text(json.dumps(entries, indent=1) + "\n")


def _summarise(out: pathlib.Path, wanted: list[tuple[str, int]]) -> None:
    last = {_run(row): row for row in curves.read(out)}
    for env, seed in wanted:
        row = last[env, seed]
        print(
            f"{env} seed {seed}: {row['return_mean']} +- {row['return_std']} "
            f"after {row['env_steps']} steps, {row['wall_seconds']} s"
        )


if __name__ == "__main__":
    main()
