"""Draws learning curves: the mean over seeds, and all seeds' range.

    python benchmarks/curves.py benchmarks/results/*.csv --out learning.png

`tfsac plot` draws those of runs.
"""

import argparse
import collections
import csv
import pathlib

from tfsac import cli_plot


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "csv",
        metavar="CSV",
        type=pathlib.Path,
        nargs="+",
        help="of learning.py",
    )
    parser.add_argument(
        "--out", metavar="PNG", type=pathlib.Path, required=True
    )
    args = parser.parse_args()
    print(draw(args.csv, args.out))


def read(path: pathlib.Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def draw(paths: list[pathlib.Path], out: pathlib.Path) -> pathlib.Path:
    """Draws one panel for each environment in the files that learning.py wrote.

    Args:
        paths: CSV files.
        out: The picture's name, whose ending decides the format.

    Returns:
        `out`.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    # env -> seed -> steps -> return
    returns = collections.defaultdict(lambda: collections.defaultdict(dict))
    for row in (row for path in paths for row in read(path)):
        run = returns[row["env"]][row["seed"]]
        run[int(row["env_steps"])] = float(row["return_mean"])

    figure, axes = plt.subplots(
        1,
        len(returns),
        figsize=(4.5 * len(returns), 3.2),
        layout="constrained",
        squeeze=False,
    )
    for axis, (env, runs) in zip(axes[0], returns.items(), strict=True):
        cli_plot.draw(axis, [*runs.values()], env)
        axis.set_title(f"{env}, {len(runs)} seeds")
    axes[0][0].set_ylabel("return: mean, worst to best seed")
    figure.savefig(out, dpi=100)
    plt.close(figure)
    return out


if __name__ == "__main__":
    main()
