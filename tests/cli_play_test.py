"""`tfsac play`: the video shows what the policy did."""

import pathlib
import subprocess
import sys
import tempfile
from unittest import mock

import cli_test
import gymnasium
import imageio.v3 as imageio
import imageio_ffmpeg
import numpy as np
import small_agent
import tensorflow as tf
from absl.testing import parameterized

from tfsac.evaluation import episode_seeds

STEPS = 12
ENV = "ShortPendulum-v0"
gymnasium.register(
    ENV,
    "gymnasium.envs.classic_control.pendulum:PendulumEnv",
    max_episode_steps=STEPS,
)


class Blind(gymnasium.Env):
    """An environment that renders nothing, and knows no `render_mode`."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,))
    action_space = gymnasium.spaces.Box(-1, 1, (1,))
    render_mode = None

    def __init__(self, render_mode=None):
        del render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        return np.zeros(2, np.float32), 0.0, True, False, {}


def rollout(agent, episodes):
    """Pictures `[n, H, W, 3]` and returns, by Gymnasium alone."""
    pictures, returns = [], []
    env = gymnasium.make(ENV, render_mode="rgb_array")
    for seed in episode_seeds(0, episodes):
        observation, _ = env.reset(seed=seed)
        pictures.append(env.render())
        returns.append(0.0)
        for _ in range(STEPS):
            observation, reward, *_ = env.step(agent.predict(observation))
            pictures.append(env.render())
            returns[-1] += reward
    env.close()
    return np.stack(pictures), returns


def read(path, shape):
    """Pictures `[n, H, W, 3]`."""
    bytes_ = subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-i", path, "-f", "rawvideo"]
        + ["-pix_fmt", "rgb24", "-fps_mode", "passthrough", "-"],
        check=True,
        capture_output=True,
    ).stdout
    return np.frombuffer(bytes_, np.uint8).reshape(-1, *shape)


class PlayTest(parameterized.TestCase, tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=self.get_temp_dir()))
        self.run = self.folder / "run"

    def play(self, *options, code=0):
        """Plays; returns what was printed, as lines."""
        received, output, errors = cli_test.call("play", self.run, *options)
        self.assertEqual(received, code, msg=errors)
        return (output if code == 0 else errors).splitlines()

    @parameterized.parameters("deep/play.gif", "play.mp4")
    def test_shows_the_episodes_that_evaluate_plays(self, name):
        agent = small_agent.make(ENV)
        agent.save(self.run)
        out = self.folder / name
        printed = self.play("--episodes", 2, "--out", out)
        expected, returns = rollout(agent, 2)
        mean = agent.evaluate(episodes=2)["episode_return"]
        self.assertAllClose(mean, np.mean(returns), rtol=1e-5)
        self.assertEqual(printed, [f"episode_return {mean:.6g}", str(out)])

        pictures = read(out, expected[0].shape)
        self.assertEqual(pictures.shape, expected.shape)
        # Both kinds lose colours, but each picture is most like its own.
        pictures, expected = (x[:, ::4, ::4] for x in (pictures, expected))
        off = np.abs(pictures[:, np.newaxis].astype(float) - expected)
        nearest = off.mean(axis=(2, 3, 4)).argmin(axis=1)
        self.assertAllEqual(nearest, np.arange(2 * (STEPS + 1)))

    def test_time_is_the_environments(self):
        agent = small_agent.make(ENV)
        agent.save(self.run)
        out = self.folder / "play.gif"
        self.play("--out", out)
        duration = imageio.immeta(out)["duration"]  # of a picture, in ms
        fps = gymnasium.make(ENV).metadata["render_fps"]
        self.assertNear(duration, 1000 / fps, 10)  # GIF's unit

    def test_without_an_environment(self):
        env = gymnasium.make(ENV)
        small_agent.make((env.observation_space, env.action_space)).save(
            self.run
        )
        [error] = self.play(code=2)
        self.assertIn("Expected --env", error)
        self.play("--env", ENV, "--out", self.folder / "play.gif")

    def test_environment_that_renders_nothing(self):
        self.enter_context(mock.patch.dict(gymnasium.registry))
        gymnasium.register("Blind-v0", Blind)
        small_agent.make("Blind-v0").save(self.run)
        with self.assertWarnsRegex(UserWarning, "render"):  # Gymnasium's
            [error] = self.play("--out", self.folder / "play.gif", code=2)
        self.assertIn("Expected an environment that renders", error)
        self.assertIn("'Blind-v0'", error)
        self.assertFalse((self.folder / "play.gif").exists())

    def test_another_kind_of_file(self):
        [error] = self.play("--out", "play.avi", code=2)
        self.assertIn(".gif or .mp4. Received: 'play.avi'", error)

    def test_missing_package(self):
        small_agent.make(ENV).save(self.run)
        hidden = {"imageio": None, "imageio.v2": None}
        with mock.patch.dict(sys.modules, hidden):
            [error] = self.play(code=2)
        self.assertIn("pip install 'tfsac[play]'", error)


if __name__ == "__main__":
    tf.test.main()
