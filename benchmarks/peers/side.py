"""One side of the comparison: a worker in an environment of its own."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
from typing import Any

from cases import OVERLAP, Case

SECONDS_TO_END = 10
HERE = pathlib.Path(__file__).resolve().parent


class Side:
    """A worker process, pinned to cores, that works only while it is asked.

    In between it is stopped by a signal, so that none of its thread pools can
    spin while another side is measured.

    Args:
        name: What its script is called, before `_worker.py`.
        venvs: The folder of setup.sh.
        threads: Threads, and cores.
    """

    def __init__(self, name: str, venvs: pathlib.Path, threads: int):
        self.name = name
        python = venvs / name / "bin" / "python"
        if name in OVERLAP:
            python = pathlib.Path(sys.executable)
        if not python.exists():
            raise SystemExit(
                f"Expected {name}'s environment at {venvs / name}. Received: "
                f"none. Make it with benchmarks/peers/setup.sh, or choose "
                "others with --peers."
            )
        cores = sorted(os.sched_getaffinity(0))[:threads]
        self._process = subprocess.Popen(
            [python, HERE / f"{name}_worker.py", str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # TensorFlow need not tell what it did not find.
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
            # Before anything of it runs, since libraries count the cores.
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        self.versions: str = self._read()["versions"]

    def measure(self, case: Case | str, seconds: float) -> dict[str, float]:
        """Measures a case for so many seconds; at first it is prepared.

        Args:
            case: The case, or the name of a kind that takes no sizes.
            seconds: At least one call is made.

        Returns:
            `count`, `seconds` and `cpu_seconds`.
        """
        fields = {"kind": case}
        if isinstance(case, Case):
            fields = dataclasses.asdict(case)
        self._process.send_signal(signal.SIGCONT)
        print(
            json.dumps(fields | {"seconds": seconds}),
            file=self._process.stdin,
            flush=True,
        )
        return self._read()

    def close(self) -> None:
        """Ends the process, which may have processes of its own to end."""
        self._process.stdin.close()
        self._process.send_signal(signal.SIGCONT)
        try:
            self._process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _read(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        self._process.send_signal(signal.SIGSTOP)
        answer = json.loads(line or '{"error": "it ended"}')
        if "error" in answer:
            raise RuntimeError(f"{self.name}: {answer['error']}")
        return answer
