"""What the experiments share: the sides, their seeds, intervals, verdicts."""

import argparse
import concurrent.futures
import csv
import itertools
import multiprocessing
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_probability as tfp

import tfsac

ROOT = pathlib.Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "claims"
sys.path.insert(0, str(ROOT / "benchmarks"))
import common  # noqa: E402

SAC, SQL = "SAC", "soft Q-learning"
DETERMINISTIC, GREEDY = "deterministic, noise 0.1", "alpha -> 0"

# A temperature that no return of these tasks can be told from zero by.
_COLD = 1e-8

# What is tuned; an empty cell is none of the side's.
SETTINGS = ("learning_rate", "tau", "temperature")

Row = dict[str, Any]


class Deterministic(tfsac.SAC):
    """A deterministic actor that explores by Gaussian noise, like DDPG's.

    It is SAC without entropy and with a standard deviation of nothing: with
    two critics, of which the smaller counts, nearly TD3. The noise is 0.1 of
    the half range, as is usual. All else is SAC's, so that nothing but what
    the claims are about differs.
    """

    def explore(self, observation: np.ndarray, policy: Any = None) -> Any:
        """The policy's actions and noise."""
        action = super().explore(observation, policy)
        return self.noisy(
            action, np.random.default_rng([self.seed, self.env_steps])
        )

    def noisy(self, action: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Adds the noise that it explores by."""
        scale = self.policy.scale
        noise = 0.1 * scale.half_range * rng.normal(size=action.shape)
        return np.clip(action + noise, scale.low, scale.high)


def make(
    side: str,
    env: Any,
    seed: int,
    temperature: float | None = None,
    **config: Any,
) -> Any:
    """Makes the agent of a side.

    Args:
        side: One of the names above.
        env: What to learn.
        seed: The agent's.
        temperature: alpha, where it is not 0 by the side's meaning. Defaults
            to `None`: it is learned, where that is possible.
        **config: Of `tfsac.SACConfig`, and `tfsac.SQLConfig`.
    """
    if side == SQL:
        # As many actions as its authors' code looks at.
        config |= {"num_particles": 16, "num_proposals": 16}
        config["temperature"] = temperature
        return tfsac.SoftQLearning(env, tfsac.SQLConfig(**config), seed)
    if side == SAC:
        config["temperature"] = temperature
        return tfsac.SAC(env, tfsac.SACConfig(**config), seed)
    config["temperature"] = _COLD
    if side == GREEDY:
        return tfsac.SAC(env, tfsac.SACConfig(**config), seed)
    config |= {"log_std_min": -20.0, "log_std_max": -19.0}
    return Deterministic(env, tfsac.SACConfig(**config), seed)


def tuned(side: str) -> dict[str, float]:
    """The settings of a side that won in `tuning.py`."""
    return best_settings(load("tuning"), side)


def best_settings(rows: list[Row], side: str) -> dict[str, float]:
    """The settings of a side with the largest mean over seeds.

    Args:
        rows: Of `tuning.py`, or of its CSV.
        side: One of the names above.
    """
    paid: dict[tuple[Any, ...], list[float]] = {}
    for row in rows:
        if row["side"] == side:
            setting = tuple(row[name] for name in SETTINGS)
            paid.setdefault(setting, []).append(row["discounted_return"])
    best = max(paid, key=lambda setting: np.mean(paid[setting]))
    settings = zip(SETTINGS, best, strict=True)
    return {name: value for name, value in settings if value}


def parse(
    doc: str | None, name: str, steps: int, seeds: Sequence[int] = range(5)
) -> argparse.Namespace:
    """The options of an experiment: seeds, steps, and where results go."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=list(seeds))
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        default=RESULTS / name,
        help="what it writes gets this name: .csv, and .png",
    )
    return parser.parse_args()


def collect(
    args: argparse.Namespace,
    sides: Sequence[str],
    run: Callable[[str, int, int], list[Row]],
) -> list[Row]:
    """Runs each side with each seed, and writes a CSV line for each result.

    Args:
        args: Of `parse`.
        sides: Their names.
        run: Trains and measures; from side, seed and steps to rows, whose
            arrays are for figures alone. A row may name another `side`.
    """
    args.out.parent.mkdir(parents=True, exist_ok=True)
    found: dict[tuple[int, str], list[Row]] = {}
    # In processes of their own, so that none finds what another has left; they
    # are forked from one that has imported TensorFlow, and run nothing.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tfsac"])
    with concurrent.futures.ProcessPoolExecutor(
        args.jobs, mp_context=context, max_tasks_per_child=1
    ) as pool:
        wanted = list(itertools.product(args.seeds, sides))
        futures = {
            pool.submit(run, side, seed, args.steps): (seed, side)
            for seed, side in wanted
        }
        for future in concurrent.futures.as_completed(futures):
            seed, side = futures[future]
            found[seed, side] = [
                {"side": side, "seed": seed, **result}
                for result in future.result()
            ]
            for row in found[seed, side]:
                cells = ", ".join(f"{k} {v}" for k, v in _cells(row).items())
                print(cells, flush=True)
    rows = [row for each in wanted for row in found[each]]
    common.write_csv(args.out.with_suffix(".csv"), [_cells(r) for r in rows])
    return rows


def load(name: str) -> list[Row]:
    """The rows of a committed CSV: what is a number there is one here."""
    with (RESULTS / f"{name}.csv").open(newline="") as file:
        return [
            {key: _number(value) for key, value in row.items()}
            for row in csv.DictReader(file)
        ]


def _number(cell: str) -> Any:
    try:
        return float(cell)
    except ValueError:
        return cell or None


def _cells(row: Row) -> Row:
    """What of a row goes into a table: no arrays."""
    return {k: v for k, v in row.items() if not isinstance(v, np.ndarray)}


def values(rows: list[Row], key: str, **where: Any) -> np.ndarray:
    """The numbers `key` of the rows that have these values, a seed each."""
    return np.array(
        [
            row[key]
            for row in rows
            if all(row[name] == value for name, value in where.items())
        ],
        np.float64,
    )


def interval(samples: np.ndarray) -> tuple[float, float]:
    """The mean, and half the width of its 95% interval (Student's t)."""
    if len(samples) < 2:
        return float(np.mean(samples)), float("nan")
    t = tfp.distributions.StudentT(np.float64(len(samples) - 1), 0.0, 1.0)
    error = samples.std(ddof=1) / np.sqrt(len(samples))
    return float(samples.mean()), float(t.quantile(0.975) * error)


def table(
    rows: list[Row],
    lines: Mapping[str, tuple[str, Mapping[str, Any]]],
    sides: Sequence[str],
    digits: int = 2,
) -> list[str]:
    """A table in Markdown: each side's mean, and half its 95% interval.

    Args:
        rows: Of `collect`, or `load`.
        lines: What a line shows, by its label: a key, and which rows.
        sides: The columns.
        digits: After the point. Defaults to `2`.
    """
    text = ["| | " + " | ".join(sides) + " |", "|---" * (1 + len(sides)) + "|"]
    for label, (key, where) in lines.items():
        cells = [
            _plus_minus(values(rows, key, side=side, **where), digits)
            for side in sides
        ]
        text.append(f"| {label} | " + " | ".join(cells) + " |")
    return text


def verdicts(
    claims: Mapping[str, tuple[np.ndarray, np.ndarray]], digits: int = 2
) -> list[str]:
    """A table in Markdown: does the first exceed the second, seed by seed?

    Args:
        claims: What would be true then, and a number for each seed of either.
        digits: After the point. Defaults to `2`.
    """
    text = ["| | difference | verdict |", "|---|---|---|"]
    for claim, (more, less) in claims.items():
        mean, half = interval(more - less)
        verdict = "not shown"
        if abs(mean) > half:
            verdict = "held" if mean > 0 else "contradicted"
        difference = _plus_minus(more - less, digits)
        text.append(f"| {claim} | {difference} | {verdict} |")
    return text


def _plus_minus(samples: np.ndarray, digits: int) -> str:
    mean, half = interval(samples)
    return f"{mean:,.{digits}f} +- {half:,.{digits}f}"
