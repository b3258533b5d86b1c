"""An environment that fails in each way that there is.

Processes of environments import it: it needs no TensorFlow.
"""

import multiprocessing
import os
import pathlib
import signal
import time

import gymnasium
import numpy as np
from counting_env import CountingEnv

ID = "Failing-v0"


class Unpicklable(Exception):
    """Raised in a worker, it never arrives: it holds a lambda."""

    def __init__(self):
        super().__init__(lambda: None)


def raise_unpicklable(*_):
    raise Unpicklable


def die(signal_=signal.SIGKILL):
    os.kill(os.getpid(), signal_)


FAULTS = {
    "raise": (lambda *_: 1 / 0, "raised ZeroDivisionError: division by zero"),
    "unpicklable": (
        raise_unpicklable,
        "cannot be pickled.*exit code",
    ),
    "exit": (lambda *_: os._exit(3), "has no process any more: exit code 3"),
    "sigkill": (lambda *_: die(), "SIGKILL ended it, exit code -9"),
    "sigstop": (lambda *_: die(signal.SIGSTOP), "did not answer within 2.0 s"),
    "hang": (lambda *_: time.sleep(1000), "did not answer within 2.0 s"),
    "nan": (
        lambda o, *rest: (np.full_like(o, np.nan), *rest),
        "finite observations.*nan",
    ),
    "nan_reward": (
        lambda o, r, *rest: (o, np.nan, *rest),
        "finite rewards.*nan",
    ),
    "wrong_shape": (
        lambda o, *rest: (o[:2], *rest),
        "raised ValueError",
    ),
}
# Those that a process of its own survives.
IN_PROCESS = ("raise", "nan", "nan_reward", "wrong_shape")


class FailingEnv(CountingEnv):
    """Does as `FAULTS` say in environment `worker` at step `at`, `times`.

    How often it did is the length of a file, which all processes see.
    """

    def __init__(self, fault, worker, at, log, times=1):
        super().__init__()
        self.fault, self.at, self.times = fault, at, times
        self.log = pathlib.Path(log)
        name = multiprocessing.current_process().name
        index = name.rpartition("-")[2]
        self.is_it = not index.isdecimal() or int(index) == worker

    def step(self, action):
        answer = super().step(action)
        if not self.is_it or self.steps != self.at:
            return answer
        with self.log.open("a+") as file:
            if file.tell() >= self.times:
                return answer
            file.write("x")
        return FAULTS[self.fault][0](*answer)


gymnasium.register(ID, entry_point=FailingEnv)
