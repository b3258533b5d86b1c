"""The equations, against numbers computed by hand."""

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from modes import MODES

from tfsac import sac, tabular


def constant(*values):
    return tf.constant(values, tf.float32)


class SoftValueTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.named_parameters(*MODES)
    def test_of_a_sample(self, mode):
        q, log_prob = constant((2.0, 7.0), (5.0, 3.0)), constant(1.0, -2.0)
        value = mode(sac.soft_value)(q, log_prob, tf.constant(0.5))
        self.assertAllClose(value, [2 - 0.5, 3 + 1.0])

    @parameterized.named_parameters(*MODES)
    def test_of_all_actions(self, mode):
        # Two critics, two states, three actions; min Q = [1, 2, 3], [0, 0, 4].
        q = constant(
            ((1.0, 5.0, 3.0), (9.0, 0.0, 4.0)),
            ((6.0, 2.0, 3.0), (0.0, 0.0, 8.0)),
        )
        policy = np.float32([[0.5, 0.25, 0.25], [0.25, 0.25, 0.5]])
        function = mode(sac.soft_value_discrete)
        value = function(q, np.log(policy), tf.constant(2.0))
        entropy = 1.5 * np.log(2)
        expected = [1.75 + 2 * entropy, 2.0 + 2 * entropy]
        self.assertAllClose(value, expected)
        log_prob = mode(sac.expected_log_prob)(np.log(policy))
        self.assertAllClose(log_prob, [-entropy, -entropy])

    @parameterized.parameters(0.1, 1.0, 30.0)
    def test_at_the_optimum_it_is_log_sum_exp(self, alpha):
        """And there the actor's loss is flat, and lowest."""
        rng = np.random.default_rng(0)
        q = rng.normal(size=(2, 50, 7)) * 3
        smallest = q.min(axis=0)
        best = tabular.energy_based_policy(smallest, alpha)
        value = sac.soft_value_discrete(q, np.log(best), alpha)
        self.assertAllClose(
            value, tabular.soft_value(smallest, alpha), rtol=1e-12
        )
        logits = tf.constant(smallest / alpha)
        with tf.GradientTape() as tape:
            tape.watch(logits)
            log_probs = tf.nn.log_softmax(logits)
            loss = sac.actor_loss(sac.soft_value_discrete(q, log_probs, alpha))
        gradient = tape.gradient(loss, logits)
        self.assertAllClose(gradient, np.zeros_like(smallest), atol=1e-12)
        other = rng.dirichlet(np.ones(7), size=50)
        self.assertAllLess(
            sac.soft_value_discrete(q, np.log(other), alpha) - value, 0
        )

    def test_its_expectation_over_samples_is_that_of_all_actions(self):
        rng = np.random.default_rng(1)
        q, policy = rng.normal(size=(2, 1, 4)), rng.dirichlet(np.ones(4))
        log_probs = np.log(policy)
        samples = sac.soft_value(q[:, 0], log_probs, 0.7)
        value = sac.soft_value_discrete(q, log_probs[np.newaxis], 0.7)
        self.assertAllClose(value, [np.sum(policy * samples)])

    @parameterized.parameters(
        ((2, 3), (3, 1)),  # a trailing axis would broadcast to [B, B]
        ((2,), (2,)),
    )
    def test_wrong_shapes_are_refused_at_trace_time(self, q, log_prob):
        function = tf.function(sac.soft_value)
        with self.assertRaisesRegex(ValueError, r"\[N, B\]"):
            function.get_concrete_function(
                tf.zeros(q), tf.zeros(log_prob), tf.constant(1.0)
            )

    @parameterized.parameters(
        ((3, 4), (3, 4)), ((2, 3, 4), (3,)), ((2, 3, 4), (4, 3))
    )
    def test_wrong_shapes_of_all_actions_are_refused(self, q, log_probs):
        function = tf.function(sac.soft_value_discrete)
        with self.assertRaisesRegex(ValueError, r"\[N, B, n\]"):
            function.get_concrete_function(
                tf.zeros(q), tf.zeros(log_probs), tf.constant(1.0)
            )


class SoftQTargetTest(tf.test.TestCase, parameterized.TestCase):
    reward = (1.0, 2.0)
    next_value = (1.5, 4.0)

    def target(self, terminated):
        return sac.soft_q_target(
            constant(*self.reward),
            constant(*terminated),
            constant(*self.next_value),
            discount=0.9,
        )

    @parameterized.named_parameters(*MODES)
    def test_it_is_the_soft_bellman_backup(self, mode):
        target = mode(lambda: self.target((0.0, 0.0)))()
        self.assertAllClose(target, [1 + 0.9 * 1.5, 2 + 0.9 * 4.0])

    def test_a_terminal_state_has_no_future(self):
        self.assertAllClose(self.target((1.0, 0.0)), [1.0, 2 + 0.9 * 4.0])

    def test_without_backup_entropy_the_target_is_that_of_td3(self):
        q, log_prob = constant((2.0, 7.0), (5.0, 3.0)), constant(1.0, -2.0)
        value = sac.soft_value(q, log_prob, tf.constant(0.0))
        self.assertAllClose(value, [2.0, 3.0])

    def test_entropy_in_the_value_or_in_the_reward_is_the_same(self):
        """Seed eqs. 6 and 7 agree, terminal states included."""
        rng = np.random.default_rng(0)
        for terminated in np.array([(0.0, 0.0), (1.0, 0.0), (1.0, 1.0)]):
            reward, log_prob = rng.normal(size=(2, 2))
            next_q = rng.normal(size=(2, 2))
            alpha, discount = rng.uniform(size=2)
            entropy = -log_prob  # of one sampled action
            goes_on = 1 - terminated
            soft_reward = reward + discount * goes_on * alpha * entropy
            hard = soft_reward + discount * goes_on * next_q.min(axis=0)
            next_value = sac.soft_value(next_q, log_prob, alpha)
            soft = sac.soft_q_target(reward, terminated, next_value, discount)
            self.assertAllClose(soft, hard)

    def test_no_gradient_passes(self):
        inputs = [
            constant(*self.reward),
            constant(0.0, 0.0),
            constant(*self.next_value),
        ]
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            target = sac.soft_q_target(*inputs, discount=0.9)
        self.assertEqual(tape.gradient(target, inputs), [None] * 3)

    @parameterized.parameters(
        ((2, 1), (2,)),  # a trailing axis would broadcast to [B, B]
        ((2,), (2, 1)),
        ((3,), (2,)),
    )
    def test_a_wrong_shape_is_refused_at_trace_time(self, reward, value):
        function = tf.function(sac.soft_q_target)
        with self.assertRaisesRegex(ValueError, r"\[N, B\]"):
            function.get_concrete_function(
                tf.zeros(reward), tf.zeros([2]), tf.zeros(value), 0.99
            )


class LossTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.named_parameters(*MODES)
    def test_critic_loss_sums_members_and_averages_the_batch(self, mode):
        q = constant((1.0, 2.0), (3.0, 0.0))
        target_q = constant(0.0, 1.0)
        loss = mode(sac.critic_loss)(q, target_q)
        self.assertAllClose(loss, (1 + 1) / 2 + (9 + 1) / 2)

    def test_critic_loss_moves_each_member_by_its_own_error(self):
        q, target_q = constant((1.0, 2.0), (3.0, 0.0)), constant(0.0, 1.0)
        with tf.GradientTape() as tape:
            tape.watch(q)
            loss = sac.critic_loss(q, target_q)
        # d/dQ (Q - y)^2 / B = 2 (Q - y) / 2
        self.assertAllClose(tape.gradient(loss, q), [[1.0, 1.0], [3.0, -1.0]])

    @parameterized.named_parameters(*MODES)
    def test_actor_loss_takes_the_smallest_value(self, mode):
        log_prob = constant(1.0, -1.0)
        q = constant((4.0, 1.0), (2.0, 6.0))
        value = sac.soft_value(q, log_prob, tf.constant(0.5))
        loss = mode(sac.actor_loss)(value)
        self.assertAllClose(loss, ((0.5 - 2) + (-0.5 - 1)) / 2)

    def test_only_the_smallest_value_has_a_gradient(self):
        log_prob, alpha = constant(1.0, -1.0), tf.constant(0.5)
        q = constant((4.0, 1.0), (2.0, 6.0))
        with tf.GradientTape() as tape:
            tape.watch([log_prob, q])
            loss = sac.actor_loss(sac.soft_value(q, log_prob, alpha))
        to_log_prob, to_q = tape.gradient(loss, [log_prob, q])
        self.assertAllClose(to_log_prob, [0.25, 0.25])
        self.assertAllClose(to_q, [[0.0, -0.5], [-0.5, 0.0]])

    @parameterized.named_parameters(*MODES)
    def test_temperature_loss(self, mode):
        loss = mode(sac.temperature_loss)(
            tf.constant(-2.0), constant(1.0, 4.0), -3.0
        )
        self.assertAllClose(loss, 2.0 * (2.5 - 3.0))

    def test_temperature_rises_while_entropy_is_too_low(self):
        log_alpha = tf.Variable(0.0)
        for log_prob, rises in ((5.0, True), (-5.0, False)):
            with tf.GradientTape() as tape:
                loss = sac.temperature_loss(log_alpha, constant(log_prob), -1.0)
            gradient = tape.gradient(loss, log_alpha)
            self.assertEqual(bool(gradient < 0), rises)

    def test_temperature_loss_leaves_the_policy_alone(self):
        log_alpha, log_prob = tf.constant(0.3), constant(1.0, 2.0)
        with tf.GradientTape() as tape:
            tape.watch([log_alpha, log_prob])
            loss = sac.temperature_loss(log_alpha, log_prob, -1.0)
        to_log_alpha, to_log_prob = tape.gradient(loss, [log_alpha, log_prob])
        self.assertAllClose(to_log_alpha, -0.5)
        self.assertIsNone(to_log_prob)


class SoftUpdateTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.named_parameters(*MODES)
    def test_it_moves_the_target_by_tau(self, mode):
        target, source = tf.Variable([1.0, 2.0]), tf.Variable([3.0, -2.0])

        def step():
            sac.soft_update([target], [source], tau=0.25)

        mode(step)()
        self.assertAllClose(target, [1.5, 1.0])
        self.assertAllClose(source, [3.0, -2.0])


if __name__ == "__main__":
    tf.test.main()
