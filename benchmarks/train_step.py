"""Milliseconds per update: eager, graph, XLA, for K updates in one call.

    python benchmarks/train_step.py --out benchmarks/results/train_step.csv

Sizes of HalfCheetah: observations 17, actions 6, hidden layers 256 and 256,
batch 256. Each number of threads runs in a process of its own, pinned to as
many cores. In it all cases run in turn, round after round, so that a change in
the machine meets all of them; the numbers are medians over rounds.

- "eager", "graph", "xla": the train step on TensorFlow's own ops, on batches
  that are there already;
- "kernels": with XLA and the C++ kernels, as the library runs it;
- "update": `agent.update(K)` in the same way, which samples from replay too.

The floor is the step's arithmetic over what fused multiply-adds reach on as
many threads just before (`fma_peak.cc`): no step that consists of matrix
products runs faster than that. `share` is the floor over the time.
"""

import argparse
import multiprocessing
import os
import pathlib
import statistics
import time
from collections.abc import Callable, Mapping

import common

OBSERVATION, ACTION, HIDDEN, BATCH = 17, 6, 256, 256


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--updates", type=int, nargs="+", default=[1, 8, 20])
    parser.add_argument("--modes", nargs="+", help="defaults to all")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--seconds", type=float, default=0.5, help="of each case in each round"
    )
    args = parser.parse_args()
    rows = []
    for threads in args.threads:
        # A fresh process: TensorFlow's threads are set once and for all.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            rows += pool.apply(measure, (threads, args))
    common.write_csv(args.out, rows)


def measure(threads: int, args: argparse.Namespace) -> list[dict]:
    """Measures all cases in this process, on so many threads."""
    cores = sorted(os.sched_getaffinity(0))[:threads]
    os.sched_setaffinity(0, cores)
    load = os.getloadavg()[0]
    peak = common.fma_peak(threads)

    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    cases = _cases(args.updates)
    if args.modes:
        cases = {c: call for c, call in cases.items() if c[0] in args.modes}
    seconds: dict = {case: [] for case in cases}
    for i in range(args.rounds + 1):
        for case, call in cases.items():
            each = _time(call, args.seconds if i else 0)
            if i:  # the first round compiles and warms up
                seconds[case].append(each)
        print(f"{threads} threads: round {i} of {args.rounds}", flush=True)

    rows = []
    for (mode, updates), times in seconds.items():
        ms = [1e3 * t / updates for t in times]
        rows.append(
            {
                "mode": mode,
                "updates": updates,
                "threads": threads,
                "ms_per_update": round(statistics.median(ms), 3),
                "ms_best": round(min(ms), 3),
                "ms_worst": round(max(ms), 3),
                "floor_ms": round(1e-6 * step_flops() / peak, 3),
                "share": round(
                    1e-6 * step_flops() / peak / statistics.median(ms), 3
                ),
                "peak_gflops": peak,
                "rounds": args.rounds,
                "load_before": round(load, 2),
            }
        )
        row = rows[-1]
        print(
            f"{mode:>6} K={updates:<2} {threads} threads: "
            f"{row['ms_per_update']} ms per update ({row['ms_best']} to "
            f"{row['ms_worst']}), {row['share']:.0%} of the peak"
        )
    return rows


def _cases(all_updates: list[int]) -> dict[tuple[str, int], Callable]:
    """Returns (mode, K) to a call that runs K updates and waits for them."""
    import gymnasium
    import numpy as np
    import tensorflow as tf

    import tfsac
    from tfsac import mlp, step
    from tfsac.transition import Transition

    observation = gymnasium.spaces.Box(-np.inf, np.inf, (OBSERVATION,))
    action = gymnasium.spaces.Box(-1.0, 1.0, (ACTION,))
    config = tfsac.SACConfig(
        hidden_units=(HIDDEN, HIDDEN), batch_size=BATCH, replay_capacity=100_000
    )
    rng = np.random.default_rng(0)
    rows = config.replay_capacity
    transitions = Transition(
        observation=rng.normal(size=(rows, OBSERVATION)).astype(np.float32),
        action=rng.uniform(-1, 1, (rows, ACTION)).astype(np.float32),
        reward=rng.normal(size=rows).astype(np.float32),
        next_observation=rng.normal(size=(rows, OBSERVATION)).astype(
            np.float32
        ),
        terminated=np.zeros(rows, bool),
        truncated=np.zeros(rows, bool),
        env_index=np.zeros(rows, np.int32),
    )
    agents = {}
    for mode in ("eager", "graph", "xla", "kernels", "update"):
        # Of its own each, so that no step changes what another one sees.
        agents[mode] = tfsac.SAC((observation, action), config, seed=0)
        agents[mode].compile(jit_compile=mode != "graph")
    agents["update"].replay.insert(transitions)

    def eager(batches: Transition) -> tf.Tensor:
        agent = agents["eager"]
        for k in range(batches.reward.shape[0]):
            batch = Transition(*(field[k] for field in batches))
            noise = agent.learning_noise.draw((2, BATCH, ACTION))
            with mlp.tensorflow_only():
                metrics = step.update(agent, batch, noise)
        return metrics

    cases = {}
    for updates in all_updates:
        batches = agents["update"].replay.sample(updates, BATCH)
        with mlp.tensorflow_only():
            calls = {
                "eager": eager,
                "graph": step.compile_step(agents["graph"], batches),
                "xla": step.compile_step(agents["xla"], batches),
            }
        calls["kernels"] = step.compile_step(agents["kernels"], batches)
        for mode, call in calls.items():
            cases[mode, updates] = _on(call, batches)
        cases["update", updates] = _on(agents["update"].update, updates)
    return cases


def _on(call: Callable, argument: object) -> Callable:
    def run() -> None:
        result = call(argument)
        # To read it is to wait for it.
        result["loss"] if isinstance(result, Mapping) else result.numpy()

    return run


def _time(call: Callable, seconds: float) -> float:
    """Seconds of a call, in the mean over as many as fit; at least one."""
    calls, start = 0, time.perf_counter()
    while True:
        call()
        calls += 1
        elapsed = time.perf_counter() - start
        if elapsed >= seconds:
            return elapsed / calls


def step_flops(
    observation: int = OBSERVATION,
    action: int = ACTION,
    hidden: int = HIDDEN,
    batch: int = BATCH,
    critics: int = 2,
) -> int:
    """Multiplications and additions in one update's matrix products."""
    actor_layers = [(observation, hidden), (hidden, hidden)]
    critic_layers = [(observation + action, hidden), (hidden, hidden)]
    actor = [*actor_layers, (hidden, 2 * action)]
    critic = [*critic_layers, (hidden, 1)]

    def flops(layers: list[tuple[int, int]]) -> int:
        return sum(2 * batch * rows * columns for rows, columns in layers)

    # Forward for a', the actor's loss and Q' each; a gradient costs as much
    # again for the weights and as much for the inputs, which the first layer
    # does not need where they are data.
    of_actor = 4 * flops(actor) - flops(actor[:1])
    of_critic = 6 * flops(critic) - flops(critic[:1])
    return of_actor + critics * of_critic


if __name__ == "__main__":
    main()
