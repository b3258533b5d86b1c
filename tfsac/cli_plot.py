"""`tfsac plot`: learning curves, with a band over seeds."""

import argparse
import csv
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["add_options", "draw", "plot"]

_HISTORY = "history.csv"
_MISSING = (
    "tfsac plot needs a package that is not installed. Received: {error}. "
    "Install it by: pip install 'tfsac[plot]'"
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `tfsac plot`.

    Args:
        parser: To which.
    """
    parser.add_argument(
        "dirs",
        metavar="DIR",
        nargs="+",
        help="a run's folder, or a folder of runs that differ in their seeds "
        "alone; each is a curve",
    )
    parser.add_argument(
        "--metric",
        metavar="NAME",
        default="val_episode_return",
        help=f"a column of {_HISTORY}. Defaults to val_episode_return, that "
        "of the deterministic policy.",
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        default="learning.png",
        help="what its name ends in decides the kind, such as .png, .svg or "
        ".pdf. Defaults to learning.png.",
    )


def plot(args: argparse.Namespace) -> bool:
    """Draws learning curves: the mean over seeds, and all seeds' range."""
    curves = {
        name: [_read(path, args.metric) for path in _histories(name)]
        for name in args.dirs
    }
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ValueError(_MISSING.format(error=error)) from error
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axis = figure.subplots()
    for name, runs in curves.items():
        draw(axis, runs, f"{name}, {len(runs)} seeds" if runs[1:] else name)
    axis.set_ylabel(f"{args.metric}: mean, lowest to highest seed")
    axis.legend()
    out = pathlib.Path(args.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=150)
    print(out)
    return True


def _histories(name: str) -> list[pathlib.Path]:
    folder = pathlib.Path(name)
    own = folder / _HISTORY
    found = [own] if own.exists() else sorted(folder.glob(f"*/{_HISTORY}"))
    if not found:
        raise ValueError(
            f"Expected a folder with {_HISTORY}, as `tfsac train` writes it, "
            f"or one of such folders. Received: {name!r}."
        )
    return found


def _read(path: pathlib.Path, metric: str) -> dict[int, float]:
    """From transitions to the metric, where there is one.

    An epoch in which no episode ended, for example, has no return.
    """
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        columns = reader.fieldnames or []
        if not {"env_steps", metric} <= {*columns}:
            raise ValueError(
                f"Expected --metric to be one of {', '.join(columns)}, the "
                f"columns of {path}. Received: {metric!r}."
            )
        pairs = [(row["env_steps"], float(row[metric])) for row in reader]
    return {int(float(n)): value for n, value in pairs if math.isfinite(value)}


def draw(axis: Any, runs: Sequence[Mapping[int, float]], label: str) -> None:
    """Draws a mean over seeds, and a band from the lowest to the highest.

    With the usual three to five seeds, any interval made of a formula would
    claim more than there is.

    Args:
        axis: Matplotlib's.
        runs: For each seed, from transitions to a value. What some seeds lack
            is left out, as the mean would be over others than elsewhere.
        label: The curve's name, for a legend.

    Raises:
        ValueError: If the seeds have no numbers of transitions in common.
    """
    steps = sorted(set.intersection(*({*run} for run in runs)))
    if not steps:
        raise ValueError(
            f"Expected values after equal numbers of steps. Received: {label}, "
            "which have none in common. Draw them one by one, or train them "
            "by the same --steps."
        )
    values = np.array([[run[n] for n in steps] for run in runs])  # [seeds, n]
    [line] = axis.plot(steps, values.mean(axis=0), label=label)
    low, high = values.min(axis=0), values.max(axis=0)
    color = line.get_color()
    axis.fill_between(steps, low, high, alpha=0.25, linewidth=0, color=color)
    axis.set_xlabel("environment steps")
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.locator_params(axis="x", nbins=5)
    axis.grid(alpha=0.3)
