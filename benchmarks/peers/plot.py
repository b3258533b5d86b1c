"""Draws what run.py measured: bars, or lines where sizes grow.

python benchmarks/peers/plot.py benchmarks/results/peers.csv peers.png
"""

import argparse
import collections
import csv
import pathlib
from typing import Any

# The same in every panel, whichever sides it has.
COLOURS = {
    "tfsac": "C0",
    "sb3": "C1",
    "sbx": "C2",
    "tf_agents": "C3",
    "tfsac_overlap": "C4",
}

Rows = list[dict[str, str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("csv", metavar="CSV", type=pathlib.Path)
    parser.add_argument("out", metavar="PNG", type=pathlib.Path)
    args = parser.parse_args()
    print(draw(args.csv, args.out))


def draw(path: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    """Draws one row of panels for each number of threads.

    Args:
        path: The CSV file of run.py.
        out: The picture's name, whose ending decides the format.

    Returns:
        `out`.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    # threads -> what the panel shows -> rows
    panels: dict = collections.defaultdict(
        lambda: collections.defaultdict(list)
    )
    for row in rows:
        panels[row["threads"]][_title(row)].append(row)
    columns = max(map(len, panels.values()))
    figure, axes = plt.subplots(
        len(panels),
        columns,
        figsize=(3.2 * columns, 2.8 * len(panels)),
        layout="constrained",
        squeeze=False,
    )
    for line, (threads, by_title) in zip(axes, panels.items(), strict=True):
        for axis, (title, of_panel) in zip(
            line, by_title.items(), strict=False
        ):
            draw_panel = _lines if of_panel[0]["growth"] else _bars
            draw_panel(axis, of_panel)
            cores = "1 core" if threads == "1" else f"{threads} cores"
            axis.set_title(f"{title}, {cores}", fontsize="medium")
            axis.set_ylabel(of_panel[0]["unit"])
            axis.grid(alpha=0.3)
    axes[0][0].legend(fontsize="small")
    figure.savefig(out, dpi=100)
    plt.close(figure)
    return out


def _title(row: dict[str, str]) -> str:
    """What a panel shows."""
    title = row["growth"] or row["env"] or row["kind"]
    if not row["growth"] and row["num_envs"] != "1":
        title = f"{row['num_envs']} {title}, {row['vectorization']}"
    return title


def _by_side(rows: Rows, x: str) -> dict[str, dict[int, float]]:
    values: dict = collections.defaultdict(dict)
    for row in rows:
        values[row["side"]][int(row[x])] = float(row["value"])
    return values


def _bars(axis: Any, rows: Rows) -> None:
    """A group of bars for each K."""
    sides = _by_side(rows, "updates")
    groups = sorted({k for values in sides.values() for k in values})
    width = 0.8 / len(sides)
    for i, (side, values) in enumerate(sides.items()):
        places = [groups.index(k) + i * width for k in values]
        axis.bar(
            places, values.values(), width, color=COLOURS[side], label=side
        )
    middle = (len(sides) - 1) * width / 2
    axis.set_xticks(
        [i + middle for i in range(len(groups))], [f"K = {k}" for k in groups]
    )


def _lines(axis: Any, rows: Rows) -> None:
    """A line for each side, over the size that grows."""
    from matplotlib import ticker

    size = rows[0]["growth"]
    for side, values in _by_side(rows, size).items():
        axis.loglog(
            values.keys(),
            values.values(),
            "o-",
            color=COLOURS[side],
            label=side,
        )
    ticks = sorted({int(row[size]) for row in rows})
    axis.set_xticks(ticks, map(str, ticks))
    axis.xaxis.set_minor_locator(ticker.NullLocator())
    # A decade may hold all values, and then its ends are not enough.
    axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_locator(ticker.NullLocator())
    axis.set_xlabel(size)


if __name__ == "__main__":
    main()
