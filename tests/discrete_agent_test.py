"""Discrete actions all the way: environments, fit, files, servers."""

import json
import pathlib
import subprocess
import sys
import tempfile

import gymnasium
import keras
import numpy as np
import small_agent
import tensorflow as tf
from absl.testing import parameterized
from export_test import FRESH_PROCESS
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from mdp_env import MDPEnv, random_mdp
from small_agent import changed, fit, state

import tfsac
from tfsac import tabular
from tfsac.spaces_json import space_from_dict

START = 5  # of the actions' numbers
ROWS = spaces.Box(-9, 9, (4,))
MULTI = spaces.MultiDiscrete([2, 3], start=[0, 7])


class ButtonsEnv(gymnasium.Env):
    """Two numbers are pressed at once; their product is the reward."""

    observation_space, action_space = ROWS, MULTI

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._t = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        if action not in self.action_space:
            raise ValueError(f"{action!r} is none of {self.action_space}")
        self._t += 1
        reward = float(action[0] * action[1])
        return np.full(4, self._t, np.float32), reward, False, self._t == 6, {}


def mdp_env():
    return MDPEnv(random_mdp(0), start=START)


gymnasium.register("Finite-v0", entry_point=mdp_env, max_episode_steps=20)
gymnasium.register("Buttons-v0", entry_point=ButtonsEnv)


def stored(agent):
    """Fields of draws from the replay buffer."""
    return tfsac.Transition(
        *(field.numpy()[0] for field in agent.replay.sample(1, 200))
    )


class FitTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.product(num_envs=(1, 3), overlap=(False, True))
    def test_what_is_stored_is_what_was_done(self, num_envs, overlap):
        agent = small_agent.make(
            "Finite-v0", num_envs=num_envs, overlap=overlap
        )
        logs = fit(agent, 30, validation_episodes=1).history
        self.assertTrue(np.isfinite(logs["critic_loss"]).all())
        batch = stored(agent)
        states = np.argmax(batch.observation, axis=1)
        actions = batch.action[:, 0].astype(int)
        self.assertEqual(set(actions) | {5, 6, 7}, {5, 6, 7})
        reward = random_mdp(0).reward[states, actions - START]
        self.assertAllClose(batch.reward, reward)

    def test_multi_discrete(self):
        agent = small_agent.make("Buttons-v0", random_steps=0)
        fit(agent, 30, validation_episodes=1)
        batch = stored(agent)
        self.assertAllClose(batch.reward, np.prod(batch.action, axis=1))
        self.assertAllInRange(batch.action[:, 1], 7, 9)

    @parameterized.parameters(*AutoresetMode)
    def test_vector_environments(self, mode):
        for make_env in (mdp_env, ButtonsEnv):
            agent = small_agent.make(
                SyncVectorEnv([make_env] * 2, autoreset_mode=mode)
            )
            fit(agent, 30)
            self.assertGreaterEqual(agent.env_steps, 30)
            result = agent.evaluate(SyncVectorEnv([make_env] * 2), episodes=3)
            self.assertTrue(np.isfinite(result["episode_return"]))

    @parameterized.parameters(True, False)
    def test_evaluate(self, deterministic):
        agent = small_agent.make("Finite-v0")
        results = [
            agent.evaluate(episodes=4, deterministic=deterministic)
            for _ in range(2)
        ]
        self.assertEqual(*results)

    def test_equal_seeds_are_equal_runs(self):
        agents = [small_agent.make("Finite-v0", seed=3) for _ in range(2)]
        for agent in agents:
            fit(agent, 30)
        self.assertEmpty(changed(*map(state, agents)))
        other = small_agent.make("Finite-v0", seed=4)
        fit(other, 30)
        self.assertNotEmpty(changed(state(agents[0]), state(other)))

    def test_algorithms_say_what_they_cannot_do(self):
        class OnlyBoxes(tfsac.SAC):
            ACTION_SPACES = (spaces.Box,)

        with self.assertRaisesRegex(
            ValueError, r"Box space, for a OnlyBoxes. Received: Discrete\(2\)"
        ):
            OnlyBoxes((ROWS, spaces.Discrete(2)))


class OptimumTest(parameterized.TestCase, tf.test.TestCase):
    """SAC with a fixed temperature finds what tfsac.tabular computes."""

    @parameterized.parameters(0, 1, 2)
    def test_value_and_policy_are_those_of_tabular(self, seed):
        alpha, mdp = 1.0, random_mdp(seed)
        agent = tfsac.SAC(
            MDPEnv(mdp, START),
            tfsac.SACConfig(
                discount=mdp.discount,
                temperature=alpha,
                hidden_units=(32,),
                tau=0.02,
                learning_rate=1e-2,
            ),
            seed=seed,
        )
        agent.replay.insert(_experience(agent, mdp, 300_000, seed))
        for _ in range(12):
            agent.update(200)
            for optimizer in agent.optimizer.optimizers:
                optimizer.learning_rate = 0.6 * optimizer.learning_rate

        q = tabular.soft_policy_iteration(mdp, alpha)
        value, best = (
            function(q, alpha)
            for function in (tabular.soft_value, tabular.energy_based_policy)
        )
        rows = agent.flatten(np.arange(len(q)))
        policy = np.stack(
            [
                np.exp(agent.log_prob(np.arange(len(q)), np.full(len(q), a)))
                for a in START + np.arange(q.shape[1])
            ],
            axis=1,
        )
        goes_on = ~mdp.terminal  # from the terminal state nothing was seen
        learned = tabular.soft_value(
            agent.critic(rows).numpy().min(axis=0), alpha
        )
        self.assertAllClose(learned[goes_on], value[goes_on], rtol=0.01)
        self.assertAllClose(policy[goes_on], best[goes_on], atol=0.02)
        reached = tabular.policy_value(
            tabular.soft_policy_evaluation(mdp, policy, alpha), policy, alpha
        )
        self.assertAllClose(reached[goes_on], value[goes_on], rtol=0.01)


def _experience(agent, mdp, count, seed):
    """Transitions from each state and action equally often."""
    rng = np.random.default_rng(seed)
    num_states, num_actions = mdp.reward.shape
    states = rng.integers(num_states, size=count)
    actions = rng.integers(num_actions, size=count)
    cumulated = np.cumsum(mdp.transition[states, actions], axis=1)
    following = np.sum(rng.random((count, 1)) > cumulated[:, :-1], axis=1)
    return tfsac.Transition(
        agent.flatten(states),
        np.float32(actions[:, np.newaxis] + START),
        mdp.reward[states, actions].astype(np.float32),
        agent.flatten(following),
        mdp.terminal[following],
        np.zeros(count, bool),
        np.zeros(count, np.int32),
    )


def functional(outputs, join=lambda heads: heads[0]):
    observation = keras.Input((4,))
    x = keras.layers.Dense(8, "relu")(observation)
    heads = [keras.layers.Dense(outputs)(x) for _ in range(2)]
    return keras.Model(observation, join(heads))


class OwnModelsTest(parameterized.TestCase, tf.test.TestCase):
    def test_functional(self):
        models = {
            "actor": functional(6),
            "critic": functional(6, keras.ops.stack),
        }
        agent = small_agent.make((ROWS, MULTI), models=models)
        agent.replay.insert(small_agent.transitions(agent, 20))
        before = state(agent)
        agent.update(2)
        self.assertContainsSubset(
            ["actor", "critic", "target_critic"], changed(before, state(agent))
        )
        path = pathlib.Path(tempfile.mkdtemp(dir=self.get_temp_dir()), "x")
        agent.save(path)
        self.assertEmpty(changed(state(agent), state(tfsac.load(path))))

    @parameterized.parameters(
        ("actor", functional(5), r"logits of the shape \(5, 6\).*\(5, 5\)"),
        ("actor", functional(6, lambda heads: heads), r"\(5, 6\), \(5, 6\)"),
        ("critic", functional(6), r"\(N, 5, 6\).*\(5, 6\).*ops.stack"),
        ("critic", functional(5, keras.ops.stack), r"\(2, 5, 5\)"),
    )
    def test_wrong_shapes(self, name, model, message):
        with self.assertRaisesRegex(ValueError, f"(?s){message}"):
            small_agent.make((ROWS, MULTI), models={name: model})

    def test_as_many_actions_as_rows_that_are_tried(self):
        """An axis too few, or two in another order, is still seen."""
        space = spaces.Discrete(5)
        models = {
            "actor": functional(5),
            "critic": functional(5, keras.ops.stack),
        }
        small_agent.make((ROWS, space), models=models)
        for join in (
            lambda heads: keras.ops.transpose(heads[0]),
            lambda heads: keras.ops.stack(heads, axis=1),
        ):
            with self.assertRaisesRegex(ValueError, "Received"):
                critic = functional(5, join)
                small_agent.make((ROWS, space), models={"critic": critic})


class FilesTest(parameterized.TestCase, tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=self.get_temp_dir()))

    @parameterized.parameters("Finite-v0", "Buttons-v0")
    def test_save_and_go_on(self, env):
        agent = small_agent.make(env)
        fit(agent, 20)
        agent.save(self.folder / "x", include_replay=True)
        loaded = tfsac.load(self.folder / "x")
        self.assertEqual(loaded.action_space, agent.action_space)
        self.assertEmpty(changed(state(agent), state(loaded)))
        rows = np.ones((2, agent.flatten.size), np.float32)
        for _ in range(3):
            self.assertEqual(agent.update(), loaded.update())
            self.assertAllEqual(agent.explore(rows), loaded.explore(rows))

    @parameterized.parameters("Finite-v0", "Buttons-v0")
    def test_export(self, env):
        agent = small_agent.make(env)
        fit(agent, 20)
        shape = agent.action_space.shape
        path = pathlib.Path(agent.export(self.folder / "policy"))
        rows = np.random.default_rng(0).normal(size=(9, agent.flatten.size))
        rows = rows.astype(np.float32)
        np.save(self.folder / "rows.npy", rows)
        subprocess.run(
            [sys.executable, "-c", FRESH_PROCESS, path, self.folder],
            check=True,
            capture_output=True,
            cwd=self.folder,
        )
        results = np.load(self.folder / "results.npz")
        seed = tf.constant([1, 2], tf.int64)
        drawn, log_prob = agent.policy.seeded(rows, seed)
        self.assertAllEqual(results["acted"], agent.policy.act(rows))
        self.assertAllEqual(results["actions"], drawn)
        self.assertAllClose(results["log_prob"], log_prob)
        for name in ("acted", "actions"):
            self.assertEqual(results[name].dtype, np.int64)
            self.assertEqual(results[name].shape, (9, *shape))

        with self.subTest("the card tells the space"):
            card = (path / "assets.extra" / "tfsac.json").read_text()
            space = space_from_dict(json.loads(card)["action_space"])
            self.assertEqual(space, agent.action_space)
        with self.subTest("any batch size, NaN in its own row"):
            act = tf.saved_model.load(str(path)).signatures["serving_default"]
            for size in (0, 1, 100):
                batch = np.resize(rows, (size, rows.shape[1]))
                actions = act(observations=tf.constant(batch))["actions"]
                self.assertEqual(actions.shape, (size, *shape))
            rows[3] = np.nan
            actions = act(observations=tf.constant(rows))["actions"].numpy()
            is_action = [action in agent.action_space for action in actions]
            self.assertEqual(is_action, [i != 3 for i in range(9)])

    @parameterized.product(
        env=["Finite-v0", "Buttons-v0"],
        format=["trainable", "native", "litert", "onnx"],
    )
    def test_other_formats(self, env, format):
        agent = small_agent.make(env)
        path = pathlib.Path(agent.export(self.folder / format, format))
        parity = json.loads(next(path.rglob("parity.json")).read_text())
        for observations in parity.values():
            self.assertEqual(observations["worst_difference"], 0.0)
            self.assertTrue(observations["finite_and_in_bounds"])


if __name__ == "__main__":
    tf.test.main()
