"""The soft Q-learning agent as its users meet it."""

import json
import pathlib
import subprocess
import sys
from unittest import mock

import counting_env
import export_test
import keras
import numpy as np
import small_agent
import tensorflow as tf
from absl.testing import parameterized
from gymnasium import spaces
from small_agent import changed, fit, state

import tfsac

ROWS = spaces.Box(-np.inf, np.inf, (4,))
LOW, HIGH = np.float32([-1, 0]), np.float32([3, 1])
SPACES = ROWS, spaces.Box(LOW, HIGH)
LEARNED = (
    "loss",
    "critic_loss",
    "stein_gradient",
    "alpha",
    "entropy",
    "q_mean",
    "value_mean",
)


def make(env=SPACES, **config):
    return small_agent.make(
        env,
        algorithm=tfsac.SoftQLearning,
        **{"num_particles": 8, "num_proposals": 8} | config,
    )


def learned(env=SPACES, updates=5, **config):
    agent = make(env, **config)
    agent.replay.insert(small_agent.transitions(agent, 50))
    agent.update(updates)
    return agent


def grid(count):
    """Actions in the middle of equal cells, and the volume of a cell."""
    axes = [
        low + (high - low) * (np.arange(count) + 0.5) / count
        for low, high in zip(LOW, HIGH, strict=True)
    ]
    actions = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
    return actions, np.prod(HIGH - LOW) / count**2


class FitTest(parameterized.TestCase, tf.test.TestCase):
    def test_the_logs(self):
        agent = make(counting_env.ID)
        history = fit(agent, 20, validation_episodes=1).history
        expected = {*LEARNED, "episode_return", "val_episode_return"}
        self.assertContainsSubset(expected, history.keys())
        for name in LEARNED:
            self.assertTrue(np.isfinite(history[name]).all(), msg=name)

    @parameterized.parameters(True, False)
    def test_equal_seeds_give_equal_runs(self, overlap):
        agents = [
            make(counting_env.ID, train_every=2, overlap=overlap)
            for _ in range(2)
        ]
        for agent in agents:
            fit(agent, 20)
        self.assertGreater(agents[0].updates, 10)
        self.assertEmpty(changed(*map(state, agents)))

    def test_actions_that_it_cannot_take(self):
        with self.assertRaisesRegex(ValueError, "a Box space"):
            tfsac.SoftQLearning((ROWS, spaces.Discrete(2)))


class ActTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.agent = learned(temperature=0.3)
        self.row = np.float32([0.5, -1, 0, 2])

    def q(self, actions):
        unit = (actions - (LOW + HIGH) / 2) / (HIGH - LOW) * 2
        rows = np.tile(self.row, (len(actions), 1))
        q = self.agent.critic((rows, unit.astype(np.float32)))
        return q.numpy().astype(np.float64).min(axis=0)

    def test_the_deterministic_action_is_among_the_best(self):
        action = self.agent.predict(self.row)
        self.assertAllEqual(action, self.agent.predict(self.row))
        sampled = self.agent.predict(
            np.tile(self.row, (1000, 1)), deterministic=False
        )
        self.assertGreater(len(np.unique(sampled[:, 0])), 990)
        for actions in (action[np.newaxis], sampled):
            self.assertAllInRange(actions[:, 0], LOW[0], HIGH[0])
            self.assertAllInRange(actions[:, 1], LOW[1], HIGH[1])
        share = np.mean(self.q(sampled) > self.q(action[np.newaxis]))
        self.assertLess(share, 0.1)

    def test_densities_are_those_of_the_energy(self):
        actions, volume = grid(40)
        rows = np.tile(self.row, (len(actions), 1))
        density = np.exp(self.agent.log_prob(rows, actions))
        self.assertAllClose(density.sum() * volume, 1.0, rtol=0.02)
        energy = np.exp(self.q(actions) / 0.3)
        expected = energy / (energy.sum() * volume)
        self.assertAllClose(density, expected, rtol=0.02)

    def test_densities_of_one_action_and_outside(self):
        inside = self.agent.log_prob(self.row, [0.0, 0.5])
        self.assertEqual((inside.shape, inside.dtype), ((), np.float64))
        self.assertTrue(np.isfinite(inside))
        self.assertEqual(self.agent.log_prob(self.row, [0.0, 1.5]), -np.inf)
        with self.assertRaisesRegex(ValueError, r"shape \(2,\).*\(3,\)"):
            self.agent.log_prob(self.row, [0.0, 0.5, 1.0])


class SaveTest(tf.test.TestCase):
    def test_training_goes_on_as_if_nothing_had_been(self):
        agent = learned(num_critics=3, tau=0.1)
        folder = pathlib.Path(self.get_temp_dir(), "x")
        agent.save(folder, include_replay=True)
        loaded = tfsac.load(folder)
        self.assertIsInstance(loaded, tfsac.SoftQLearning)
        self.assertEqual(loaded.config, agent.config)
        rows = np.ones((2, 4), np.float32)
        for _ in range(2):
            self.assertEqual(agent.update(), loaded.update())
            self.assertAllEqual(agent.explore(rows), loaded.explore(rows))
        self.assertEmpty(changed(state(agent), state(loaded)))
        self.assertAllEqual(agent.predict(rows), loaded.predict(rows))

    def test_optimizers_come_back(self):
        agent = make()
        agent.compile(
            actor_optimizer=keras.optimizers.SGD(0.125), jit_compile=False
        )
        path = pathlib.Path(self.get_temp_dir(), "x.keras")
        agent.save(path)
        loaded = tfsac.load(path)
        self.assertIsInstance(loaded.actor_optimizer, keras.optimizers.SGD)
        self.assertIsInstance(loaded.critic_optimizer, keras.optimizers.Adam)
        self.assertFalse(loaded.jit_compile)

    def test_the_exported_model_needs_tensorflow_alone(self):
        agent = learned()
        folder = pathlib.Path(self.get_temp_dir())
        model = agent.export(folder / "policy")
        rows = np.random.default_rng(0).normal(size=(20, 4))
        np.save(folder / "rows.npy", rows.astype(np.float32))
        script = export_test.FRESH_PROCESS
        process = subprocess.run(
            [sys.executable, "-c", script, model, folder],
            capture_output=True,
            text=True,
        )
        self.assertEqual(process.returncode, 0, msg=process.stderr[-2000:])
        results = np.load(folder / "results.npz")
        self.assertAllClose(results["acted"], agent.predict(rows), atol=1e-5)
        self.assertAllClose(
            results["log_prob"],
            agent.log_prob(rows, results["actions"]),
            atol=1e-3,
        )

    def test_other_formats_act_alike(self):
        agent = learned()
        folder = pathlib.Path(self.get_temp_dir())
        for format in ("litert", "onnx"):
            path = agent.export(folder / format, format)
            report = json.loads(pathlib.Path(path, "parity.json").read_text())
            self.assertLess(report["ordinary"]["worst_difference"], 1e-5)
            self.assertTrue(report["extreme"]["finite_and_in_bounds"])

    def test_native_code_is_refused(self):
        agent = learned()
        with self.assertRaisesRegex(ValueError, "Export it as tf_saved_model"):
            agent.export(pathlib.Path(self.get_temp_dir(), "c"), "native")

    def test_the_exported_agent_learns_alike(self):
        agent = learned()
        path = agent.export(pathlib.Path(self.get_temp_dir(), "t"), "trainable")
        model = tf.saved_model.load(path)
        batch = agent.replay.sample(1, agent.config.batch_size)
        fields = batch._asdict()
        for unused in ("truncated", "env_index"):
            fields.pop(unused)
        metrics = model.signatures["train"](**fields)
        with mock.patch.object(agent.replay, "sample", lambda *_: batch):
            expected = dict(agent.update())
        self.assertAllClose(metrics, expected, rtol=1e-5)


class SharedTest(parameterized.TestCase, tf.test.TestCase):
    """What has nothing to do with an algorithm is there once."""

    @parameterized.parameters(
        "fit",
        "evaluate",
        "update",
        "prepare_update",
        "explore",
        "predict",
        "save",
        "export",
        "get_config",
        "save_own_variables",
        "load_own_variables",
    )
    def test_it_is_the_same_function_as_that_of_sac(self, name):
        shared = getattr(tfsac.SoftQLearning, name)
        self.assertIs(shared, getattr(tfsac.SAC, name))

    def test_so_is_what_they_hold(self):
        agents = [make(), small_agent.make(SPACES)]
        replays = [type(agent.replay) for agent in agents]
        self.assertIs(*replays)


class OwnModelsTest(tf.test.TestCase):
    def test_a_functional_actor(self):
        observation, noise = keras.Input((4,)), keras.Input((2,))
        x = keras.layers.Concatenate()([observation, noise])
        x = keras.layers.Dense(8, "elu")(x)
        x = keras.layers.Dropout(0.1)(x)
        actor = keras.Model([observation, noise], keras.layers.Dense(2)(x))
        agent = small_agent.make(
            SPACES, models={"actor": actor}, algorithm=tfsac.SoftQLearning
        )
        agent.replay.insert(small_agent.transitions(agent, 50))
        before = state(agent)
        agent.update()
        self.assertIn("actor", changed(before, state(agent)))
        path = pathlib.Path(self.get_temp_dir(), "x.keras")
        agent.save(path)
        rows = np.ones((2, 4), np.float32)
        self.assertAllEqual(tfsac.load(path).predict(rows), agent.predict(rows))

    def test_a_wrong_shape_is_named(self):
        with self.assertRaisesRegex(
            ValueError, r"\(5, 4\) and \(5, 2\).* Received: \(5, 3\)"
        ):
            tfsac.SoftQLearning(SPACES, actor=tfsac.Sampler(3))


if __name__ == "__main__":
    tf.test.main()
