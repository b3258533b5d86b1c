"""Milliseconds per update: eager, graph, XLA, for K updates in one call.

    python benchmarks/train_step.py --out benchmarks/results/train_step.csv

Sizes of HalfCheetah: observations 17, actions 6, hidden layers 256 and 256, and
the algorithm's own batch: 256 for SAC; 64 for soft Q-learning (`--algorithm
sql`), which looks at 96 actions in each state of it. Each number of threads
runs in a process of its own, pinned to as many cores. In it all cases run in
turn, round after round, so that a change in the machine meets all of them; the
numbers are medians over rounds.

- "eager", "graph", "xla": the train step on TensorFlow's own ops, on batches
  that are there already;
- "kernels": with XLA and the C++ kernels, as the library runs it;
- "update": `agent.update(K)` in the same way, which samples from replay too.

The floor is the step's arithmetic over what fused multiply-adds reach on as
many threads just before (`fma_peak.cc`): no step that consists of matrix
products runs faster than that. `share` is the floor over the time.
"""

import argparse
import functools
import os
import statistics
from typing import Any

import common
import steps

SIZES = {"sac": steps.Sizes(), "sql": steps.Sizes(batch=64)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    steps.add_options(parser, rounds=15, seconds=0.5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--updates", type=int, nargs="+", default=[1, 8, 20])
    parser.add_argument("--modes", nargs="+", help="defaults to all")
    parser.add_argument("--algorithm", choices=list(SIZES), default="sac")
    args = parser.parse_args()
    rows = steps.in_processes(measure, args.threads, args)
    common.write_csv(args.out, rows)


def measure(threads: int, args: argparse.Namespace) -> list[dict]:
    """Measures all cases in this process, on so many threads."""
    steps.pin(threads)
    steps.require_kernels()
    load = os.getloadavg()[0]
    peak = common.fma_peak(threads)
    calls = _calls(args.algorithm, args.updates)
    flops = {"sac": step_flops, "sql": sql_flops}[args.algorithm]()
    if args.modes:
        calls = {c: call for c, call in calls.items() if c[0] in args.modes}
    steps.warm_up(calls)
    name = f"{threads} threads"
    rows = []
    seconds = steps.in_turn(calls, args.rounds, args.seconds, name)
    for (mode, updates), times in seconds.items():
        ms = [1e3 * t / updates for t in times]
        median, floor = statistics.median(ms), 1e-6 * flops / peak
        row = {
            "algorithm": args.algorithm,
            "mode": mode,
            "updates": updates,
            "threads": threads,
            "ms_per_update": round(median, 3),
            "ms_best": round(min(ms), 3),
            "ms_worst": round(max(ms), 3),
            "floor_ms": round(floor, 3),
            "share": round(floor / median, 3),
            "peak_gflops": peak,
            "rounds": args.rounds,
            "load_before": round(load, 2),
        }
        rows.append(row)
        print(
            f"{mode:>7} K={updates:<2} {name}: {row['ms_per_update']} ms per "
            f"update ({row['ms_best']} to {row['ms_worst']}), "
            f"{row['share']:.0%} of the peak"
        )
    return rows


def _calls(
    algorithm: str, all_updates: list[int]
) -> dict[tuple[str, int], steps.Call]:
    """Returns (mode, K) to a call that runs K updates and waits for them."""
    from tfsac import mlp, step

    # One each, so that no step changes what another one sees.
    modes = ("eager", "graph", "xla", "kernels", "update")
    sizes = SIZES[algorithm]
    agents = {m: steps.make_agent(sizes, 100_000, algorithm) for m in modes}
    agents["graph"].compile(jit_compile=False)
    update = agents["update"].update
    calls = {}
    for updates in all_updates:
        batches = agents["update"].replay.sample(updates, sizes.batch)
        with mlp.tensorflow_only():
            functions = {
                "eager": functools.partial(_eager, agents["eager"]),
                "graph": step.compile_step(agents["graph"], batches),
                "xla": step.compile_step(agents["xla"], batches),
            }
        functions["kernels"] = step.compile_step(agents["kernels"], batches)
        for mode, function in functions.items():
            calls[mode, updates] = steps.waiting(function, batches)
        calls["update", updates] = lambda k=updates: update(k)["loss"]  # waits
    return calls


def _eager(agent: Any, batches: Any) -> Any:
    """Runs an update for each batch, on TensorFlow's own ops."""
    from tfsac import mlp

    for k in range(batches.reward.shape[0]):
        batch = type(batches)(*(field[k] for field in batches))
        with mlp.tensorflow_only():
            metrics = agent.learn(batch)
    return metrics


def step_flops(
    observation: int = SIZES["sac"].observation,
    action: int = SIZES["sac"].action,
    hidden: int = SIZES["sac"].hidden,
    batch: int = SIZES["sac"].batch,
    critics: int = SIZES["sac"].critics,
) -> int:
    """Multiplications and additions in one SAC update's matrix products."""
    actor = _layers(observation, hidden, 2 * action)
    critic = _layers(observation + action, hidden, 1)
    # Forward for a', the actor's loss and Q' each; a gradient costs as much
    # again for the weights and as much for the inputs, which the first layer
    # does not need where they are data.
    of_actor = 4 * _flops(actor) - _flops(actor[:1])
    of_critic = 6 * _flops(critic) - _flops(critic[:1])
    return batch * (of_actor + critics * of_critic)


def sql_flops(
    sizes: steps.Sizes = SIZES["sql"], particles: int = 32, proposals: int = 64
) -> int:
    """The same of an update of soft Q-learning."""
    actor = _layers(
        sizes.observation + sizes.action, sizes.hidden, sizes.action
    )
    critic = _layers(sizes.observation + sizes.action, sizes.hidden, 1)
    of_actor = particles * (3 * _flops(actor) - _flops(actor[:1]))
    of_critic = (proposals + 2 * particles + 3) * _flops(critic)
    of_critic -= _flops(critic[:1])
    return sizes.batch * (of_actor + sizes.critics * of_critic)


def _layers(inputs: int, hidden: int, outputs: int) -> list[tuple[int, int]]:
    return [(inputs, hidden), (hidden, hidden), (hidden, outputs)]


def _flops(layers: list[tuple[int, int]]) -> int:
    """Of a forward pass of one row."""
    return sum(2 * rows * columns for rows, columns in layers)


if __name__ == "__main__":
    main()
