"""Where the dense layers' kernels are faster than TensorFlow's own ops.

    python benchmarks/crossover.py --out benchmarks/results/crossover.csv

Sizes of HalfCheetah (observations 17, actions 6, hidden layers 256 and 256,
batch 256, two critics, relu), and from there one size at a time is varied,
which `varied` names; "all" has all of them small. Each number of threads runs
in a process of its own, pinned to as many cores.

- "step" is the compiled train step, one update in a call, on batches that are
  there already: by the kernels within XLA, and by XLA's own ops;
- "actor" and "critic" are the networks called alone, forward only, without
  XLA: "eager", and in a `tf.function`, "graph".

Both paths of a case run in turn, round after round (A B A B), so that a change
in the machine meets both. `kernels_faster` is the median over rounds of the
ratio within a round: the crossover is where it passes 1.
"""

import argparse
import dataclasses
import os
from collections.abc import Callable
from typing import Any

import common
import steps
from steps import Sizes

VARIED = {
    "batch": (16, 64, 1024, 4096),
    "hidden": (16, 32, 64, 128, 512, 768, 1024),
    "depth": (0, 1, 3),
    "critics": (1, 10),
    "observation": (3, 100, 400),
    "activation": ("tanh",),
}
SMALLEST = Sizes(observation=3, action=1, hidden=16, critics=1, batch=16)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    steps.add_options(parser, rounds=7, seconds=0.3)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    operations = ["step", "actor", "critic"]
    parser.add_argument(
        "--operations", nargs="+", choices=operations, default=operations
    )
    args = parser.parse_args()
    rows = steps.in_processes(measure, args.threads, args)
    common.write_csv(args.out, rows)


@dataclasses.dataclass(frozen=True)
class Case:
    """What is measured, how it runs, which size is varied, and all sizes."""

    operation: str
    execution: str
    varied: str
    sizes: Sizes

    def columns(self) -> dict[str, Any]:
        """The case as columns of the CSV."""
        columns = dataclasses.asdict(self)
        return columns | columns.pop("sizes")


def measure(threads: int, args: argparse.Namespace) -> list[dict]:
    """Measures all cases in this process, on so many threads."""
    steps.pin(threads)
    steps.require_kernels()
    rows = []
    for case in _cases():
        if case.operation not in args.operations:
            continue
        load = round(os.getloadavg()[0], 2)
        calls = _calls(case)
        steps.warm_up(calls)
        times = steps.in_turn(calls, args.rounds, args.seconds)
        row = case.columns() | {"threads": threads} | steps.compare(**times)
        rows.append(row | {"load_before": load})
        name = f"{threads} threads, {case.operation} {case.execution}"
        print(f"{name}, {case.sizes}: {steps.in_words(row)}", flush=True)
    return rows


def _cases() -> list[Case]:
    cases = [
        Case("step", "xla", "", Sizes()),
        Case("step", "xla", "all", SMALLEST),
    ]
    for varied, values in VARIED.items():
        for value in values:
            cases.append(Case("step", "xla", varied, Sizes(**{varied: value})))
    for operation in ("actor", "critic"):
        for execution in ("eager", "graph"):
            cases += [
                Case(operation, execution, "", Sizes()),
                Case(operation, execution, "batch", Sizes(batch=1)),
            ]
    return cases


def _calls(case: Case) -> dict[str, steps.Call]:
    """Returns "kernels" and "tensorflow" to a call."""
    if case.operation == "step":
        return steps.step_calls(case.sizes, updates=1)

    import tensorflow as tf

    agent = steps.make_agent(case.sizes)
    batch = agent.replay.sample(1, case.sizes.batch)
    inputs: Any = batch.observation[0]
    if case.operation == "critic":
        inputs = inputs, batch.action[0]
    calls = {}
    for path in steps.PATHS:
        network: Callable = getattr(agent, case.operation)
        if case.execution == "graph":
            network = tf.function(network, autograph=False)
        calls[path] = _on_path(path, network, inputs)
    return calls


def _on_path(path: str, network: Callable, inputs: Any) -> steps.Call:
    def call() -> None:
        with steps.on_path(path):
            outputs = network(inputs)
        first = outputs[0] if isinstance(outputs, tuple) else outputs
        first.numpy()  # waits

    return call


if __name__ == "__main__":
    main()
