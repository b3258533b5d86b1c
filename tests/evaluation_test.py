import functools
from unittest import mock

import counting_env
import gymnasium
import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from counting_env import CountingEnv
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from tfsac.env import EnvError, EnvStream, recipe
from tfsac.evaluation import episode_seeds, evaluate

SPACES = CountingEnv.observation_space, CountingEnv.action_space


def act(rows):
    """Differs from row to row and from episode to episode."""
    return np.stack([np.zeros(len(rows)), rows[:, 3]], axis=1)


def expected(lengths):
    """The returns and lengths of episodes with these lengths."""
    lengths = np.array(lengths)
    return lengths * (lengths - 1) / 2 + lengths**2, lengths


@functools.cache
def fixed_lengths(seed, episodes):
    """The lengths that the seeds make, by Gymnasium alone."""
    env = CountingEnv()
    for episode_seed in episode_seeds(seed, episodes):
        env.reset(seed=episode_seed)
    return env.lengths


class EvaluateTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.parameters(1, 2, 7, 20, 50)
    def test_known_returns_however_many_at_once(self, max_envs):
        evaluation = evaluate(counting_env.ID, act, 20, 3, None, max_envs)
        self.assertAllEqual(evaluation.lengths, fixed_lengths(3, 20))
        returns, _ = expected(fixed_lengths(3, 20))
        self.assertAllEqual(evaluation.returns, returns)
        self.assertGreater(len(set(evaluation.lengths)), 3)

    def test_starts_are_fixed_by_the_seed(self):
        first = evaluate(counting_env.ID, act, 20, seed=1)
        np.random.seed(1)
        again = evaluate(counting_env.ID, act, 20, seed=1)
        fewer = evaluate(counting_env.ID, act, 5, seed=1)
        other = evaluate(counting_env.ID, act, 20, seed=2)
        self.assertAllEqual(first, again)
        self.assertAllEqual([part[:5] for part in first], fewer)
        self.assertNotAllEqual(first, other)

    def test_env_of_the_user(self):
        env = CountingEnv(reuse=True)
        with mock.patch.object(env, "close") as close:
            evaluation = evaluate(env, act, 10, seed=3)
        self.assertAllEqual(evaluation, expected(fixed_lengths(3, 10)))
        self.assertEqual(env.resets, 10)
        close.assert_not_called()

    @parameterized.product(mode=list(AutoresetMode), episodes=[1, 3, 8])
    def test_vector_env_of_the_user(self, mode, episodes):
        env = SyncVectorEnv([CountingEnv] * 3, autoreset_mode=mode)
        with mock.patch.object(env, "close") as close:
            first = evaluate(env, act, episodes)
            lengths = [env.envs[i % 3].lengths[i // 3] for i in range(episodes)]
            again = evaluate(env, act, episodes)
        self.assertAllEqual(first, expected(lengths))
        self.assertAllEqual(first, again)
        close.assert_not_called()

    def test_training_env_is_left_alone(self):
        env = gymnasium.make(counting_env.ID)
        counting = env.unwrapped
        stream = EnvStream(env)
        stream.reset(0)
        stream.step(np.zeros((1, 2)))
        before = [counting.state.tolist(), counting.steps, counting.resets]
        random = counting.np_random.bit_generator.state
        evaluate(recipe(stream.env), act, 5)
        after = [counting.state.tolist(), counting.steps, counting.resets]
        self.assertEqual(before, after)
        self.assertEqual(random, counting.np_random.bit_generator.state)

    def test_opens_few_and_closes_all(self):
        with mock.patch.object(CountingEnv, "close") as close:
            evaluate(counting_env.ID, act, 20, max_envs=4)
            self.assertEqual(close.call_count, 4)
            with self.assertRaises(ZeroDivisionError):
                evaluate(counting_env.ID, lambda rows: 1 / 0, 2)
            self.assertEqual(close.call_count, 4 + 2)

    def test_act_sees_batches_of_one_size(self):
        batches = []

        def watch(rows):
            batches.append((rows, rows.copy()))
            return act(rows)

        evaluate(counting_env.ID, watch, 20, max_envs=6)
        for rows, then in batches:
            self.assertEqual(rows.shape, (6, 5))
            self.assertAllEqual(rows, then)  # it may keep them

    def test_broken_env(self):
        with mock.patch.object(CountingEnv, "step") as step:
            step.side_effect = ValueError("boom")
            with self.assertRaisesRegex(EnvError, "'Counting-v0'.*boom"):
                evaluate(counting_env.ID, act, 5)

    def test_bad_arguments(self):
        for result, message in [
            (np.zeros((1, 2)), r"shape \(2, 2\).*shape \(1, 2\)"),
            (np.full((2, 2), np.nan), "finite actions"),
        ]:
            with self.assertRaisesRegex(ValueError, f"(?s){message}"):
                evaluate(counting_env.ID, lambda rows, result=result: result, 2)
        with self.assertRaisesRegex(ValueError, ">= 1. Received: 0"):
            evaluate(counting_env.ID, act, 0)

    def test_spaces_have_to_fit(self):
        env = SyncVectorEnv([CountingEnv])
        observation = gymnasium.spaces.Box(-1, 1, (4,))
        action = gymnasium.spaces.Box(-1, 1, (2,))
        for where in (counting_env.ID, CountingEnv(), env):
            evaluate(where, act, 1, spaces=SPACES)
            with self.assertRaisesRegex(
                ValueError, "4 numbers of float32.*5 numbers of.*environment"
            ):
                evaluate(where, act, 1, spaces=(observation, SPACES[1]))
            with self.assertRaisesRegex(ValueError, "(?s)actions.*environment"):
                evaluate(where, act, 1, spaces=(SPACES[0], action))


class RecipeTest(tf.test.TestCase):
    """Evaluation makes environments of its own."""

    def test_makes_the_like(self):
        env = gymnasium.make(counting_env.ID, index=3, max_episode_steps=9)
        env = gymnasium.wrappers.TimeAwareObservation(env)
        for made in (
            gymnasium.make(recipe(env)),
            gymnasium.make(recipe(gymnasium.make_vec(env.spec, num_envs=2))),
        ):
            self.assertIsNot(made.unwrapped, env.unwrapped)
            self.assertEqual(made.reset()[0][0], 3)
            self.assertEqual(made.observation_space, env.observation_space)
            self.assertEqual(made.spec.max_episode_steps, 9)
        self.assertEqual(recipe(counting_env.ID), counting_env.ID)

    def test_opens_no_windows(self):
        env = gymnasium.make("Pendulum-v1", render_mode="rgb_array")
        env.spec.kwargs["render_mode"] = "human"
        self.assertNotIn("render_mode", recipe(env).kwargs)
        self.assertIn("render_mode", env.spec.kwargs)

    def test_nothing_to_make_it_from(self):
        class Unrecorded(gymnasium.Wrapper):
            pass

        for env in (
            CountingEnv(),
            Unrecorded(gymnasium.make(counting_env.ID)),
            SyncVectorEnv([CountingEnv] * 2),
            gymnasium.wrappers.vector.ClipReward(
                gymnasium.make_vec(counting_env.ID, num_envs=2), 0, 1
            ),
            gymnasium.make_vec(
                counting_env.ID,
                num_envs=2,
                wrappers=[gymnasium.wrappers.RecordEpisodeStatistics],
            ),
        ):
            with self.assertRaisesRegex(ValueError, "spec.*validation_env="):
                recipe(env)


if __name__ == "__main__":
    tf.test.main()
