"""tfsac against its peers: the same cases on all sides, in turn, in one run.

    benchmarks/peers/setup.sh
    python benchmarks/peers/run.py --out benchmarks/results/peers.csv

README.md, beside this file, tells the other commands, and what each number
includes. Each number of threads has processes of its own, one a side, pinned to
as many cores. Each case runs on all sides in turn, round after round (A B C D A
B C D), and only one process runs at a time. Numbers are medians over rounds; a
ratio is made within each round, and its median is over rounds too. The CSV has
a line for each side of each case, and a plot is drawn beside it.
"""

import argparse
import dataclasses
import os
import pathlib
import statistics
import sys

import plot
from cases import (
    OVERLAP,
    PEERS,
    Case,
    growth_cases,
    main_cases,
    overlap_cases,
)
from side import Side

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import common
from train_step import step_flops

Answers = dict[str, list[dict[str, float]]]  # of each side, a round each


def main() -> None:
    args = _parse()
    names, cases = ("tfsac", *args.peers), main_cases()
    if args.growth:
        cases = growth_cases()
    if args.overlap:
        names, cases = OVERLAP, overlap_cases()
    if args.kinds:
        cases = [case for case in cases if case.kind in args.kinds]
    rows = []
    for threads in args.threads:
        sides: list[Side] = []
        try:
            for name in names:
                sides.append(Side(name, args.venvs, threads))
            for case in cases:
                load = round(os.getloadavg()[0], 2)
                peak = common.fma_peak(threads)
                answers = measure(sides, case, args.rounds, args.seconds)
                peak = max(peak, common.fma_peak(threads))
                extra = {"threads": threads, "load_before": load}
                rows += summarise(sides, case, answers, extra, peak)
                common.write_csv(args.out, rows)
        finally:
            for side in sides:
                side.close()
    print(plot.draw(args.out, args.out.with_suffix(".png")))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--out", metavar="NAME.csv", type=pathlib.Path, required=True
    )
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--growth",
        action="store_true",
        help="one size at a time away from the paper's, instead of those",
    )
    instead.add_argument(
        "--overlap",
        action="store_true",
        help="training loops of tfsac with and without overlap, instead",
    )
    kinds = ["update", "step", "end_to_end"]
    parser.add_argument(
        "--kinds", nargs="+", choices=kinds, help="defaults to all"
    )
    parser.add_argument(
        "--peers", nargs="*", choices=PEERS, default=list(PEERS)
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--seconds",
        type=float,
        default=1.0,
        help="of each case on each side in each round",
    )
    parser.add_argument(
        "--venvs",
        metavar="FOLDER",
        type=pathlib.Path,
        default=common.ROOT / "build" / "peers",
        help="of setup.sh",
    )
    return parser.parse_args()


def measure(
    sides: list[Side], case: Case, rounds: int, seconds: float
) -> Answers:
    """Measures one case on all sides that can run it, in turn."""
    able = [side for side in sides if case.runs_on(side.name)]
    answers: Answers = {side.name: [] for side in able}
    for i in range(rounds + 1):
        for side in able:
            answer = side.measure(case, seconds)
            if i:  # the first round prepares, compiles and warms up
                answers[side.name].append(answer)
    return answers


def summarise(
    sides: list[Side], case: Case, answers: Answers, extra: dict, peak: float
) -> list[dict]:
    """Returns a line for each side, and prints it; the peak in GFLOP/s."""
    rates = {
        name: [answer["count"] / answer["seconds"] for answer in rounds]
        for name, rounds in answers.items()
    }
    # The side that the others are beside: tfsac, or tfsac with overlap.
    ours = OVERLAP[1] if OVERLAP[1] in rates else "tfsac"
    rows = []
    for side in sides:
        if side.name not in rates:
            continue
        row = {"side": side.name, **dataclasses.asdict(case), **extra}
        row |= _number(case, rates[side.name])
        row |= _ratio(rates[ours], rates[side.name])
        row |= _share(case, statistics.median(rates[side.name]), peak)
        busy = [a["cpu_seconds"] / a["seconds"] for a in answers[side.name]]
        row |= {
            "cores_busy": round(statistics.median(busy), 2),
            "rounds": len(rates[side.name]),
            "side_versions": side.versions,
        }
        rows.append(row)
        print(
            f"{extra['threads']} threads, {_name(case)}: {side.name} "
            f"{row['value']} {row['unit']} ({row['worst']} to {row['best']}), "
            f"{ours} is {row['tfsac_faster']} times as fast",
            flush=True,
        )
    return rows


def _name(case: Case) -> str:
    """What differs from the defaults."""
    fields = dataclasses.fields(case)[1:]
    values = [(field, getattr(case, field.name)) for field in fields]
    changes = [f"{f.name} {v}" for f, v in values if v and v != f.default]
    return " ".join([case.kind, *changes])


def _number(case: Case, rates: list[float]) -> dict:
    """Milliseconds an update, or steps a second: median, best and worst."""
    if case.is_loop:
        values, unit, digits = rates, "steps per second", 1
    else:
        values, unit, digits = [1e3 / r for r in rates], "ms per update", 3
    value = statistics.median(values)
    ends = sorted([min(values), max(values)], reverse=unit[0] == "s")
    best, worst = ends
    return {
        "value": round(value, digits),
        "unit": unit,
        "best": round(best, digits),
        "worst": round(worst, digits),
    }


def _ratio(ours: list[float], theirs: list[float]) -> dict:
    """How many times as fast tfsac is, round by round."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return {
        "tfsac_faster": round(statistics.median(ratios), 3),
        "tfsac_faster_least": round(min(ratios), 3),
        "tfsac_faster_most": round(max(ratios), 3),
    }


def _share(case: Case, rate: float, peak: float) -> dict:
    """The update's arithmetic, whatever a side skips of it, over the peak."""
    share: str | float = ""
    if not case.is_loop:
        sizes = case.observation, case.action, case.hidden, case.batch
        gflops = 1e-9 * step_flops(*sizes, case.critics) * rate
        share = round(gflops / peak, 3)
    return {"share_of_peak": share, "peak_gflops": peak}


if __name__ == "__main__":
    main()
