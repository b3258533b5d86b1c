"""What all workers share: the protocol, and the data that they learn from.

A worker is a process that says `{"versions": ...}` when it is ready, and then
answers JSON lines with JSON lines. A request is a case of cases.py and
`seconds`; the answer tells `count` (updates, or environment steps) and the
`seconds` and `cpu_seconds` that they took. The latest case of each kind stays
prepared, so that no later round pays for building, filling and compiling.
"""

import gc
import importlib.metadata
import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable

import numpy as np

ROWS = 100_000  # capacity of every replay buffer; it is full in "update"
RANDOM_STEPS = 1_000  # before learning begins, in "end_to_end"
CHUNK = 200  # environment steps in one call of a training loop

# Does some work, waits until it is done, and returns how much it was.
Call = Callable[[], int]


def serve(
    packages: tuple[str, ...], kinds: dict[str, Callable[[dict], Call]]
) -> None:
    """Answers requests until there are no more.

    Args:
        packages: Those whose versions the worker tells.
        kinds: For each kind of case, what prepares it.
    """
    # What libraries print to stdout must not get in between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    print(json.dumps({"versions": versions(packages)}), file=answers)
    prepared: dict[str, tuple[dict, Call]] = {}
    for line in sys.stdin:
        case = json.loads(line)
        seconds, kind = case.pop("seconds"), case["kind"]
        try:
            if kind not in prepared or prepared[kind][0] != case:
                prepared.pop(kind, None)  # first, for its memory
                gc.collect()
                prepared[kind] = case, kinds[kind](case)
            answer = measure(prepared[kind][1], seconds)
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers)


def measure(call: Call, seconds: float) -> dict[str, float]:
    """Repeats a call for so many seconds, at least once."""
    count = 0
    start, cpu_start = time.perf_counter(), time.process_time()
    while True:
        count += call()
        elapsed = time.perf_counter() - start
        if elapsed >= seconds:
            cpu_seconds = time.process_time() - cpu_start
            return {
                "count": count,
                "seconds": elapsed,
                "cpu_seconds": cpu_seconds,
            }


def versions(packages: tuple[str, ...]) -> str:
    """Python's version and those of packages, in words."""
    pairs = [(name, importlib.metadata.version(name)) for name in packages]
    words = [" ".join(pair) for pair in pairs]
    return ", ".join([f"python {platform.python_version()}", *words])


def random_transitions(case: dict) -> dict[str, np.ndarray]:
    """What fills a replay buffer: the same arrays on every side.

    Returns:
        `observation` and `next_observation` `[ROWS, O]`, `action` `[ROWS, A]`
        in [-1, 1] and `reward` `[ROWS]`, all float32.
    """
    rng = np.random.default_rng(0)
    shape = ROWS, case["observation"]
    return {
        "observation": rng.standard_normal(shape, np.float32),
        "action": 2 * rng.random((ROWS, case["action"]), np.float32) - 1,
        "reward": rng.standard_normal(ROWS, np.float32),
        "next_observation": rng.standard_normal(shape, np.float32),
    }
