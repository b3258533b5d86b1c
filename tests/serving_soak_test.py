"""The server under good and bad requests, new versions, and overload."""

import os
import pathlib
import subprocess
import sys

import pytest
import tensorflow as tf

ROOT = pathlib.Path(__file__).parent.parent
SOAK = ROOT / "benchmarks" / "serving_soak.py"


class SoakTest(tf.test.TestCase):
    def soak(self, seconds):
        process = subprocess.run(
            [sys.executable, SOAK, "--seconds", str(seconds)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        text = process.stdout + process.stderr
        self.assertEqual(process.returncode, 0, msg=text[-4_000:])

    def test_ten_seconds(self):
        self.soak(10)

    @pytest.mark.slow
    def test_five_minutes(self):
        self.soak(300)


if __name__ == "__main__":
    tf.test.main()
