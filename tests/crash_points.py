"""Lets the save of a checkpoint fail at each call that changes the folder.

`checkpoint_test.py` runs it with `faults.cc` preloaded:

    python tests/crash_points.py FOLDER [STRIDE]
"""

import ctypes
import errno
import pathlib
import shutil
import sys
import warnings

import small_agent
import tensorflow as tf
import wandering_env
from small_agent import state

from tfsac.checkpoint import Checkpoints
from tfsac.epoch import Epoch

FAULTS = ctypes.CDLL(None)
FAULTS.faults_trace.restype = ctypes.c_char_p
# A process that is killed; errors that pass; a disk that stays full.
KINDS = (
    ("killed", errno.EIO, True),
    ("EIO", errno.EIO, False),
    ("ENOSPC", errno.ENOSPC, False),
    ("ENOSPC for ever", errno.ENOSPC, True),
    ("EROFS for ever", errno.EROFS, True),
)


def make():
    return small_agent.make(wandering_env.ID, replay_capacity=70)


def content(agent):
    arrays = [a.tobytes() for a in state(agent).values()]
    return agent.env_steps, agent.replay.inserted, *arrays


def loaded(folder, agent):
    """What the newest good checkpoint holds; `agent` takes it."""

    def use(checkpoint):
        checkpoint.restore_replay(agent)
        agent.load_weights(checkpoint.agent_file)
        return content(agent)

    return Checkpoints(folder).newest(use)


def save(folder, agent):
    checkpoints = Checkpoints(folder)
    checkpoints.newest(lambda checkpoint: None)
    epoch = Epoch(0, 0, agent.METRICS)
    checkpoints.save(agent, epoch, [])


def check_order(trace):
    """fsync(file), rename, fsync(directory); the manifest after all else.

    Segments that no index names may go at any time.
    """
    synced, unsynced_names, committed = set(), set(), False
    for call, path, *rest in (line.split() for line in trace):
        directory = path.rsplit("/", 1)[0]
        if call in ("write", "open"):
            synced.discard(path)
        elif call == "fsync":
            synced.add(path)
            unsynced_names = {n for n in unsynced_names if n[0] != path}
        elif call == "rename":
            assert path in synced, f"{path} was renamed before it was synced"
            [to] = rest
            if to.endswith(".json"):
                assert not unsynced_names, unsynced_names
                committed = True
            unsynced_names.add((directory, to))
        elif call == "unlink" and ".tmp" not in path and "rows-" not in path:
            assert committed and not unsynced_names, f"{path} went too early"
    assert committed and not {n for n in unsynced_names if "json" in n[1]}


def main(folder, stride=1):
    agent, taker = make(), make()
    run, good = folder / "run", folder / "good"
    kwargs = {"checkpoint_dir": run, "checkpoint_every": 30}
    small_agent.fit(agent, 90, **kwargs)  # the ring is full
    before = content(agent)
    shutil.copytree(run, good)
    agent.replay.insert(small_agent.transitions(agent, 40))
    agent.update()
    agent.progress.env_steps += 40
    after = content(agent)
    tried = 0
    for kind, error, for_ever in KINDS:
        call = 0
        while True:
            call += stride
            shutil.rmtree(run)
            shutil.copytree(good, run)
            FAULTS.faults_arm(bytes(run), call, error, for_ever)
            problem = None
            try:
                save(run, agent)
            except tf.errors.OpError as raised:
                problem = raised
            failed = FAULTS.faults_count() >= call
            if not failed:
                check_order(FAULTS.faults_trace().decode().splitlines())
            at = FAULTS.faults_trace().decode().splitlines()[-1]
            FAULTS.faults_arm(b"", 0, 0, 0)
            found = loaded(run, taker)
            assert found in (before, after), (kind, call, at)
            assert problem is not None or found == after, (kind, call, at)
            assert problem is None or str(run) in str(problem), problem
            save(run, agent)
            assert loaded(run, taker) == after, (kind, call, at)
            names = [p.name for p in run.rglob("*") if p.is_file()]
            assert not [name for name in names if ".tmp" in name], names
            assert sum(n.endswith(".json") for n in names) == 2, names
            if not failed:
                break
            tried += 1
        print(f"{kind}: {call} calls")
    print(f"{tried} saves failed; each left the old checkpoint or the new one")


if __name__ == "__main__":
    warnings.simplefilter("error", UserWarning)
    main(pathlib.Path(sys.argv[1]), *map(int, sys.argv[2:]))
