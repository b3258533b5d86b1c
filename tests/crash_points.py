"""Lets the save of a checkpoint fail at each call that changes the folder.

`checkpoint_process_test.py` runs it with `faults.cc` preloaded:

    python tests/crash_points.py FOLDER [STRIDE]
"""

import ctypes
import errno
import pathlib
import shutil
import sys
import tempfile
import warnings

import numpy as np
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


def content(agent, epoch):
    """Weights, counters, generators, transitions and where they are drawn."""
    arrays = {**state(agent), **agent._counters()}
    with tempfile.TemporaryDirectory() as folder:
        agent.replay.save(folder)
        replay = {
            p.name: p.read_bytes() for p in pathlib.Path(folder).iterdir()
        }
    return (
        epoch,
        replay,
        {name: np.asarray(value).tobytes() for name, value in arrays.items()},
    )


def loaded(folder, agent):
    """What the newest good checkpoint holds; `agent` takes it."""

    def use(checkpoint):
        checkpoint.restore_replay(agent)
        agent.load_weights(checkpoint.agent_file)
        return content(agent, checkpoint.content["epoch"])

    return Checkpoints(folder).newest(use)


def save(folder, agent, epoch):
    checkpoints = Checkpoints(folder)
    checkpoints.newest(lambda checkpoint: None)
    checkpoints.save(agent, epoch, [])


def check_order(trace):
    """fsync(file), rename, fsync(directory); the manifest after all else.

    A directory that is made has a name to sync, too. Segments that no index
    names may go at any time.
    """
    synced, unsynced_names, committed = set(), set(), False
    for call, path, *rest in (line.split() for line in trace):
        directory = path.rsplit("/", 1)[0]
        if call in ("write", "open"):
            synced.discard(path)
        elif call == "fsync":
            synced.add(path)
            unsynced_names = {n for n in unsynced_names if n[0] != path}
        elif call == "mkdir":
            unsynced_names.add((directory, path))
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


def try_each_call(kinds, box, good, agent, taker, epoch, before, stride):
    """Saves with each call failing in each way; returns how many did.

    Args:
        kinds: Ways to fail, of `KINDS`.
        box: Folder that the run's folder is made in.
        good: Folder that it is a copy of; `None` if there is none at first.
        agent: What is saved.
        taker: What is loaded into.
        epoch: Saved too.
        before: What loads before the save.
        stride: To try each so manieth call.
    """
    run, tried = box / "run", 0
    after = content(agent, epoch.state())
    for kind, error, for_ever in kinds:
        call = 0
        while True:
            call += stride
            shutil.rmtree(run, ignore_errors=True)
            if good is not None:
                shutil.copytree(good, run)
            FAULTS.faults_arm(bytes(box), call, error, for_ever)
            problem = None
            try:
                save(run, agent, epoch)
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
            save(run, agent, epoch)
            assert loaded(run, taker) == after, (kind, call, at)
            names = [p.name for p in run.rglob("*") if p.is_file()]
            assert not [name for name in names if ".tmp" in name], names
            assert sum(n.endswith(".json") for n in names) <= 2, names
            if not failed:
                break
            tried += 1
        print(f"{kind}: {call} calls")
    return tried


def main(folder, stride=1):
    agent, taker = make(), make()
    box, good = folder / "box", folder / "good"
    box.mkdir()
    kwargs = {"checkpoint_dir": good, "checkpoint_every": 30}
    small_agent.fit(agent, 90, **kwargs)  # the ring is full
    before = loaded(good, taker)
    agent.replay.insert(small_agent.transitions(agent, 40))
    agent.update()
    agent.progress.env_steps += 40
    epoch = Epoch(3, 90, agent.METRICS)
    epoch.calls = 7
    arguments = agent, taker, epoch
    tried = try_each_call(KINDS, box, good, *arguments, before, stride)
    print("without a folder at first:")
    tried += try_each_call(KINDS[:1], box, None, *arguments, None, stride)
    print(f"{tried} saves failed; each left the old checkpoint or the new one")


if __name__ == "__main__":
    warnings.simplefilter("error", UserWarning)
    main(pathlib.Path(sys.argv[1]), *map(int, sys.argv[2:]))
