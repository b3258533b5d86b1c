"""Training that comes to NaN or infinity stops, says why, and loses nothing."""

import math
import tempfile
from unittest import mock

import keras
import numpy as np
import small_agent
import tensorflow as tf
import wandering_env
from absl.testing import parameterized
from small_agent import fit

import tfsac
from tfsac.checkpoint import Checkpoints
from tfsac.epoch import Epoch

RUN = {"steps_per_epoch": 40, "checkpoint_every": 10}


class NotFiniteTest(parameterized.TestCase, tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = tempfile.mkdtemp(dir=self.get_temp_dir())

    def assert_finite(self, agent):
        for name, value in small_agent.state(agent).items():
            self.assertTrue(np.isfinite(value).all(), msg=name)

    @parameterized.product(overlap=[False, True], bad=[math.nan, 3e38])
    def test_it_stops_with_the_last_checkpoint_and_the_batch(
        self, overlap, bad
    ):
        agent = small_agent.make(wandering_env.ID, overlap=overlap)
        insert = agent.replay.insert

        def poison(transitions):
            if agent.env_steps >= 23:
                reward = np.full_like(transitions.reward, bad)
                transitions = transitions._replace(reward=reward)
            insert(transitions)

        with (
            mock.patch.object(agent.replay, "insert", poison),
            self.assertRaisesRegex(
                tfsac.NotFiniteError, "critic_loss=(nan|inf).*reward from"
            ) as raised,
        ):
            fit(agent, **RUN, checkpoint_dir=self.folder)
        # A batch is drawn at random: it takes some to draw what is bad.
        self.assertBetween(agent.env_steps, 24, 39)
        [note] = raised.exception.__notes__
        steps = 20 if agent.env_steps < 30 else 30
        self.assertIn(f"last good checkpoint is {steps // 10}", note)
        loaded = tfsac.load(self.folder)
        self.assertEqual(loaded.env_steps, steps)
        self.assert_finite(loaded)
        with np.load(f"{self.folder}/not-finite.npz") as batches:
            self.assertEqual(set(batches), set(tfsac.Transition._fields))
            rewards = batches["reward"]
        self.assertEqual(rewards.shape, (1 + overlap, 8))
        is_bad = np.isnan(rewards) if math.isnan(bad) else rewards == bad
        self.assertTrue(is_bad.any())

    def test_weights_that_are_not_finite(self):
        agent = small_agent.make(wandering_env.ID)
        fit(agent, 20)
        agent.actor.set_weights([w * np.nan for w in agent.actor.get_weights()])
        with self.assertRaisesRegex(
            tfsac.NotFiniteError, "the action .*nan.*after 20 transitions"
        ):
            fit(agent, 20)
        self.assertEqual(agent.env_steps, 20)

    def test_what_ends_the_run_first(self):
        """Keras' own callback for this, which only asks to stop."""
        agent = small_agent.make(wandering_env.ID)
        insert = agent.replay.insert

        def poison(transitions):
            reward = np.full_like(transitions.reward, np.nan)
            insert(transitions._replace(reward=reward))

        run = {**RUN, "callbacks": [keras.callbacks.TerminateOnNaN()]}
        with self.assertRaisesRegex(
            tfsac.NotFiniteError, "NaN or inf"
        ) as error:
            fit(agent, 20, checkpoint_every=10, checkpoint_dir=self.folder)
            with mock.patch.object(agent.replay, "insert", poison):
                fit(agent, **run, checkpoint_dir=self.folder, epochs=3)
        [note] = error.exception.__notes__
        self.assertIn("not-finite.npz has the batches", note)
        with np.load(f"{self.folder}/not-finite.npz") as batches:
            self.assertTrue(np.isnan(batches["reward"]).any())
        self.assert_finite(tfsac.load(self.folder))

    def test_they_are_never_saved(self):
        agent = small_agent.make(wandering_env.ID)
        fit(agent, **RUN, checkpoint_dir=self.folder)
        kernel = agent.critic.trainable_variables[0]
        kernel.assign(kernel * np.inf)
        with self.assertRaisesRegex(tfsac.NotFiniteError, "NaN or infinity in"):
            Checkpoints(self.folder).save(agent, Epoch(0, 0, ()), [])
        self.assert_finite(tfsac.load(self.folder))


if __name__ == "__main__":
    tf.test.main()
