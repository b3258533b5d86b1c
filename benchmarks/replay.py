"""Microseconds per call of the replay buffer: C++ ops, NumPy, tf.Variable.

    python benchmarks/replay.py --out benchmarks/results/replay.csv

Full buffers of a million transitions with observations of 17 (actions 6) and
348 (actions 17); K batches of 256 in one call, and the insertion of one
transition. All cases of a size run in turn, round after round, so that a change
in the machine meets all of them; the numbers are medians over all calls.

- "op": `ReplayBuffer` on the C++ kernels, called eagerly;
- "op in tf.function": the same call, traced;
- "numpy": preallocated arrays, fancy indexing, conversion to tensors;
- "tf.Variable": `ReplayBuffer` on the kernels' pure TensorFlow twin.

The larger size needs 12 GB of memory; `--capacity` lowers that.
"""

import argparse
import multiprocessing
import os
import pathlib
import statistics
import time
from collections.abc import Callable
from typing import Any

import common
import steps

SIZES = {17: 6, 348: 17}
BATCH = 256
CHUNK = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument(
        "--observations", type=int, nargs="+", default=list(SIZES)
    )
    parser.add_argument("--updates", type=int, nargs="+", default=[1, 8, 20])
    parser.add_argument("--capacity", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--calls", type=int, default=50, help="in each round")
    args = parser.parse_args()
    rows = []
    for observation_size in args.observations:
        # A fresh process: it gives its memory back.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            rows += pool.apply(measure, (observation_size, args))
    common.write_csv(args.out, rows)


def measure(observation_size: int, args: argparse.Namespace) -> list[dict]:
    """Measures all cases of one size in this process."""
    load = os.getloadavg()[0]
    cases = _cases(observation_size, args)
    seconds: dict = {case: [] for case in cases}
    for i in range(args.rounds + 1):
        for case, call in cases.items():
            for _ in range(args.calls):
                start = time.perf_counter()
                call()
                if i:  # the first round traces and warms up
                    seconds[case].append(time.perf_counter() - start)
    rows = []
    for (operation, updates, implementation), times in seconds.items():
        us = sorted(1e6 * t for t in times)
        rows.append(
            {
                "operation": operation,
                "implementation": implementation,
                "observation_size": observation_size,
                "updates": updates,
                "us": round(statistics.median(us), 1),
                "us_best_decile": round(us[len(us) // 10], 1),
                "us_worst_decile": round(us[-1 - len(us) // 10], 1),
                "capacity": args.capacity,
                "batch_size": BATCH,
                "calls": len(us),
                "load_before": round(load, 2),
            }
        )
        print(
            f"{operation:>6} observations {observation_size:>3} K={updates:<2} "
            f"{implementation:<18} {rows[-1]['us']} us",
            flush=True,
        )
    return rows


def _cases(
    observation_size: int, args: argparse.Namespace
) -> dict[tuple[str, int, str], Callable[[], Any]]:
    """Returns (operation, K, implementation) to a call."""
    from unittest import mock

    import tensorflow as tf

    from tfsac import ops
    from tfsac.replay import ReplayBuffer
    from tfsac.transition import Transition

    steps.require_kernels()
    sizes = (args.capacity, observation_size, SIZES[observation_size])
    with mock.patch.object(ops, "kernels", return_value=None):
        twin = ReplayBuffer(*sizes)
    buffers = {
        "op": ReplayBuffer(*sizes),
        "numpy": NumpyReplay(*sizes),
        "tf.Variable": twin,
    }
    rows = steps.random_transitions(
        CHUNK, observation_size, SIZES[observation_size]
    )
    tensors = Transition(*map(tf.constant, rows))
    for buffer in buffers.values():
        for _ in range(-(-args.capacity // CHUNK)):
            buffer.insert(tensors if buffer is twin else rows)
    cases: dict = {}
    for updates in args.updates:
        for name, buffer in buffers.items():
            cases["sample", updates, name] = _on(buffer.sample, updates, BATCH)
        traced = tf.function(buffers["op"].sample)
        cases["sample", updates, "op in tf.function"] = _on(
            traced, updates, BATCH
        )
    one = Transition(*(field[:1] for field in rows))
    for name, buffer in buffers.items():
        cases["insert", 1, name] = _on(buffer.insert, one)
    return cases


class NumpyReplay:
    """What one writes without a library: arrays, and indices of the rows."""

    def __init__(
        self, capacity: int, observation_size: int, action_size: int
    ) -> None:
        import numpy as np

        one = steps.random_transitions(1, observation_size, action_size)
        self.columns = [
            np.zeros((capacity, *field.shape[1:]), field.dtype) for field in one
        ]
        self.capacity = capacity
        self.inserted = 0
        self.rng = np.random.default_rng(0)

    def insert(self, transitions: tuple) -> None:
        """Appends rows in order."""
        import numpy as np

        count = len(transitions[2])
        slots = np.arange(self.inserted, self.inserted + count) % self.capacity
        for column, field in zip(self.columns, transitions, strict=True):
            column[slots] = field
        self.inserted += count

    def sample(self, updates: int, batch_size: int) -> tuple:
        """Draws batches, as tensors."""
        import tensorflow as tf

        size = min(self.inserted, self.capacity)
        slots = self.rng.integers(0, size, (updates, batch_size))
        return tuple(
            tf.convert_to_tensor(column[slots]) for column in self.columns
        )


def _on(call: Callable, *arguments: Any) -> Callable[[], Any]:
    return lambda: call(*arguments)


if __name__ == "__main__":
    main()
