"""The processes of an `AsyncVectorEnv`: how long they may take, how they end.

Gymnasium waits for an answer for ever, says of a process that died only
`EOFError`, and is of no use after any failure.
"""

import contextlib
import functools
import multiprocessing
import queue
import signal
from multiprocessing import connection

from gymnasium.vector import AsyncVectorEnv

__all__ = ["Workers"]

# How long a process that closed its pipe may take to end, and the exception of
# one that raised to arrive.
_GRACE_SECONDS = 2.0


class Workers:
    """Watches over the processes of an environment.

    Args:
        env: The environment, without wrappers.
    """

    def __init__(self, env: AsyncVectorEnv):
        self._env = env
        self._seconds: float | None = None
        # An exception that cannot be pickled never arrives, though the worker
        # has said that it comes.
        get = functools.partial(env.error_queue.get, timeout=_GRACE_SECONDS)
        env.error_queue.get = get  # type: ignore[method-assign]

    def limit(self, seconds: float | None) -> None:
        """Bounds the time that a step or a reset may take; `None` does not."""
        self._seconds = seconds
        for name in ("step_wait", "reset_wait"):
            # On the instance, since wrappers call step and reset alone.
            vars(self._env).pop(name, None)
            if seconds is not None:
                wait = functools.partial(getattr(self._env, name), seconds)
                setattr(self._env, name, wait)

    def drain(self) -> None:
        """Ends a call that was interrupted, so that another one can begin."""
        for wait in (self._env.step_wait, self._env.reset_wait):
            with contextlib.suppress(Exception):  # there is none, or it failed
                wait()

    def explain(self, error: Exception) -> str:
        """Returns which sub-environment made a call fail, and how.

        Args:
            error: What the call raised.
        """
        processes = self._env.processes
        if isinstance(error, EOFError | OSError | queue.Empty):
            sentinels = [process.sentinel for process in processes]
            ended = connection.wait(sentinels, _GRACE_SECONDS)
            for process in processes:
                if process.sentinel in ended:
                    process.join()  # its files are closed before it has ended
        failed = [
            f"sub-environment {i} {how}"
            for i in range(len(processes))
            if (how := self._failure(i, error))
        ]
        return "; ".join(failed) or f"raised {type(error).__name__}: {error}"

    def _failure(self, i: int, error: Exception) -> str | None:
        pipe, process = self._env.parent_pipes[i], self._env.processes[i]
        if pipe is None:  # Gymnasium's mark of those that raised
            return f"raised {type(error).__name__}: {error}"
        if isinstance(error, queue.Empty) and process.exitcode is not None:
            return (
                "raised an exception that cannot be pickled, which its process "
                f"has printed (exit code {process.exitcode})"
            )
        if process.exitcode is not None:
            return f"has no process any more: {_ending(process.exitcode)}"
        late = isinstance(error, multiprocessing.TimeoutError)
        if late and not pipe.poll():
            return f"did not answer within {self._seconds} s"
        return None

    def kill(self) -> None:
        """Ends all processes, stopped ones too, and closes the environment."""
        for process in self._env.processes:
            process.kill()
        for process in self._env.processes:
            process.join()
        for pipe in self._env.parent_pipes:
            if pipe is not None:
                pipe.close()
        self._env.closed = True


def _ending(exit_code: int) -> str:
    if exit_code >= 0:
        return f"exit code {exit_code}"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    return f"{name} ended it, exit code {exit_code}"
