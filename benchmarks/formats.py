"""Microseconds for one action, by the agent and by each exported format.

    python benchmarks/formats.py --sb3-python build/sb3/bin/python \
        --out benchmarks/results/formats.csv

Observations of 17, actions of 6, hidden layers of 256x256, one observation at a
time, on one thread. All cases in Python run in turn, round after round; native
code is timed by a C program (`native_latency.c`), with the clock's own time
included, for any 64-bit PC and for one with AVX2 (`haswell`). Beside them, if
asked for, `predict` of Stable-Baselines3.
"""

import argparse
import os
import pathlib
import subprocess
import tempfile
import time
from collections.abc import Callable
from typing import Any

import common
import numpy as np

SIZES = {"observation_size": 17, "action_size": 6}
CPUS = ("x86-64", "haswell")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--sb3-python", help="of its own environment")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--calls", type=int, default=200, help="in each round")
    args = parser.parse_args()
    load = os.getloadavg()[0]
    agent = _agent()
    with tempfile.TemporaryDirectory() as folder:
        rows = _in_python(agent, folder, args.rounds, args.calls)
        for cpu in CPUS:
            rows += native(agent, folder, cpu)
    if args.sb3_python:
        rows.append(sb3(args.sb3_python))
    for row in rows:
        print(f"{row['what']:<30} {row['us_p50']:>8} {row['us_p99']:>8}")
    described = {**SIZES, "load_before": round(load, 2)}
    common.write_csv(args.out, [row | described for row in rows])


def _agent() -> Any:
    from gymnasium import spaces

    import tfsac

    observation = spaces.Box(-np.inf, np.inf, (SIZES["observation_size"],))
    action = spaces.Box(-1, 1, (SIZES["action_size"],))
    return tfsac.SAC((observation, action), seed=0)


def _in_python(agent: Any, folder: str, rounds: int, calls: int) -> list[dict]:
    cases = {"agent.predict": agent.predict}
    for format, load in LOADERS.items():
        path = agent.export(f"{folder}/{format}", format)
        cases[f"{format} in Python"] = load(path)
    row = np.zeros([1, SIZES["observation_size"]], np.float32)
    seconds: dict = {name: [] for name in cases}
    for i in range(rounds + 1):
        for name, act in cases.items():
            times = []
            for _ in range(calls):
                start = time.perf_counter()
                act(row)
                times.append(time.perf_counter() - start)
            if i:  # the first round traces and warms up
                seconds[name] += times
    return [
        _row(name, *np.quantile(times, [0.5, 0.99]) * 1e6)
        for name, times in seconds.items()
    ]


def _tf_saved_model(path: str) -> Callable[[np.ndarray], Any]:
    import tensorflow as tf

    model = tf.saved_model.load(path)
    act = model.signatures["serving_default"]

    def run(row: np.ndarray) -> np.ndarray:
        return act(observations=tf.constant(row))["actions"].numpy()

    run.model = model  # type: ignore[attr-defined]  # which owns the weights
    return run


def _litert(path: str) -> Callable[[np.ndarray], Any]:
    from ai_edge_litert.interpreter import Interpreter

    act = Interpreter(f"{path}/model.tflite", num_threads=1)
    runner = act.get_signature_runner()
    return lambda row: runner(observations=row)["actions"]


def _onnx(path: str) -> Callable[[np.ndarray], Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(f"{path}/model.onnx", options)
    return lambda row: session.run(["actions"], {"observations": row})[0]


LOADERS = {"tf_saved_model": _tf_saved_model, "litert": _litert, "onnx": _onnx}


def native(agent: Any, folder: str, cpu: str) -> list[dict]:
    """Times the agent as native code: a row for acting, one for sampling."""
    path = pathlib.Path(
        agent.export(f"{folder}/{cpu}", "native", target_cpu=cpu)
    )
    source = pathlib.Path(__file__).with_name("native_latency.c")
    for command in (
        ["cc", "-O2", "-c", source],
        ["c++", "-std=c++17", "-O2", "-c", "policy_act.cc", "policy_sample.cc"],
        "c++ native_latency.o policy_act.o policy_sample.o -o latency".split()
        + [str(each) for each in path.glob("xla/*.o")],
    ):
        flags = [f"-I{path}"] if "-c" in command else []
        subprocess.run([*command, *flags], cwd=path, check=True)
    output = subprocess.check_output([path / "latency"], text=True)
    rows = []
    for line in output.splitlines():
        name, p50, p99 = line.split()
        rows.append(_row(f"native {name}, {cpu}", float(p50), float(p99)))
    return rows


def sb3(python: str) -> dict:
    """Times `predict` of Stable-Baselines3, in its own environment."""
    script = pathlib.Path(__file__).with_name("sb3_predict.py")
    sizes = [str(size) for size in SIZES.values()]
    output = subprocess.check_output([python, script, *sizes], text=True)
    return _row("Stable-Baselines3's predict", *map(float, output.split()))


def _row(what: str, p50: float, p99: float) -> dict:
    return {"what": what, "us_p50": round(p50, 2), "us_p99": round(p99, 2)}


if __name__ == "__main__":
    main()
