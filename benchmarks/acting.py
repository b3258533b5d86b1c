"""Microseconds per action, and per step of the loop behind `fit`.

    python benchmarks/acting.py --out benchmarks/results/acting.csv

Observations of 17, actions of 6, hidden layers of 256x256. All cases run in
turn, round after round, so that a change in the machine meets all of them; the
numbers are medians over all calls.

- "explore" samples as `fit` does, for 1, 16 and 256 observations;
- "predict" is `agent.predict`, deterministic, for the same;
- "insert" is `replay.insert` of as many transitions;
- "loop" is a step of `fit` where environment and update cost nothing: acting,
  storing, checking, counting and reporting.

Each by the C++ kernels and, as "TensorFlow", without them. A step of the loop
runs on one core, whatever there is; the batches are shared among all.
"""

import argparse
import os
import pathlib
import statistics
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import common
import gymnasium
import numpy as np
import steps

SIZES = {"observation_size": 17, "action_size": 6}
BATCHES = (1, 16, 256)
LOOP_STEPS = 1_000  # in one call of fit, one a round


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--calls", type=int, default=100, help="in each round")
    args = parser.parse_args()
    load = os.getloadavg()[0]
    cases = _cases()
    seconds: dict = {case: [] for case in cases}
    for i in range(args.rounds + 1):
        for case, call in cases.items():
            times = _time(call, 1 if case[0] == "loop" else args.calls)
            if i:  # the first round traces and warms up
                seconds[case] += times
    rows = [_row(case, times, load) for case, times in seconds.items()]
    common.write_csv(args.out, rows)


def _time(call: Callable[[], int], calls: int) -> list[float]:
    """Returns the seconds per step of each call; it returns its steps."""
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        steps = call()
        times.append((time.perf_counter() - start) / steps)
    return times


def _row(case: tuple[str, int, str], times: list[float], load: float) -> dict:
    operation, batch, implementation = case
    us = sorted(1e6 * t for t in times)
    row = {
        "operation": operation,
        "implementation": implementation,
        "batch": batch,
        "us": round(statistics.median(us), 1),
        "us_best_decile": round(us[len(us) // 10], 1),
        "us_worst_decile": round(us[-1 - len(us) // 10], 1),
        **SIZES,
        "calls": len(us),
        "load_before": round(load, 2),
    }
    print(
        f"{operation:>8} {batch:>3} {implementation:<11} {row['us']} us",
        flush=True,
    )
    return row


def _cases() -> dict[tuple[str, int, str], Callable[[], int]]:
    """Returns (operation, batch, implementation) to a call."""
    from tfsac import ops

    steps.require_kernels()
    agents = {"kernels": _agent()}
    with mock.patch.object(ops, "kernels", return_value=None):
        agents["TensorFlow"] = _agent()
    cases: dict = {}
    for batch in BATCHES:
        transitions = steps.random_transitions(batch, **SIZES)
        rows = transitions.observation
        one_or_more = rows[0] if batch == 1 else rows
        for name, agent in agents.items():
            cases["explore", batch, name] = _on(agent.explore, rows)
            cases["predict", batch, name] = _on(agent.predict, one_or_more)
            cases["insert", batch, name] = _on(agent.replay.insert, transitions)
    for name, agent in agents.items():
        cases["loop", 1, name] = _loop(agent)
    return cases


def _on(call: Callable[[Any], Any], argument: Any) -> Callable[[], int]:
    def run() -> int:
        call(argument)
        return 1

    return run


def _loop(agent: Any) -> Callable[[], int]:
    def run() -> int:
        agent.fit(steps_per_epoch=LOOP_STEPS, validation_episodes=0, verbose=0)
        return LOOP_STEPS

    return run


class FreeEnv(gymnasium.Env):
    """Costs nothing, and ends an episode every thousand steps."""

    observation_space = gymnasium.spaces.Box(
        -np.inf, np.inf, (SIZES["observation_size"],), np.float32
    )
    action_space = gymnasium.spaces.Box(
        -1, 1, (SIZES["action_size"],), np.float32
    )

    def __init__(self) -> None:
        self._observation = np.ones(SIZES["observation_size"], np.float32)
        self._t = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        """Starts an episode."""
        super().reset(seed=seed)
        return self._observation, {}

    def step(self, action: np.ndarray) -> Any:
        """Goes nowhere."""
        self._t += 1
        return self._observation, 1.0, False, self._t % 1000 == 0, {}


def _agent() -> Any:
    """An agent that explores from the start, and whose update is free."""
    import tensorflow as tf

    import tfsac
    from tfsac.metrics import Metrics
    from tfsac.sac_update import METRICS

    agent = tfsac.SAC(FreeEnv(), tfsac.SACConfig(random_steps=0), seed=0)
    values = tf.zeros(len(METRICS))
    agent.update = lambda: Metrics(METRICS, values)
    return agent


if __name__ == "__main__":
    main()
