"""What `fit` and `evaluate` do with environments, and when these fail."""

import contextlib
import signal
from unittest import mock

import counting_env
import gymnasium
import keras
import numpy as np
import small_agent
import tensorflow as tf
from absl.testing import parameterized
from counting_env import CountingEnv
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv
from small_agent import SampledEnv, fit

import tfsac


class EnvironmentsTest(parameterized.TestCase, tf.test.TestCase):
    """Whatever the environment is, it can be learned from."""

    def check(self, agent, rows=13):
        fit(agent, rows, validation_episodes=0)
        self.assertBetween(agent.env_steps, rows, rows + agent.num_envs)
        self.assertGreater(agent.updates, 0)
        self.assertAllInRange(
            np.concatenate([w.ravel() for w in agent.get_weights()]), -100, 100
        )

    def test_sync_vector_env(self):
        agent = small_agent.make(SyncVectorEnv([CountingEnv] * 3))
        self.assertEqual(agent.num_envs, 3)
        self.check(agent)

    def test_async_vector_env(self):
        env = AsyncVectorEnv([CountingEnv] * 2, context="forkserver")
        with contextlib.closing(env):
            agent = small_agent.make(env)
            self.check(agent)
            # A fresh one for evaluation cannot be made of functions.
            with self.assertRaisesRegex(ValueError, "no spec"):
                agent.evaluate()

    def test_env_made_by_gymnasium(self):
        for env in (
            gymnasium.make(counting_env.ID),
            gymnasium.spec(counting_env.ID),
            gymnasium.make_vec(counting_env.ID, num_envs=2),
        ):
            agent = small_agent.make(env, random_steps=20)
            fit(agent, 10)
            self.assertEqual(
                list(agent.evaluate(episodes=2)),
                ["episode_return", "episode_return_std", "episode_length"],
            )

    @parameterized.parameters(
        (spaces.Box(0, 255, (4,), np.uint8), 4, "uint8"),
        (
            spaces.Dict(
                arm=spaces.Box(-1, 1, (2, 2), np.float64),
                gear=spaces.Discrete(3),
            ),
            7,
            "float32",
        ),
    )
    def test_observations(self, space, size, dtype):
        agent = small_agent.make(SampledEnv(space))
        self.check(agent)
        rows = agent.replay.sample(1, 4).observation
        self.assertEqual(rows.shape, [1, 4, size])
        self.assertEqual(rows.dtype, dtype)
        self.assertNotAllEqual(rows[0, 0], rows[0, 1])

    def test_another_env_from_now_on(self):
        agent = small_agent.make(counting_env.ID, num_envs=2)
        fit(agent, 4)
        env = CountingEnv()
        with mock.patch.object(CountingEnv, "close") as close:
            fit(agent, 4, env=env)
        self.assertEqual(close.call_count, 2)  # those that the agent made
        self.assertEqual(env.steps, 4)
        self.assertIs(agent.env, env)
        fit(agent, 4)
        self.assertEqual(env.steps, 8)
        with self.assertRaisesRegex(ValueError, "(?s)5 numbers.*3 numbers"):
            fit(agent, 4, env="Pendulum-v1")
        self.assertIs(agent.env, env)


class EvaluationTest(tf.test.TestCase):
    def test_training_env_is_left_alone(self):
        env = gymnasium.make(counting_env.ID)
        counting = env.unwrapped
        agent = small_agent.make(env)
        seen = []

        def see(*_):
            seen.append((counting.steps, counting.resets))

        note = keras.callbacks.LambdaCallback(on_epoch_end=see)
        fit(agent, 20, epochs=2, callbacks=[note], validation_episodes=3)
        agent.evaluate(episodes=3)
        see()
        self.assertEqual([steps for steps, _ in seen], [20, 40, 40])
        self.assertEqual(seen[1], seen[2])
        self.assertLen(counting.lengths, counting.resets)

    def test_training_env_is_refused(self):
        env = CountingEnv()
        agent = small_agent.make(env)
        fit(agent, 3)
        wrapped = gymnasium.wrappers.RecordEpisodeStatistics(env)
        for training_env in (env, wrapped):
            with self.assertRaisesRegex(
                ValueError, "of its own.*'CountingEnv', which the agent trains"
            ):
                agent.evaluate(training_env)
            with self.assertRaisesRegex(ValueError, "which the agent trains"):
                fit(
                    agent,
                    validation_env=training_env,
                    validation_episodes=1,
                )
        self.assertEqual((env.steps, env.resets), (3, env.resets))

    def test_what_cannot_be_evaluated_fails_before_training(self):
        env = CountingEnv()
        agent = small_agent.make(env)
        begun = []
        note = keras.callbacks.LambdaCallback(on_train_begin=begun.append)
        for options, message in (
            ({}, "(?s)no spec.*validation_env="),
            ({"validation_env": "Pendulum-v1"}, "5 numbers.*3 numbers"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                agent.fit(callbacks=[note], verbose=0, **options)
        self.assertEmpty(begun)
        self.assertEqual(env.steps, 0)
        history = fit(agent, 3, validation_episodes=0, callbacks=[note])
        self.assertNotIn("val_episode_return", history.history)
        self.assertLen(begun, 1)

    def test_who_asks_to_stop_does_not_wait_for_all_episodes(self):
        agent = small_agent.make(counting_env.ID)
        env, steps = CountingEnv(), []
        take = env.step

        def ask(action):
            steps.append(action)
            if len(steps) == 3:
                agent.stop_training = True
            return take(action)

        env.step = ask
        history = fit(
            agent, 10, epochs=9, validation_env=env, validation_episodes=50
        ).history
        self.assertAllEqual(history["val_episode_return"], [np.nan])
        self.assertLen(steps, 3)
        # It asks for no more than that, and of nobody else.
        self.assertTrue(
            np.isfinite(agent.evaluate(episodes=2)["episode_return"])
        )

    def test_known_returns(self):
        """The policy that always takes the middle of the box."""
        actor = small_agent.ConstantActor([0.0, 0.0], [-1.0, -1.0])
        agent = small_agent.make(counting_env.ID, models={"actor": actor})
        env = CountingEnv()
        result = agent.evaluate(env, episodes=30, seed=3)
        lengths = np.array(env.lengths)
        returns = lengths * (lengths - 1) / 2 + lengths * 5
        self.assertAllClose(result["episode_return"], returns.mean())
        self.assertAllClose(result["episode_return_std"], returns.std())
        self.assertAllClose(result["episode_length"], lengths.mean())
        again = agent.evaluate(episodes=30, seed=3, return_dict=False)
        self.assertAllClose(again, list(result.values()))

        sampled = [
            agent.evaluate(episodes=30, seed=3, deterministic=False)
            for _ in range(2)
        ]
        self.assertEqual(*sampled)
        self.assertNotEqual(sampled[0], result)


class FailureTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.parameters(
        (ValueError("boom"), tfsac.EnvError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    )
    def test_env_that_fails_leaves_the_agent_usable(self, error, expected):
        env = CountingEnv()
        agent = small_agent.make(env)
        take, count = env.step, []

        def fail_once(action):
            count.append(action)
            if len(count) == 12:
                raise error
            return take(action)

        env.step = fail_once
        with self.assertRaises(expected):
            fit(agent, 20)
        self.assertEqual(agent.env_steps, 11)
        self.assertEqual(agent.replay.inserted, 11)
        self.assertEqual(agent.updates, 7)
        resets = env.resets
        fit(agent, 20)
        self.assertGreater(env.resets, resets)  # an episode was broken off
        self.assertEqual(agent.env_steps, 31)
        self.assertEqual(agent.replay.inserted, 31)
        self.assertEqual(agent.updates, 27)

    def test_signals_are_left_to_the_program(self):
        agent = small_agent.make(CountingEnv(), overlap=True)
        with mock.patch.object(signal, "signal") as install:
            fit(agent, 20, checkpoint_dir=self.get_temp_dir())
        install.assert_not_called()

    def test_diverged_policy_is_told_before_the_env_sees_it(self):
        actor = small_agent.ConstantActor([np.nan, 0.0], [0.0, 0.0])
        env = CountingEnv()
        agent = small_agent.make(env, models={"actor": actor}, random_steps=0)
        with self.assertRaisesRegex(tfsac.NotFiniteError, "action .*nan"):
            fit(agent)
        self.assertEqual(env.steps, 0)


if __name__ == "__main__":
    tf.test.main()
