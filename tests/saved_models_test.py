"""The committed policies still load, and act as they did."""

import json
import pathlib

import gymnasium
import numpy as np
import tensorflow as tf

FOLDER = pathlib.Path(__file__).parent.parent / "saved_models" / "pendulum_v1"


class PendulumTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        model = tf.saved_model.load(str(FOLDER / "1"))
        self.act = model.signatures["serving_default"]

    def test_recorded_actions(self):
        recorded = json.loads((FOLDER / "actions.json").read_text())
        observations = tf.constant(recorded["observations"])
        actions = self.act(observations=observations)["actions"]
        # 1e-5 of half the range, which is 2.
        self.assertAllClose(actions, recorded["actions"], rtol=0, atol=2e-5)
        self.assertGreater(np.std(recorded["actions"]), 0.5)

    def test_it_swings_up_and_stays(self):
        env = gymnasium.make("Pendulum-v1")
        for seed in range(3):
            observation, _ = env.reset(seed=seed)
            for _ in range(200):
                actions = self.act(observations=tf.constant(observation[None]))
                action = actions["actions"][0].numpy()
                observation, *_ = env.step(action)
            self.assertGreater(observation[0], 0.95)  # the angle's cosine
        env.close()


if __name__ == "__main__":
    tf.test.main()
