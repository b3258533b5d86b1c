"""The train step while a second process keeps one of the cores busy.

    python benchmarks/busy.py --out benchmarks/results/busy.csv

Sizes of HalfCheetah, two threads on two cores, K updates in a call, on batches
that are there already: by the kernels within XLA, and by XLA's own ops. The
load is a loop of plain Python:

- "none": there is no such process;
- "pinned": it may only run on the second of the two cores;
- "free": it may run on both, wherever the system puts it.

In each round each load has its turn, and in it both paths (A B A B), so that a
change in the machine meets all of them. `kernels_faster` is the median over
rounds of the ratio within a round; kernels that are a tenth slower have 0.909.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import common
import steps

THREADS = 2
SETTLE = 0.2  # seconds in which the system moves threads among the cores


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    steps.add_options(parser, rounds=15, seconds=0.5)
    parser.add_argument("--updates", type=int, nargs="+", default=[1, 20])
    args = parser.parse_args()
    if len(os.sched_getaffinity(0)) < THREADS:
        raise SystemExit("Two cores are needed, for two threads and a load")
    common.write_csv(args.out, steps.in_processes(measure, [THREADS], args))


def measure(threads: int, args: argparse.Namespace) -> list[dict]:
    """Measures all cases in this process."""
    cores = steps.pin(threads)
    steps.require_kernels()
    machine_load = round(os.getloadavg()[0], 2)
    calls = {
        (updates, path): call
        for updates in args.updates
        for path, call in steps.step_calls(steps.Sizes(), updates).items()
    }
    steps.warm_up(calls)
    loads = {"none": None, "pinned": cores[-1:], "free": cores}
    seconds: dict = {(load, *key): [] for load in loads for key in calls}
    for i in range(args.rounds):
        for load, on in loads.items():
            with _busy(on):
                times = steps.in_turn(calls, 1, args.seconds)
            for key, values in times.items():
                seconds[load, *key] += values
        print(f"round {i + 1} of {args.rounds}", flush=True)
    rows = []
    for load in loads:
        for updates in args.updates:
            times = [seconds[load, updates, path] for path in steps.PATHS]
            row = {"load": load, "updates": updates, "threads": threads}
            row |= steps.compare(*times, updates)
            rows.append(row | {"load_before": machine_load})
            print(f"load {load}, K={updates}: {steps.in_words(row)}")
    return rows


@contextlib.contextmanager
def _busy(cores: list[int] | None) -> Iterator[None]:
    """Runs a process that is never idle on these cores; `None` runs none."""
    if cores is None:
        yield
        return
    loop = f"import os; os.sched_setaffinity(0, {cores})\nwhile True: pass"
    process = subprocess.Popen([sys.executable, "-c", loop])
    try:
        time.sleep(SETTLE)
        yield
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    main()
