"""Soft Q-learning finds a known density with two modes."""

import csv
import pathlib
import subprocess
import sys

import pytest
import tensorflow as tf

ROOT = pathlib.Path(__file__).parent.parent


class BimodalTest(tf.test.TestCase):
    def test_in_short_it_is_about_right(self):
        rows = self._run("--seeds", "0", "--steps", "1800")
        self._check(rows, 2, total_variation=0.2, mass=0.3)

    @pytest.mark.slow
    def test_the_density_is_exact_but_for_a_tenth(self):
        self._check(self._run(), 6)

    def test_so_it_was_when_it_was_measured(self):
        path = ROOT / "benchmarks" / "results" / "bimodal.csv"
        self._check(_read(path), 6)

    def _run(self, *options):
        out = pathlib.Path(self.get_temp_dir(), "bimodal.csv")
        command = [sys.executable, ROOT / "benchmarks" / "bimodal.py"]
        subprocess.run([*command, *options, "--out", out], check=True)
        return _read(out)

    def _check(self, rows, count, total_variation=0.1, mass=0.1):
        self.assertLen(rows, count)  # two states for each seed
        for row in rows:
            number = {k: float(row[k]) for k in row if "mode" in k}
            self.assertLess(
                float(row["total_variation"]), total_variation, msg=row
            )
            for mode in ("left_mode", "right_mode"):
                exact = number[f"{mode}_exact"]
                self.assertAllClose(number[mode], exact, rtol=mass, msg=row)


def _read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    tf.test.main()
