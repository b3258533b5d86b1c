"""The C++ examples build with CMake, and do what they say."""

import csv
import pathlib
import shutil
import subprocess
import sys
import tempfile

import gymnasium
import numpy as np
import pytest
import tensorflow as tf
import tools

import tfsac

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples" / "cpp"
SMALL = {"hidden_units": (16,), "batch_size": 16}


class CppExamplesTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        tools.need("cmake", "g++")
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.agent = tfsac.SAC("Pendulum-v1", tfsac.SACConfig(**SMALL), seed=0)
        options = {
            "PYTHON": sys.executable,
            "POLICY": cls.agent.export(f"{cls.folder}/policy", "native"),
            "CMAKE_BUILD_TYPE": "Debug",  # which compiles faster
        }
        build = cls.folder / "build"
        for arguments in (
            ["-S", EXAMPLES, "-B", build]
            + [f"-D{name}={value}" for name, value in options.items()],
            ["--build", build],
        ):
            subprocess.run(["cmake", *arguments], check=True)
        cls.folder = build

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

    def test_act(self):
        folder = pathlib.Path(self.get_temp_dir())
        rows = np.float32([[1, 0, 0.5], [0, -1, 8]])
        model = self.agent.export(folder / "model")
        output = subprocess.run(
            [self.folder / "act", model, *map(str, rows.ravel())],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout
        actions = [[float(line)] for line in output.splitlines()]
        self.assertAllClose(actions, self.agent.predict(rows), atol=1e-5)
        process = subprocess.run(
            [self.folder / "act", "no_such_model"], capture_output=True
        )
        self.assertEqual(process.returncode, 2)
        self.assertIn(b"no_such_model", process.stderr)

    def test_swing_up(self):
        program = self.folder / "swing_up"
        linked = subprocess.run(["ldd", program], stdout=subprocess.PIPE).stdout
        self.assertNotRegex(linked, b"(?i)tensorflow|absl|python")
        output = subprocess.run(
            [program, "3"], check=True, stdout=subprocess.PIPE, text=True
        ).stdout
        header, *lines = output.splitlines()
        self.assertEqual(header, "cos,sin,speed,torque,reward")
        rows = np.array([line.split(",") for line in lines], np.float64)
        observations = rows[:, :3].astype(np.float32)
        torques, rewards = rows[:, 3:4], rows[:, 4]
        expected = self.agent.predict(observations)
        self.assertAllClose(torques, expected, atol=2e-5)

        env = gymnasium.make("Pendulum-v1").unwrapped
        env.reset()
        self.assertLen(rows, 200)
        for step in range(199):
            cos, sin, speed = rows[step, :3]
            env.state = np.array([np.arctan2(sin, cos), speed])
            observation, reward, *_ = env.step(torques[step])
            self.assertAllClose(observation, rows[step + 1, :3], atol=1e-5)
            self.assertAllClose(reward, rewards[step], atol=1e-4)

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
