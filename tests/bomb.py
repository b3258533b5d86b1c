"""What it costs to refuse a file, in a process that has read no other.

    python tests/bomb.py load|checkpoint|callbacks PATH

prints the error, seconds of the processors, and megabytes more at the peak.
"""

import json
import pathlib
import resource
import sys
import time

import keras
import tensorflow as tf

import tfsac
from tfsac.checkpoint import Checkpoint


def checkpoint(folder):
    """Opens the newest checkpoint of a run."""
    path = max(pathlib.Path(folder).glob("checkpoint-*.json"))
    return Checkpoint(path.parent, int(path.stem.split("-")[1]))


def callbacks(folder):
    """Reads what callbacks remember, too."""
    checkpoint(folder).restore_callbacks([keras.callbacks.EarlyStopping()])


USES = {"load": tfsac.load, "checkpoint": checkpoint, "callbacks": callbacks}


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(use, path):
    memory, started = peak_mb(), time.process_time()
    try:
        USES[use](path)
    except (ValueError, tf.errors.OpError) as error:
        message = str(error)
    else:
        message = "accepted"
    seconds = time.process_time() - started
    print(json.dumps([message, seconds, peak_mb() - memory]))


if __name__ == "__main__":
    main(*sys.argv[1:])
