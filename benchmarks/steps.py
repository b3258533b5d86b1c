"""What the benchmarks of the agent's parts share: sizes, data, calls, turns.

TensorFlow is imported only when a function needs it: a process is pinned
before.
"""

import argparse
import contextlib
import dataclasses
import math
import multiprocessing
import os
import pathlib
import statistics
import time
from collections.abc import Callable, Hashable, Iterable
from typing import Any, TypeVar

PATHS = ("kernels", "tensorflow")
Call = Callable[[], None]  # does some work, and waits until it is done
Key = TypeVar("Key", bound=Hashable)


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Sizes of an update; the defaults are the paper's, on HalfCheetah.

    Args:
        observation: O.
        action: A.
        hidden: Width of all hidden layers, of actor and critics.
        depth: How many these are.
        critics: N.
        batch: B.
        activation: That of the hidden layers.
    """

    observation: int = 17
    action: int = 6
    hidden: int = 256
    depth: int = 2
    critics: int = 2
    batch: int = 256
    activation: str = "relu"

    def __str__(self) -> str:
        """What differs from the paper's, in words."""
        changes = [
            f"{field.name} {getattr(self, field.name)}"
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        ]
        return " ".join(changes) or "paper's sizes"


def add_options(
    parser: argparse.ArgumentParser, rounds: int, seconds: float
) -> None:
    """Adds `--out`, and `--rounds` and `--seconds` with these defaults."""
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument(
        "--seconds",
        type=float,
        default=seconds,
        help="of each case in each round",
    )


def in_processes(
    measure: Callable[[int, argparse.Namespace], list[dict]],
    threads: Iterable[int],
    args: argparse.Namespace,
) -> list[dict]:
    """Calls `measure(threads, args)` in a fresh process each, and joins rows.

    TensorFlow's threads are set once and for all, and cores before it counts
    them.
    """
    rows = []
    for each in threads:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            rows += pool.apply(measure, (each, args))
    return rows


def pin(threads: int) -> list[int]:
    """Gives this process so many threads, and as many cores.

    Returns:
        The cores.
    """
    cores = sorted(os.sched_getaffinity(0))[:threads]
    os.sched_setaffinity(0, cores)

    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    return cores


def make_agent(
    sizes: Sizes, rows: int = 10_000, algorithm: str = "sac", **config: Any
) -> Any:
    """Makes an agent of these sizes, and fills its replay buffer.

    Args:
        sizes: Of spaces, networks and batches.
        rows: Random transitions in replay, which holds no more.
        algorithm: "sac" or "sql".
        **config: Other hyperparameters.
    """
    import gymnasium
    import numpy as np

    from tfsac.cli_train import ALGORITHMS

    spaces = (
        gymnasium.spaces.Box(-np.inf, np.inf, (sizes.observation,)),
        gymnasium.spaces.Box(-1.0, 1.0, (sizes.action,)),
    )
    config = {
        "hidden_units": (sizes.hidden,) * sizes.depth,
        "activation": sizes.activation,
        "num_critics": sizes.critics,
        "batch_size": sizes.batch,
        "replay_capacity": rows,
    } | config
    agent_class = ALGORITHMS[algorithm]
    agent = agent_class(spaces, agent_class.CONFIG(**config), seed=0)
    agent.replay.insert(
        random_transitions(rows, sizes.observation, sizes.action)
    )
    return agent


def random_transitions(
    rows: int, observation_size: int, action_size: int
) -> Any:
    """Makes a `Transition` of arrays, that of no environment."""
    import numpy as np

    from tfsac.transition import Transition

    rng = np.random.default_rng(0)
    shape = rows, observation_size
    return Transition(
        observation=rng.standard_normal(shape, np.float32),
        action=2 * rng.random((rows, action_size), np.float32) - 1,
        reward=rng.standard_normal(rows, np.float32),
        next_observation=rng.standard_normal(shape, np.float32),
        terminated=np.zeros(rows, bool),
        truncated=np.zeros(rows, bool),
        env_index=np.zeros(rows, np.int32),
    )


def step_calls(sizes: Sizes, updates: int) -> dict[str, Call]:
    """The compiled train step by the kernels, and by XLA's own ops.

    Each has an agent of its own, so that neither changes what the other sees;
    both learn from batches that are there already.

    Returns:
        "kernels" and "tensorflow", each to a call that runs K updates.
    """
    from tfsac import step

    calls = {}
    for path in PATHS:
        agent = make_agent(sizes)
        batches = agent.replay.sample(updates, sizes.batch)
        with on_path(path):
            compiled = step.compile_step(agent, batches)
        calls[path] = waiting(compiled, batches)
    return calls


def require_kernels() -> None:
    """Ends the process where there are none to measure."""
    from tfsac import ops

    if not ops.loaded():
        raise SystemExit(f"The kernels are needed, but are {ops.status()}")


def on_path(path: str) -> contextlib.AbstractContextManager:
    """Has networks run on the kernels, however wide, or on TensorFlow's ops."""
    from tfsac import mlp

    if path == "tensorflow":
        return mlp.tensorflow_only()
    mlp._WIDEST = math.inf
    return contextlib.nullcontext()


def waiting(function: Callable, *arguments: Any) -> Call:
    """Makes a call that reads a result: to read it is to wait for it."""

    def call() -> None:
        function(*arguments).numpy()

    return call


def in_turn(
    calls: dict[Key, Call], rounds: int, seconds: float, name: str = ""
) -> dict[Key, list[float]]:
    """Times all calls in turn, round after round.

    So a change in the machine meets all of them.

    Args:
        calls: What is timed, by name.
        rounds: How many times each has its turn.
        seconds: How long a turn lasts; at least one call is made.
        name: What to say that the rounds are of; nothing is said without.

    Returns:
        The seconds of a call, a number for each round: the mean over as many
        calls as fit.
    """
    times: dict[Key, list[float]] = {key: [] for key in calls}
    for i in range(rounds):
        for key, call in calls.items():
            times[key].append(_mean_seconds(call, seconds))
        if name:
            print(f"{name}: round {i + 1} of {rounds}", flush=True)
    return times


def warm_up(calls: dict[Any, Call]) -> None:
    """Traces and compiles, and has memory settle, which takes some calls."""
    in_turn(calls, rounds=5, seconds=0)


def compare(
    kernels: list[float], tensorflow: list[float], updates: int = 1
) -> dict[str, float]:
    """Columns that compare the two paths, measured in turn.

    Args:
        kernels: Seconds of a call in each round.
        tensorflow: The same without the kernels.
        updates: Updates in a call.

    Returns:
        Medians in ms per update, and how many times as fast the kernels are:
        the ratio within a round, its median, least and most over rounds.
    """
    ratios = [b / a for a, b in zip(kernels, tensorflow, strict=True)]
    return {
        "kernels_ms": _median_ms(kernels, updates),
        "tensorflow_ms": _median_ms(tensorflow, updates),
        "kernels_faster": round(statistics.median(ratios), 3),
        "kernels_faster_least": round(min(ratios), 3),
        "kernels_faster_most": round(max(ratios), 3),
        "rounds": len(ratios),
    }


def in_words(row: dict[str, float]) -> str:
    """Says what `compare` found."""
    return (
        f"{row['kernels_ms']} ms, without kernels {row['tensorflow_ms']} ms, "
        f"kernels are {row['kernels_faster']} times as fast "
        f"({row['kernels_faster_least']} to {row['kernels_faster_most']})"
    )


def _median_ms(seconds: list[float], updates: int) -> float:
    return round(1e3 * statistics.median(seconds) / updates, 4)


def _mean_seconds(call: Call, seconds: float) -> float:
    calls, start = 0, time.perf_counter()
    while True:
        call()
        calls += 1
        elapsed = time.perf_counter() - start
        if elapsed >= seconds:
            return elapsed / calls
