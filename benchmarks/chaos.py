"""Runs that are killed at random, against the same runs that are not.

    python benchmarks/chaos.py --out benchmarks/results/chaos.csv

SIGKILL comes at a random time after a process has begun to learn, up to ten
times in a run, until there have been as many as asked for; then the run may
finish. Peers have environments of their own, which `benchmarks/peers/setup.sh`
makes, and go on from the checkpoints that they bring with them. A line of the
CSV is a run: how often it was killed, how often of those amid a checkpoint, and
what of it is the same, bit for bit, as without. Of tfsac all has to be, and it
may warn of nothing: each checkpoint that it finds is whole.
"""

import argparse
import itertools
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import common
import numpy as np

WORKER = pathlib.Path(__file__).with_name("chaos_worker.py")
VENVS = common.ROOT / "build" / "peers"
KILLS_IN_A_RUN = 10
MAX_SECONDS = 3.0  # from the begin of learning to the kill
DIGESTS = ("weights", "optimizers", "replay", "returns")
OPTIONS = ("environments", "in_processes", "overlap")
CASES = {
    "tfsac": [
        (1, False, False),
        (8, False, False),
        (1, False, True),
        (8, False, True),
        (8, True, True),
    ],
    "sb3": [(1, False, False)],
    "sbx": [(1, False, False)],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--peer-kills", type=int, default=20)
    parser.add_argument("--sides", nargs="+", default=list(CASES))
    parser.add_argument("--venvs", type=pathlib.Path, default=VENVS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    rows = []
    for side in args.sides:
        python = sys.executable
        if side != "tfsac":
            python = args.venvs / side / "bin" / "python"
        kills = args.kills if side == "tfsac" else args.peer_kills
        for row in chaos(side, [str(python), str(WORKER), side], kills, rng):
            rows.append(row)
            print(row, flush=True)
            if args.out is not None:
                common.write_csv(args.out, rows)
    # What tfsac promises; its peers promise nothing of the kind.
    ours = [row for row in rows if row["side"] == "tfsac"]
    if not all(row[f"same_{name}"] for row in ours for name in DIGESTS):
        raise SystemExit("A run that was killed is another one.")
    if any(row["warnings"] for row in ours):
        raise SystemExit("A run warned of what it found.")


def chaos(
    side: str, command: list[str], kills: int, rng: random.Random
) -> Iterator[dict]:
    """Kills runs of one side until it was done often enough."""
    whole, left = {}, kills
    for case in itertools.cycle(CASES[side]):
        if left <= 0:
            return
        with tempfile.TemporaryDirectory() as folder:
            options = [str(option) for option in case]
            if case not in whole:
                run = [*command, f"{folder}/whole", *options]
                whole[case] = Run(run).finish()
            run = [*command, f"{folder}/killed", *options]
            row = {"side": side, **dict(zip(OPTIONS, case, strict=True))}
            row |= killed_run(
                run,
                pathlib.Path(folder, "killed"),
                min(left, KILLS_IN_A_RUN),
                whole[case],
                rng,
            )
        left -= row["kills"]
        yield row


def killed_run(
    command: list[str],
    folder: pathlib.Path,
    kills: int,
    whole: dict,
    rng: random.Random,
) -> dict:
    """One run to its end, with some kills before; what came of it."""
    killed, amid, unreadable, warned = 0, 0, 0, 0
    while True:
        run = Run(command)
        if killed < kills:
            run.kill_after(rng.uniform(0, MAX_SECONDS))
        result = run.finish()
        unreadable += run.unreadable
        warned += run.warnings
        if result is not None:
            break
        killed += 1
        amid += was_saving(folder)
    same = {  # nothing of what a side does not tell of
        f"same_{name}": whole["digests"][name] == result["digests"][name]
        if name in whole["digests"]
        else None
        for name in DIGESTS
    }
    difference = np.subtract(whole["weights"], result["weights"])
    return {
        "kills": killed,
        "amid_a_save": amid,
        "checkpoints_unreadable": unreadable,
        "warnings": warned,
        **same,
        "largest_difference_of_a_weight": float(np.abs(difference).max()),
    }


class Run:
    """A process of the worker."""

    def __init__(self, command: list[str]):
        self._output: list[str] = []
        self._errors = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        )

    @property
    def unreadable(self) -> int:
        """Checkpoints that it could not go on from."""
        return self._output.count("checkpoint unreadable\n")

    @property
    def warnings(self) -> int:
        """Warnings that it printed.

        But for those of Python's process that removes the semaphores of one
        that was killed, and says so.
        """
        self._errors.seek(0)
        found = re.findall(
            r"^(\S+):\d+: \w*Warning: ", self._errors.read(), re.M
        )
        return sum("resource_tracker" not in file for file in found)

    def kill_after(self, seconds: float) -> None:
        """Sends SIGKILL so long after it learns, if it still has to."""
        for line in self._process.stdout:
            self._output.append(line)
            if line == "ready\n":
                break
        time.sleep(seconds)
        self._process.kill()

    def finish(self) -> dict | None:
        """Returns what it came to, or `None` if it was killed before."""
        self._output += self._process.communicate()[0].splitlines(True)
        if self._process.returncode == -9:
            return None
        if self._process.returncode != 0:
            raise SystemExit(f"{self._process.args} failed; run it by hand.")
        return json.loads(self._output[-1])


def was_saving(folder: pathlib.Path) -> bool:
    """Whether a checkpoint is there in part; of the peers nothing tells."""
    manifests = {path.stem for path in folder.glob("*.json")}
    parts = {path.name.split(".")[0] for path in folder.rglob("checkpoint-*")}
    return bool(parts - manifests)


if __name__ == "__main__":
    main()
