"""Discrete actions: their numbers, their probabilities, and who draws them."""

import numpy as np
import small_agent
import tensorflow as tf
from absl.testing import parameterized
from gymnasium import spaces
from modes import MODES

import tfsac
from tfsac.categorical_policy import DiscreteActions

ROWS = spaces.Box(-np.inf, np.inf, (4,))
DISCRETE = spaces.Discrete(3, start=5)
MULTI = spaces.MultiDiscrete([2, 1, 3], start=[0, -4, 7])


def make(space=DISCRETE, **kwargs):
    """An agent whose probabilities differ from state to state."""
    agent = small_agent.make((ROWS, space), **kwargs)
    rng = np.random.default_rng(0)
    for weight in agent.actor.trainable_variables:
        weight.assign(rng.normal(size=weight.shape))
    return agent


def rows(count=50):
    return np.random.default_rng(1).normal(size=(count, 4)).astype(np.float32)


class DiscreteActionsTest(parameterized.TestCase, tf.test.TestCase):
    def test_discrete(self):
        actions = DiscreteActions(DISCRETE)
        self.assertEqual((actions.count, actions.shape), (3, ()))
        self.assertAllEqual(actions.to_env(np.array([2, 0, 1])), [7, 5, 6])
        self.assertAllEqual(actions.from_env(np.float32([[7], [5]])), [2, 0])

    def test_each_combination_is_an_action(self):
        actions = DiscreteActions(MULTI)
        self.assertEqual((actions.count, actions.shape), (6, (3,)))
        index = np.arange(6)
        expected = np.stack(np.unravel_index(index, [2, 1, 3]), 1) + [0, -4, 7]
        self.assertAllEqual(actions.to_env(index), expected)
        self.assertAllEqual(actions.from_env(np.float32(expected)), index)

    @parameterized.parameters(DISCRETE, MULTI)
    def test_tensors_are_mapped_as_arrays_are(self, space):
        actions = DiscreteActions(space)
        index = np.arange(actions.count)
        for mode in (tf.function, tf.function(jit_compile=True)):
            mapped = mode(actions.to_env)(tf.constant(index))
            self.assertAllEqual(mapped, actions.to_env(index))
            self.assertEqual(mapped.dtype, tf.int64)

    def test_large_numbers_survive_the_replay_buffer(self):
        actions = DiscreteActions(spaces.Discrete(3, start=2**24 - 2))
        index = np.arange(3)
        stored = np.float32(actions.to_env(index))[:, np.newaxis]
        self.assertAllEqual(actions.from_env(stored), index)


class CategoricalPolicyTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.parameters(DISCRETE, MULTI)
    def test_actions_are_the_environments_own(self, space):
        agent = make(space)
        batch = rows()
        for deterministic in (True, False):
            actions = agent.predict(batch, deterministic)
            self.assertEqual(actions.dtype, np.int64)
            self.assertEqual(actions.shape, (50, *space.shape))
            for action in actions:
                self.assertIn(action, space)
            self.assertIn(agent.predict(batch[0], deterministic), space)
        explored = [
            agent.policy.random(np.random.default_rng(0), 50),
            agent.policy.explore(batch, (1, 2)),
        ]
        for action in np.concatenate(explored):
            self.assertIn(action, space)

    def test_random_actions_are_uniform(self):
        drawn = make(MULTI).policy.random(np.random.default_rng(0), 60_000)
        _, counts = np.unique(drawn, axis=0, return_counts=True)
        self.assertAllClose(counts, np.full(6, 10_000), rtol=0.04)

    @parameterized.parameters(DISCRETE, MULTI)
    def test_the_deterministic_action_is_the_most_likely(self, space):
        agent = make(space)
        batch = rows()
        all_actions = DiscreteActions(space).to_env(
            np.arange(DiscreteActions(space).count)
        )
        log_probs = [
            agent.log_prob(batch, np.repeat(action[None], 50, axis=0))
            for action in all_actions
        ]
        self.assertAllClose(np.exp(log_probs).sum(axis=0), np.ones(50))
        expected = all_actions[np.argmax(log_probs, axis=0)]
        self.assertAllEqual(agent.predict(batch), expected)
        self.assertGreater(len(np.unique(expected, axis=0)), 1)

    def test_log_prob_is_exact(self):
        agent, batch = make(), rows()
        logits = agent.actor(batch).numpy().astype(np.float64)
        expected = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        for i in range(3):
            actual = agent.log_prob(batch, np.full(50, 5 + i))
            self.assertEqual(actual.dtype, np.float64)
            self.assertAllClose(actual, expected[:, i], rtol=1e-12)
        one = agent.log_prob(batch[0], 6)
        self.assertEqual(one.shape, ())
        self.assertAllClose(one, expected[0, 1])

    def test_log_prob_of_what_is_no_action(self):
        agent = make()
        self.assertAllEqual(
            agent.log_prob(rows(4), [4, 8, 5.5, -1]), np.full(4, -np.inf)
        )
        agent = make(MULTI)
        wrong = [[0, -4, 6], [0, -3, 7], [2, -4, 7]]
        self.assertAllEqual(agent.log_prob(rows(3), wrong), [-np.inf] * 3)
        with self.assertRaisesRegex(ValueError, r"\(3, 3\).*\(3,\)"):
            agent.log_prob(rows(3), [0, 1, 2])

    def test_it_is_a_tfp_distribution(self):
        agent, batch = make(), rows()
        distribution = agent.policy(batch)
        self.assertEqual(distribution.batch_shape, [50])
        self.assertAllClose(
            distribution.log_prob(np.full(50, 1)),
            agent.log_prob(batch, np.full(50, 6)),
        )
        self.assertEqual(agent.policy(batch[0]).batch_shape, [])

    @parameterized.parameters(DISCRETE, MULTI)
    def test_samples_have_the_probabilities(self, space):
        agent = make(space)
        one = np.repeat(rows(1), 100_000, axis=0)
        drawn, log_prob = agent.policy.seeded(one, tf.constant([3, 4], "int64"))
        self.assertAllClose(log_prob, agent.log_prob(one, drawn), atol=1e-5)
        for action in np.unique(drawn, axis=0):
            share = np.mean(
                np.all(np.reshape(drawn == action, (len(one), -1)), axis=1)
            )
            probability = np.exp(agent.log_prob(one[0], action))
            error = np.sqrt(probability * (1 - probability) / len(one))
            self.assertLess(abs(share - probability), 4.5 * error)

    @parameterized.named_parameters(*MODES)
    def test_noise_is_the_seeds_in_each_mode(self, mode):
        agent, batch = make(MULTI), rows(1_000)
        seed = tf.constant([3, 4], tf.int64)
        function = agent.policy.seeded.python_function
        drawn, log_prob = mode(function)(tf.constant(batch), seed)
        expected, expected_log_prob = function(tf.constant(batch), seed)
        self.assertAllEqual(drawn, expected)
        self.assertAllClose(log_prob, expected_log_prob)
        other, _ = mode(function)(tf.constant(batch), seed + 1)
        self.assertNotAllEqual(other, expected)

    def test_infinity_has_an_action(self):
        agent = make()
        batch = rows(4)
        batch[0], batch[1, 2], batch[2] = np.inf, -np.inf, 3e38
        for action in agent.predict(batch):
            self.assertIn(action, DISCRETE)

    def test_nan_has_none(self):
        """One below the first number, in its own row alone."""
        for space, none in ((DISCRETE, 4), (MULTI, [-1, -5, 6])):
            agent = make(space)
            batch = rows(4)
            expected = agent.predict(batch)
            batch[2, 1] = np.nan
            seed = tf.constant([1, 2], tf.int64)
            drawn, log_prob = agent.policy.seeded(batch, seed)
            for actions in (agent.policy.deterministic(batch), drawn):
                self.assertAllEqual(actions[2], none)
            self.assertAllEqual(np.isnan(log_prob), [False, False, True, False])
            others = [0, 1, 3]
            acted = agent.policy.deterministic(batch).numpy()
            self.assertAllEqual(acted[others], expected[others])
            with self.assertRaisesRegex(ValueError, "without NaN"):
                agent.predict(batch)

    def test_observations_of_bytes(self):
        agent = small_agent.make((spaces.Box(0, 255, (4,), np.uint8), DISCRETE))
        agent.replay.insert(small_agent.transitions(agent, 20))
        agent.update()
        self.assertIn(agent.predict(np.uint8([0, 1, 2, 255])), DISCRETE)

    def test_the_snapshot_is_a_copy(self):
        agent, batch = make(overlap=True), rows(500)
        agent.snapshot.take()
        before = agent.policy.explore(batch, (1, 2))
        agent.actor.set_weights([-w for w in agent.actor.get_weights()])
        explored = agent.snapshot.policy.explore(batch, (1, 2))
        self.assertAllEqual(explored, before)
        self.assertNotAllEqual(agent.policy.explore(batch, (1, 2)), before)


class TargetEntropyTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.parameters((DISCRETE, 3), (MULTI, 6))
    def test_it_is_minus_a_or_half_of_log_n(self, space, count):
        agent = small_agent.make((ROWS, space))
        self.assertAllClose(agent.target_entropy, 0.5 * np.log(count))
        agent = small_agent.make((ROWS, spaces.Box(-1, 1, (count,))))
        self.assertEqual(agent.target_entropy, -count)
        agent = small_agent.make((ROWS, space), target_entropy=0.1)
        self.assertEqual(agent.target_entropy, 0.1)

    def test_the_temperature_finds_it(self):
        agent = tfsac.SAC(
            (ROWS, DISCRETE),
            tfsac.SACConfig(
                hidden_units=(16,),
                batch_size=64,
                learning_rate=1e-2,
                discount=0.0,  # so that Q is the reward, and stays
            ),
            seed=0,
        )
        agent.compile(jit_compile=False)
        agent.replay.insert(small_agent.transitions(agent, 200))
        for _ in range(4):
            logs = agent.update(200)
        self.assertAllClose(logs["entropy"], agent.target_entropy, rtol=0.1)


if __name__ == "__main__":
    tf.test.main()
