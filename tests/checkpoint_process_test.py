"""Checkpoints of processes that are killed, and of a disk that fails."""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import pytest
import tensorflow as tf
import tools

TESTS = pathlib.Path(__file__).parent
ROOT = TESTS.parent


class ProcessTest(tf.test.TestCase):
    """The same with processes, signals and a disk that fails."""

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=self.get_temp_dir()))

    def start(self, *command, **env):
        return subprocess.Popen(
            [sys.executable, *map(str, command)],
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{TESTS}", **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, process):
        output, errors = process.communicate(timeout=600)
        self.assertEqual(process.returncode, 0, msg=errors[-4000:])
        return output

    def test_killed_at_any_time(self):
        program = TESTS / "small_run.py"
        whole = self.finish(self.start(program, self.folder / "whole"))
        run = self.folder / "killed"
        for kill in range(2):
            process = self.start(program, run)
            before = set(run.glob("*.json"))
            while not set(run.glob("*.json")) - before:
                self.assertIsNone(process.poll())
            time.sleep(0.05 * kill)  # in the next save, or between two
            process.kill()
            process.communicate()
            self.assertEqual(process.returncode, -signal.SIGKILL)
        self.assertEqual(self.finish(self.start(program, run)), whole)
        self.assertRegex(whole, "^600 transitions, [0-9a-f]{64}$")

    def crash_points(self, *options):
        (compiler,) = tools.need("g++")
        library = self.folder / "faults.so"
        flags = ["-std=c++17", "-shared", "-fPIC", "-o", library]
        subprocess.run(
            [compiler, TESTS / "faults.cc", *flags, "-ldl"], check=True
        )
        return self.finish(
            self.start(
                TESTS / "crash_points.py",
                self.folder,
                *options,
                LD_PRELOAD=str(library),
            )
        )

    def test_a_save_that_fails_anywhere_leaves_the_old_or_the_new(self):
        output = self.crash_points("7")  # every 7th call
        self.assertRegex(output, "\\d+ saves failed; each left")

    @pytest.mark.slow
    def test_a_save_that_fails_at_each_call(self):
        output = self.crash_points()
        self.assertRegex(output, "killed: [3-9]\\d calls")


if __name__ == "__main__":
    tf.test.main()
