"""The experiments in examples/claims: what they share, and that they run."""

import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized
from gymnasium.utils.env_checker import check_env

CLAIMS = pathlib.Path(__file__).resolve().parents[1] / "examples" / "claims"
sys.path.insert(0, str(CLAIMS))
import comparison  # noqa: E402
import plane  # noqa: E402

NAMES = (
    "multimodality",
    "exploration",
    "robustness",
    "fine_tuning",
    "backup_entropy",
)


class Straight:
    """Walks in one direction."""

    def __init__(self, *action):
        self._action = np.array(action)

    def predict(self, rows, deterministic):
        del deterministic
        return np.broadcast_to(self._action, rows.shape)


class VerdictTest(tf.test.TestCase):
    def test_interval_is_students(self):
        # t of 4 degrees of freedom, 97.5%: 2.776, from a table.
        mean, half = comparison.interval(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
        self.assertEqual(mean, 3.0)
        self.assertAllClose(half, 2.776 * np.sqrt(2.5 / 5), rtol=1e-3)

    def test_what_is_said(self):
        one, noise = np.ones(5), np.array([0.1, -0.2, 0.1, 0.0, 0.1])
        self.assertIn("held", comparison.judge("A", one + noise, 0 * one))
        self.assertIn("contradicted", comparison.judge("A", noise, one))
        self.assertIn("not shown", comparison.judge("A", noise, 0 * one))
        self.assertIn("not shown", comparison.judge("A", one[:1], noise[:1]))


class PlaneTest(tf.test.TestCase):
    def test_it_is_an_environment(self):
        check_env(plane.Plane(), skip_render_check=True)

    def test_goals_end_and_pay(self):
        env = plane.Plane(((3, 0, 7),))
        env.reset(seed=0)
        paid = []
        terminated = False
        while not terminated:
            _, reward, terminated, _, _ = env.step(np.array([1.0, 0.0]))
            paid.append(reward)
        # From within 0.5 of the centre to within 1 of the goal.
        self.assertIn(len(paid), (2, 3))
        self.assertEqual(paid[-1], 7.0)
        self.assertEqual(sum(paid), 7.0)

    def test_walks_go_as_the_environment_does(self):
        goals, paths = plane.walks(Straight(0.0, -1.0), plane.EQUAL, 3)
        self.assertAllEqual(goals, [3, 3, 3])
        self.assertAllEqual(paths[4], [[0.0, -4.0]] * 3)
        self.assertAllEqual(paths[-1], [[0.0, -4.0]] * 3)
        goals, _ = plane.walks(Straight(1.0, 1.0), plane.EQUAL, 2)
        self.assertAllEqual(goals, [-1, -1])


class DeterministicTest(tf.test.TestCase):
    def test_it_explores_by_noise_of_a_tenth_of_the_half_range(self):
        agent = comparison.make(
            comparison.DETERMINISTIC, "Pendulum-v1", 0, None, random_steps=0
        )
        rows = np.zeros((4096, 3), np.float32)
        agent.seed = 0
        action = agent.explore(rows)[:, 0]
        self.assertAllClose(action.std(), 0.1 * 2.0, rtol=0.05)
        self.assertAllClose(action.mean(), agent.predict(rows[0])[0], atol=0.02)


class RunTest(parameterized.TestCase, tf.test.TestCase):
    def _run(self, name, steps):
        out = pathlib.Path(self.get_temp_dir()) / name
        process = subprocess.run(
            [sys.executable, CLAIMS / f"{name}.py", "--seeds", "0"]
            + ["--steps", str(steps), "--out", str(out)],
            capture_output=True,
            text=True,
        )
        self.assertEqual(process.returncode, 0, msg=process.stderr[-4000:])
        self.assertRegex(process.stdout, "held|not shown|contradicted")
        self.assertTrue(out.with_suffix(".csv").exists())
        self.assertTrue(out.with_suffix(".png").exists())

    def test_one(self):
        self._run("backup_entropy", 100)

    @pytest.mark.slow
    @parameterized.parameters(*NAMES)
    def test_each(self, name):
        self._run(name, 200)

    def test_each_is_named(self):
        scripts = [
            path.stem
            for path in CLAIMS.glob("*.py")
            if re.search('(?m)^Claim|^"""Claim', path.read_text())
        ]
        self.assertSameElements(NAMES, scripts)


if __name__ == "__main__":
    tf.test.main()
