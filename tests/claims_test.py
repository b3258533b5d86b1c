"""The experiments in examples/claims: what they share, and that they run."""

import importlib
import io
import pathlib
import re
import subprocess
import sys
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized
from gymnasium.utils.env_checker import check_env

ROOT = pathlib.Path(__file__).resolve().parents[1]
CLAIMS = ROOT / "examples" / "claims"
sys.path.insert(0, str(CLAIMS))
import comparison  # noqa: E402
import plane  # noqa: E402
import tuning  # noqa: E402

MAKE = comparison.make
NAMES = (
    "multimodality",
    "exploration",
    "robustness",
    "fine_tuning",
    "backup_entropy",
)


def straight(*action):
    """Walks in one direction."""
    return lambda rows: np.broadcast_to(action, rows.shape)


class VerdictTest(tf.test.TestCase):
    def test_interval_is_students(self):
        # t of 4 degrees of freedom, 97.5%: 2.776, from a table.
        mean, half = comparison.interval(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
        self.assertEqual(mean, 3.0)
        self.assertAllClose(half, 2.776 * np.sqrt(2.5 / 5), rtol=1e-3)

    def test_what_is_said(self):
        one, noise = np.ones(5), np.array([0.1, -0.2, 0.1, 0.0, 0.1])
        claims = {
            "A": (one + noise, 0 * one),
            "B": (noise, one),
            "C": (noise, 0 * one),
            "D": (one[:1], noise[:1]),
        }
        self.assertEqual(
            comparison.verdicts(claims, 1)[2:],
            [
                "| A | 1.0 +- 0.2 | held |",
                "| B | -1.0 +- 0.2 | contradicted |",
                "| C | 0.0 +- 0.2 | not shown |",
                "| D | 0.9 +- nan | not shown |",
            ],
        )

    def test_a_table(self):
        rows = [
            {"side": side, "seed": seed, "x": seed + (side == "b")}
            for side in "ab"
            for seed in range(5)
        ]
        self.assertEqual(
            comparison.table(rows, {"of x": ("x", {})}, ("a", "b")),
            [
                "| | a | b |",
                "|---|---|---|",
                "| of x | 2.00 +- 1.96 | 3.00 +- 1.96 |",
            ],
        )


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
        walks = plane.walks(straight(0.0, -1.0), plane.EQUAL, 30)
        self.assertAllEqual(walks.goal, [3] * 30)
        for i in range(30):
            env = plane.Plane()
            env.reset()
            env._position = walks.paths[0, i]
            paid, weight, over = 0.0, 1.0, False
            while not over:
                row, reward, over, _, _ = env.step(np.array([0.0, -1.0]))
                paid, weight = paid + weight * reward, 0.9 * weight
            self.assertAllClose(walks.paths[-1, i], row)
            self.assertAllClose(walks.paid[i], paid)
        walks = plane.walks(straight(1.0, 1.0), plane.EQUAL, 2)
        self.assertAllEqual(walks.goal, [-1, -1])
        self.assertAllEqual(walks.paid, [0.0, 0.0])

    def test_walks_begin_where_training_does(self):
        starts = plane.walks(straight(0, 0), plane.EQUAL, 5_000).paths[0]
        env = plane.Plane()
        trained = [env.reset(seed=seed)[0] for seed in range(5_000)]
        for each in (starts, trained):
            self.assertAllClose(np.mean(each, 0), [0, 0], atol=0.01)
            self.assertAllClose(np.std(each, 0), [0.1, 0.1], rtol=0.05)


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


class TuningTest(tf.test.TestCase):
    def test_all_sides_have_as_many_tries(self):
        for side in tuning.SIDES:
            tried = tuning.settings(side)
            self.assertLen({tuple(each.values()) for each in tried}, 6)

    def test_each_side_takes_its_best(self):
        def row(side, rate, temperature, paid):
            settings = (rate, 0.005, temperature)
            named = dict(zip(comparison.SETTINGS, settings, strict=True))
            return {"side": side, **named, "discounted_return": paid}

        rows = [
            row("a", 1e-3, 0.1, 5.0),
            row("a", 1e-3, 0.1, 1.0),
            row("a", 3e-3, 0.1, 3.5),
            row("a", 3e-3, 0.1, 3.0),
            row("b", 1e-3, None, 9.0),
        ]
        self.assertEqual(
            comparison.best_settings(rows, "a"),
            {"learning_rate": 3e-3, "tau": 0.005, "temperature": 0.1},
        )
        self.assertEqual(
            comparison.best_settings(rows, "b"),
            {"learning_rate": 1e-3, "tau": 0.005},
        )

    def test_so_it_was_done(self):
        rows = comparison.load("tuning")
        for side in tuning.SIDES:
            tried = [row for row in rows if row["side"] == side]
            self.assertLen(tried, 6 * len(tuning.SEEDS))
            for row in tried:
                setting = {name: row[name] for name in comparison.SETTINGS}
                self.assertIn(setting, tuning.settings(side))


def _traced(side, *args, **config):
    agent = MAKE(side, *args, **config)
    agent.compile(jit_compile=False)
    return agent


class RunTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.parameters(
        ("multimodality", comparison.DETERMINISTIC, 2),
        ("exploration", comparison.GREEDY, 1),
        ("robustness", comparison.SAC, 8),
        ("fine_tuning", comparison.DETERMINISTIC, 1),
        ("backup_entropy", "backup_entropy=False", 2),
        ("tuning", comparison.DETERMINISTIC, 6),
    )
    def test_each_in_short(self, name, side, count):
        script = importlib.import_module(name)
        # Tracing takes a third of what XLA does.
        for short in ("EPISODES", "WALKS", "BEFORE", "RANDOM_STEPS"):
            if hasattr(script, short):
                self.enter_context(mock.patch.object(script, short, 1))
        self.enter_context(mock.patch.object(comparison, "make", _traced))
        rows = script.run(side, seed=0, steps=200)
        self.assertLen(rows, count)
        for key, value in rows[0].items():
            if isinstance(value, float):
                self.assertFalse(np.isnan(value), msg=key)

    @parameterized.parameters(*NAMES)
    def test_each_figure(self, name):
        script = importlib.import_module(name)
        rows = comparison.load(name)
        if name == "multimodality":
            rows = [row | {"paths": np.zeros((21, 2, 2))} for row in rows]
        if name == "fine_tuning":
            rows = [row | {"curve": np.arange(3.0)} for row in rows]
        pixels = io.BytesIO()
        script.draw(rows).savefig(pixels, dpi=20)
        self.assertGreater(len(pixels.getvalue()), 500)

    @parameterized.parameters(*NAMES)
    @pytest.mark.slow
    def test_each(self, name):
        out = pathlib.Path(self.get_temp_dir()) / name
        process = subprocess.run(
            [sys.executable, CLAIMS / f"{name}.py", "--seeds", "0", "1"]
            + ["--steps", "400", "--out", str(out)],
            capture_output=True,
            text=True,
        )
        self.assertEqual(process.returncode, 0, msg=process.stderr[-4000:])
        self.assertRegex(process.stdout, "held|not shown|contradicted")
        self.assertTrue(out.with_suffix(".csv").exists())
        self.assertTrue(out.with_suffix(".png").exists())

    @parameterized.parameters("tuning", *NAMES)
    def test_the_document_has_what_the_csv_comes_to(self, name):
        report = importlib.import_module(name).report(comparison.load(name))
        document = ROOT / "docs" / "maximum-entropy.md"
        self.assertIn("\n".join(report), document.read_text())

    def test_each_is_named(self):
        scripts = [
            path.stem
            for path in CLAIMS.glob("*.py")
            if re.search('(?m)^Claim|^"""Claim', path.read_text())
        ]
        self.assertSameElements(NAMES, scripts)


if __name__ == "__main__":
    tf.test.main()
