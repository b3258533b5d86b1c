"""What a saved agent's environment may be made of."""

import json
import pathlib
import tempfile

import counting_env
import gymnasium
import small_agent
import tensorflow as tf
from absl.testing import parameterized
from gymnasium.spaces import Box

import tfsac
from tfsac.env_json import env_from_json, env_to_json

SPEC = {
    "id": "Pendulum-v1",
    "entry_point": "gymnasium.envs.classic_control.pendulum:PendulumEnv",
    "reward_threshold": None,
    "nondeterministic": False,
    "max_episode_steps": 200,
    "order_enforce": True,
    "disable_env_checker": False,
    "kwargs": {},
    "additional_wrappers": [],
    "vector_entry_point": None,
}


def spec(**changes):
    return json.dumps(SPEC | changes)


class EnvJsonTest(parameterized.TestCase, tf.test.TestCase):
    def setUp(self):
        super().setUp()
        folder = pathlib.Path(tempfile.mkdtemp(dir=self.get_temp_dir()))
        self.canary = folder / "canary"
        self.path = folder / "x.keras"

    @parameterized.parameters(
        "Pendulum-v1",
        "gymnasium.envs.classic_control:Pendulum-v1",
        spec(),
        spec(kwargs={"g": 9.0}, max_episode_steps=7),
        None,
    )
    def test_known(self, text):
        env = env_from_json(text)
        self.assertEqual(env is None, text is None)
        if env is not None:
            gymnasium.make(env).close()

    def test_there_and_back(self):
        env = gymnasium.wrappers.TimeAwareObservation(
            gymnasium.make("Pendulum-v1", g=5.0)
        )
        again = gymnasium.make(env_from_json(env_to_json(env)))
        self.assertEqual(again.spec, env.spec)
        self.assertEqual(again.unwrapped.g, 5.0)

    @parameterized.named_parameters(
        ("module", lambda run: "antigravity:Fly-v0", "module 'antigravity'"),
        (
            "unregistered",
            lambda run: spec(id="Evil-v0", **run),
            "'subprocess:call' as the environment 'Evil-v0'",
        ),
        (
            "another_entry_point",
            lambda run: spec(**run),
            "'subprocess:call' as the environment 'Pendulum-v1'",
        ),
        (
            "vector_entry_point",
            lambda run: spec(vector_entry_point="subprocess:call"),
            "as the environment 'Pendulum-v1'",
        ),
        (
            "wrapper",
            lambda run: spec(additional_wrappers=[{"name": "x", **run}]),
            "the wrapper 'subprocess:call'",
        ),
        (
            "no_wrapper_of_gymnasiums",
            lambda run: spec(
                additional_wrappers=[
                    {
                        "name": "x",
                        "entry_point": "gymnasium.wrappers.common:np.save",
                        "kwargs": {},
                    }
                ]
            ),
            "the wrapper 'gymnasium.wrappers.common:np.save'",
        ),
    )
    def test_unknown(self, make, message):
        run = {
            "entry_point": "subprocess:call",
            "kwargs": {"args": ["touch", str(self.canary)]},
        }
        agent = small_agent.make((Box(-1, 1, (3,)), Box(-2, 2, (1,))))
        config = agent.get_config() | {"env": make(run)}
        with self.assertWarnsRegex(UserWarning, f"{message}.*as env="):
            again = tfsac.SAC.from_config(config)
        self.assertIsNone(again.env)
        with self.assertRaisesRegex(ValueError, "Received: none"):
            again.evaluate()
        self.assertFalse(self.canary.exists())

    def test_a_load_may_bring_its_own(self):
        agent = small_agent.make(counting_env.ID)
        agent.env = "antigravity:Fly-v0"
        agent.save(self.path)
        with self.assertWarnsRegex(UserWarning, "module 'antigravity'"):
            again = tfsac.load(self.path, counting_env.ID)
        small_agent.fit(again, 2)
        self.assertEqual(again.env, counting_env.ID)


if __name__ == "__main__":
    tf.test.main()
