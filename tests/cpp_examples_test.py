"""The C++ examples build with CMake, and do what they say."""

import csv
import pathlib
import shutil
import subprocess
import sys
import tempfile

import pytest
import tensorflow as tf

import tfsac

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples" / "cpp"
SMALL = {"hidden_units": (16,), "batch_size": 16}


class CppExamplesTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if not all(map(shutil.which, ("cmake", "g++"))):
            cls.skipTest(cls, "There is no CMake, or no g++.")
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        python, build_type = sys.executable, "Debug"  # which compiles faster
        for arguments in (
            ["-S", EXAMPLES, "-B", cls.folder, f"-DPYTHON={python}"]
            + [f"-DCMAKE_BUILD_TYPE={build_type}"],
            ["--build", cls.folder],
        ):
            subprocess.run(["cmake", *arguments], check=True)

    def train(self, model, *options, returncode=0):
        """Runs `train_pendulum`; returns its rows, and what it said."""
        process = subprocess.run(
            [self.folder / "train_pendulum", model, *map(str, options)],
            capture_output=True,
            text=True,
        )
        self.assertEqual(process.returncode, returncode, msg=process.stderr)
        return list(csv.DictReader(process.stdout.splitlines())), process.stderr

    def export(self, **config):
        agent = tfsac.SAC("Pendulum-v1", tfsac.SACConfig(**config), seed=0)
        return agent.export(self.get_temp_dir(), format="trainable")

    def test_train_pendulum(self):
        model, saved = self.export(**SMALL), f"{self.get_temp_dir()}/saved"
        rows, _ = self.train(model, "--steps", 1500, "--save", saved)
        self.assertEqual([row["env_steps"] for row in rows], ["1000", "1500"])
        # The first one when there are 1000 transitions, then every 5 steps 5.
        agent = tfsac.load(saved)
        self.assertEqual(agent.updates, 5 * (1 + 500 // 5))
        self.assertAllClose(agent.alpha, float(rows[-1]["alpha"]), rtol=0.02)
        # Its 50 starts are others, and few steps teach little.
        mean = agent.evaluate(episodes=50)["episode_return"]
        self.assertAllClose(mean, float(rows[-1]["return_mean"]), rtol=0.2)

        again, _ = self.train(model, "--steps", 1500)
        self.assertEqual(rows, again)
        other, _ = self.train(model, "--steps", 1500, "--seed", 1)
        self.assertNotEqual(rows, other)

        self.train(model, "--steps", 1500, "--restore", saved, "--save", saved)
        self.assertEqual(tfsac.load(saved).updates, 2 * agent.updates)

    def test_what_is_wrong_is_said(self):
        _, said = self.train("no_such_model", returncode=2)
        self.assertIn("no_such_model", said)
        _, said = self.train("model", "--restart", "x", returncode=2)
        self.assertIn("Unknown option --restart", said)
        model = self.export(**SMALL)
        _, said = self.train(model, "--restore", "missing", returncode=2)
        self.assertIn("missing", said)
        options = "--steps", 1000, "--threshold", 0
        self.train(model, *options, returncode=1)

    @pytest.mark.slow
    def test_train_pendulum_solves_it(self):
        model = self.export(discount=0.95, learning_rate=1e-3)
        saved = f"{self.get_temp_dir()}/solved"
        options = "--steps", 10_000, "--threshold", -200, "--save", saved
        self.train(model, *options)
        mean = tfsac.load(saved).evaluate(episodes=50)["episode_return"]
        self.assertGreater(mean, -200)


if __name__ == "__main__":
    tf.test.main()
