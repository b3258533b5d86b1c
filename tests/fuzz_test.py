"""Wrong calls of ops and damaged files: errors, never a crash or a hang."""

import os
import pathlib
import subprocess
import sys

import pytest
import tensorflow as tf
from absl.testing import parameterized

ROOT = pathlib.Path(__file__).parent.parent
FUZZ = ROOT / "benchmarks" / "fuzz.py"


class FuzzTest(parameterized.TestCase, tf.test.TestCase):
    def fuzz(self, kind, cases):
        process = subprocess.run(
            [sys.executable, FUZZ, kind, "--cases", str(cases)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        text = process.stdout + process.stderr
        self.assertEqual(process.returncode, 0, msg=text[-4_000:])
        self.assertIn(f"{cases:,} cases of {kind}", process.stdout)

    @parameterized.parameters(("calls", 1_000), ("files", 100))
    def test_some(self, kind, cases):
        self.fuzz(kind, cases)

    @parameterized.parameters(("calls", 100_000), ("files", 10_000))
    @pytest.mark.slow
    def test_many(self, kind, cases):
        self.fuzz(kind, cases)


if __name__ == "__main__":
    tf.test.main()
