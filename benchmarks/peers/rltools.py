"""tfsac against RLtools, a SAC of C++ templates, here with Intel's MKL.

RLtools is compiled for each of its sizes and environments, so it is measured by
itself: its own training loop on its own Pendulum, in C++, against `fit` on
Gymnasium's, in Python; the paper's networks and batch, one update a step.

    git clone https://github.com/rl-tools/rl-tools build/rl-tools
    benchmarks/peers/setup.sh rltools
    python benchmarks/peers/rltools.py --source build/rl-tools \
        --out benchmarks/results/rltools.csv

The sides take turns; `tfsac_faster` is the median of the ratios of each turn.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import common  # noqa: E402

FLAGS = ["-std=c++17", "-Ofast", "-march=native", "-w"]
SHORT, LONG = 500, 2_000  # steps of its two runs: the difference counts
TFSAC = f"""
import sys, time
import tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(int(sys.argv[1]))
tf.config.threading.set_inter_op_parallelism_threads(1)
import tfsac
agent = tfsac.SAC("Pendulum-v1", tfsac.SACConfig(random_steps=100), seed=0)
agent.fit(steps_per_epoch={SHORT}, validation_episodes=0, verbose=0)
start = time.perf_counter()
agent.fit(steps_per_epoch={LONG - SHORT}, validation_episodes=0, verbose=0)
print(time.perf_counter() - start)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--source", type=pathlib.Path, required=True)
    parser.add_argument(
        "--mkl",
        type=pathlib.Path,
        default=common.ROOT / "build" / "peers" / "rltools",
        help="where include/ and lib/ of MKL are",
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for threads in args.threads:
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
            programs = [
                build(args, pathlib.Path(folder), threads, steps)
                for steps in (SHORT, LONG)
            ]
            ours, theirs = [], []
            for _ in range(args.rounds):
                ours.append(tfsac(threads))
                theirs.append(rltools(programs, threads))
            ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
            row = {
                "threads": threads,
                "tfsac_ms": round(statistics.median(ours), 3),
                "rltools_ms": round(statistics.median(theirs), 3),
                "tfsac_faster": round(statistics.median(ratios), 3),
                "tfsac_faster_least": round(min(ratios), 3),
                "tfsac_faster_most": round(max(ratios), 3),
                "rounds": args.rounds,
            }
            print(row, flush=True)
            rows.append(row)
            os.sched_setaffinity(0, range(os.cpu_count()))
    if args.out is not None:
        common.write_csv(args.out, rows)


def build(
    args: argparse.Namespace, folder: pathlib.Path, threads: int, steps: int
) -> pathlib.Path:
    """Compiles RLtools' training loop, with MKL's threads or without."""
    program = folder / f"rltools-{threads}-{steps}"
    kind = "sequential" if threads == 1 else "gnu_thread"
    libraries = ["mkl_intel_lp64", f"mkl_{kind}", "mkl_core"]
    subprocess.run(
        ["g++", *FLAGS, f"-DSTEPS={steps}", "-DRL_TOOLS_BACKEND_ENABLE_MKL"]
        + ["-fopenmp", f"-I{args.source / 'include'}"]
        + [f"-I{args.mkl / 'include'}", str(HERE / "rltools.cc")]
        + ["-o", str(program), f"-L{args.mkl / 'lib'}", "-Wl,--no-as-needed"]
        + [f"-l:lib{library}.so.3" for library in libraries]
        + [f"-Wl,-rpath,{(args.mkl / 'lib').resolve()}", "-lm", "-ldl"],
        check=True,
    )
    return program


def tfsac(threads: int) -> float:
    """Milliseconds a step of `fit`."""
    answer = subprocess.run(
        [sys.executable, "-c", TFSAC, str(threads)],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    return 1_000 * float(answer.stdout) / (LONG - SHORT)


def rltools(programs: list[pathlib.Path], threads: int) -> float:
    """Milliseconds a step of RLtools' loop."""
    seconds = []
    for program in programs:
        start = time.perf_counter()
        environment = {**os.environ, "MKL_NUM_THREADS": str(threads)}
        subprocess.run([program], check=True, env=environment)
        seconds.append(time.perf_counter() - start)
    return 1_000 * (seconds[1] - seconds[0]) / (LONG - SHORT)


if __name__ == "__main__":
    main()
