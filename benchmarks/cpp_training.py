"""Learning curves of the C++ example, which learns without Python.

Exports an untrained agent for each seed, lets `examples/cpp/train_pendulum`
train it, and gathers what that prints after every 500 steps: the mean return
over 50 episodes that start alike in every evaluation. `NAME.png` beside
`NAME.csv` is the plot.

    python benchmarks/cpp_training.py --out benchmarks/results/cpp_pendulum.csv
"""

import argparse
import csv
import pathlib
import subprocess
import sys
import tempfile

import common
import curves

CONFIG = {"discount": 0.95, "learning_rate": 1e-3}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--steps", metavar="N", type=int, default=5_000)
    parser.add_argument(
        "--out", metavar="NAME.csv", type=pathlib.Path, required=True
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        program = build(folder)
        rows = [
            row
            for seed in args.seeds
            for row in train(program, export(folder, seed), seed, args.steps)
        ]
    common.write_csv(args.out, rows)
    print(curves.draw([args.out], args.out.with_suffix(".png")))


def build(folder: str) -> str:
    source = common.ROOT / "examples" / "cpp"
    configure = ["-S", str(source), "-B", folder, f"-DPYTHON={sys.executable}"]
    for arguments in (configure, ["--build", folder]):
        subprocess.run(["cmake", *arguments], check=True)
    return f"{folder}/train_pendulum"


def export(folder: str, seed: int) -> str:
    import tfsac

    agent = tfsac.SAC("Pendulum-v1", tfsac.SACConfig(**CONFIG), seed=seed)
    return agent.export(f"{folder}/models", format="trainable")


def train(
    program: str, model: str, seed: int, steps: int
) -> list[dict[str, str | int | float]]:
    options = ["--seed", str(seed), "--steps", str(steps)]
    output = subprocess.run(
        [program, model, *options],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    evaluations = list(csv.DictReader(output.splitlines()))
    print(f"seed {seed}: {evaluations[-1]}", flush=True)
    about = {"env": "Pendulum-v1 in C++", "seed": seed}
    return [{**about, **row} for row in evaluations]


if __name__ == "__main__":
    main()
