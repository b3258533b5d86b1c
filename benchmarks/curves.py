"""Draws learning curves: the mean over seeds, and all seeds' range.

    python benchmarks/curves.py benchmarks/results/*.csv --out learning.png

The band is from the worst seed to the best: with three to five of them, any
interval made of a formula would claim more than there is.
"""

import argparse
import collections
import csv
import pathlib
import statistics


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

    # env -> steps -> one return for each seed
    returns = collections.defaultdict(lambda: collections.defaultdict(list))
    for row in (row for path in paths for row in read(path)):
        steps = int(row["env_steps"])
        returns[row["env"]][steps].append(float(row["return_mean"]))

    figure, axes = plt.subplots(
        1,
        len(returns),
        figsize=(4.5 * len(returns), 3.2),
        layout="constrained",
        squeeze=False,
    )
    for axis, (env, by_steps) in zip(axes[0], returns.items(), strict=True):
        seeds = max(map(len, by_steps.values()))
        # Where a seed is missing, the mean would be over others than elsewhere.
        steps = sorted(n for n in by_steps if len(by_steps[n]) == seeds)
        low = [min(by_steps[n]) for n in steps]
        high = [max(by_steps[n]) for n in steps]
        mean = [statistics.fmean(by_steps[n]) for n in steps]
        axis.fill_between(steps, low, high, alpha=0.25, linewidth=0)
        axis.plot(steps, mean)
        axis.set_title(f"{env}, {seeds} seeds")
        axis.set_xlabel("environment steps")
        axis.ticklabel_format(axis="x", style="plain")
        axis.xaxis.set_major_formatter("{x:,.0f}")
        axis.locator_params(axis="x", nbins=5)
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("return: mean, worst to best seed")
    figure.savefig(out, dpi=100)
    plt.close(figure)
    return out


if __name__ == "__main__":
    main()
