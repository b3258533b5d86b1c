"""Soft Q-learning finds a known density with two modes."""

import csv
import pathlib
import subprocess
import sys

import pytest
import tensorflow as tf

ROOT = pathlib.Path(__file__).parent.parent


class BimodalTest(tf.test.TestCase):
    @pytest.mark.slow
    def test_the_density_is_exact_but_for_a_tenth(self):
        out = pathlib.Path(self.get_temp_dir(), "bimodal.csv")
        command = [sys.executable, ROOT / "benchmarks" / "bimodal.py"]
        subprocess.run([*command, "--out", out], check=True)
        with out.open(newline="") as file:
            self._check(list(csv.DictReader(file)))

    def test_so_it_was_when_it_was_measured(self):
        path = ROOT / "benchmarks" / "results" / "bimodal.csv"
        with path.open(newline="") as file:
            self._check(list(csv.DictReader(file)))

    def _check(self, rows):
        self.assertLen(rows, 6)  # three seeds, two states
        for row in rows:
            number = {k: float(row[k]) for k in row if "mode" in k}
            self.assertLess(float(row["total_variation"]), 0.1, msg=row)
            for mode in ("left_mode", "right_mode"):
                exact = number[f"{mode}_exact"]
                self.assertAllClose(number[mode], exact, rtol=0.1, msg=row)


if __name__ == "__main__":
    tf.test.main()
