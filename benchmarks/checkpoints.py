"""What a checkpoint costs when the replay buffer holds a million transitions.

    python benchmarks/checkpoints.py --out benchmarks/results/checkpoints.csv

For the observations of HalfCheetah-v5 and of Humanoid-v5: the time and the
bytes of the first checkpoint, which writes everything; medians of those that
follow, each after 10,000 transitions more; the time to load one; and the share
of training that stands still, against the updates that come between two
checkpoints, one a transition, and no time for the environment at all.
"""

import argparse
import pathlib
import shutil
import statistics
import tempfile
import time

import common
import gymnasium
import numpy as np

import tfsac
from tfsac.checkpoint import Checkpoints
from tfsac.epoch import Epoch

EVERY = 10_000
CHUNK = 10_000
# Observation, action.
SIZES = {"HalfCheetah-v5": (17, 6), "Humanoid-v5": (348, 17)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--transitions", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    rows = []
    for name in SIZES:
        folder = pathlib.Path(tempfile.mkdtemp(dir=args.folder))
        try:
            row = {"sizes_of": name, "transitions": args.transitions}
            row |= measure(folder, *SIZES[name], args.transitions, args.rounds)
            rows.append(row)
            print(row, flush=True)
        finally:
            shutil.rmtree(folder)
    if args.out is not None:
        common.write_csv(args.out, rows)


def measure(
    folder: pathlib.Path,
    observation: int,
    action: int,
    transitions: int,
    rounds: int,
) -> dict[str, float]:
    """Fills a replay buffer twice over, and saves it again and again."""
    spaces = (
        gymnasium.spaces.Box(-np.inf, np.inf, (observation,)),
        gymnasium.spaces.Box(-1, 1, (action,)),
    )
    config = tfsac.SACConfig(replay_capacity=transitions, train_every=20)
    agent = tfsac.SAC(spaces, config, seed=0)
    rng = np.random.default_rng(0)
    # Until the ring is full and its first rows are gone, as in a long run.
    while agent.env_steps < transitions + EVERY // 2:
        grow(agent, rng, CHUNK // 2)
    update_seconds = time_of_update(agent)
    checkpoints = Checkpoints(folder)
    first_seconds, first_bytes = save(checkpoints, agent, folder)
    later = []
    for _ in range(rounds):
        grow(agent, rng, EVERY)
        agent.update()
        later.append(save(checkpoints, agent, folder))
    seconds = statistics.median(s for s, _ in later)
    started = time.perf_counter()
    tfsac.load(folder)
    load_seconds = time.perf_counter() - started
    between = EVERY * update_seconds
    return {
        "first_seconds": round(first_seconds, 3),
        "first_mb": round(first_bytes / 1e6, 1),
        "seconds": round(seconds, 3),
        "mb": round(statistics.median(b for _, b in later) / 1e6, 1),
        "new_transitions": EVERY,
        "load_seconds": round(load_seconds, 3),
        "ms_per_update": round(1e3 * update_seconds, 3),
        "share_of_training": round(seconds / (seconds + between), 4),
    }


def grow(agent: tfsac.SAC, rng: np.random.Generator, count: int) -> None:
    """Stores random transitions."""
    size, actions = agent.flatten.size, agent.action_space.shape[0]
    observation = rng.normal(size=(count + 1, size)).astype(np.float32)
    agent.replay.insert(
        tfsac.Transition(
            observation[:-1],
            rng.uniform(-1, 1, (count, actions)).astype(np.float32),
            rng.normal(size=count).astype(np.float32),
            observation[1:],
            np.zeros(count, bool),
            np.zeros(count, bool),
            np.zeros(count, np.int32),
        )
    )
    agent.progress.env_steps += count


def time_of_update(agent: tfsac.SAC, calls: int = 10) -> float:
    """Seconds, of calls of K = 20."""
    agent.update()["loss"]
    started = time.perf_counter()
    for _ in range(calls):
        metrics = agent.update()
    metrics["loss"]  # which waits for it
    elapsed = time.perf_counter() - started
    return elapsed / calls / agent.config.updates_per_call


def save(
    checkpoints: Checkpoints, agent: tfsac.SAC, folder: pathlib.Path
) -> tuple[float, int]:
    """Seconds that a checkpoint takes, and bytes that it writes."""
    before = inodes(folder)
    epoch = Epoch(0, 0, agent.METRICS)
    started = time.perf_counter()
    checkpoints.save(agent, epoch, [])
    seconds = time.perf_counter() - started
    new = inodes(folder).items() - before.items()
    return seconds, sum(path.stat().st_size for path, _ in new)


def inodes(folder: pathlib.Path) -> dict[pathlib.Path, int]:
    """A file that is written anew is another one."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path: path.stat().st_ino for path in files}


if __name__ == "__main__":
    main()
