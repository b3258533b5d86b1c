"""The figures of the experiments: panels, and bars with intervals."""

from collections.abc import Mapping, Sequence
from typing import Any

import comparison
import numpy as np
from comparison import DETERMINISTIC, GREEDY, SAC, SQL

COLOURS = {SAC: "C0", DETERMINISTIC: "C1", GREEDY: "C7", SQL: "C2"}


def figure(columns: int) -> tuple[Any, Any]:
    """Returns a Matplotlib figure and its axes, in a row."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    size = (3.4 * columns, 3.2)
    drawing, axes = pyplot.subplots(
        1, columns, figsize=size, layout="constrained", squeeze=False
    )
    return drawing, axes[0]


def bars(
    axis: Any,
    rows: list[comparison.Row],
    key: str,
    groups: Mapping[str, Mapping[str, Any]],
    sides: Sequence[str],
) -> None:
    """Draws groups of bars, one for each side: mean, interval, each seed.

    Args:
        axis: Of Matplotlib.
        rows: Of `comparison.collect`.
        key: What is shown.
        groups: What rows a group has, by its label.
        sides: Their names.
    """
    width = 0.8 / len(sides)
    for i, side in enumerate(sides):
        offset = (i - (len(sides) - 1) / 2) * width
        for x, where in enumerate(groups.values()):
            seeds = comparison.values(rows, key, side=side, **where)
            mean, half = comparison.interval(seeds)
            axis.bar(
                x + offset,
                mean,
                width,
                yerr=half,
                color=COLOURS.get(side, f"C{3 + i}"),
                label=None if x else side,
            )
            axis.plot(np.full(len(seeds), x + offset), seeds, "k.", ms=3)
    axis.set_xticks(range(len(groups)), groups)
    axis.set_ylabel(key.replace("_", " "))
