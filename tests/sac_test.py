"""The equations, against numbers computed by hand."""

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from modes import MODES

from tfsac import sac


def constant(*values):
    return tf.constant(values, tf.float32)


class SoftQTargetTest(tf.test.TestCase, parameterized.TestCase):
    # min Q' = [2, 3]; V = min Q' - 0.5 * log pi = [1.5, 4]
    reward = (1.0, 2.0)
    next_q = ((2.0, 7.0), (5.0, 3.0))
    next_log_prob = (1.0, -2.0)

    def target(self, terminated, **options):
        return sac.soft_q_target(
            constant(*self.reward),
            constant(*terminated),
            constant(*self.next_q),
            constant(*self.next_log_prob),
            alpha=tf.constant(0.5),
            discount=0.9,
            **options,
        )

    @parameterized.named_parameters(*MODES)
    def test_it_is_the_soft_bellman_backup(self, mode):
        target = mode(lambda: self.target((0.0, 0.0)))()
        self.assertAllClose(target, [1 + 0.9 * 1.5, 2 + 0.9 * 4.0])

    def test_a_terminal_state_has_no_future(self):
        self.assertAllClose(self.target((1.0, 0.0)), [1.0, 2 + 0.9 * 4.0])

    def test_without_backup_entropy_the_target_is_that_of_td3(self):
        target = self.target((0.0, 0.0), backup_entropy=False)
        self.assertAllClose(target, [1 + 0.9 * 2.0, 2 + 0.9 * 3.0])

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
            soft = sac.soft_q_target(
                reward, terminated, next_q, log_prob, alpha, discount
            )
            self.assertAllClose(soft, hard)

    def test_no_gradient_passes(self):
        inputs = [
            constant(*self.reward),
            constant(0.0, 0.0),
            constant(*self.next_q),
            constant(*self.next_log_prob),
            tf.constant(0.5),
        ]
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            target = sac.soft_q_target(*inputs, discount=0.9)
        self.assertEqual(tape.gradient(target, inputs), [None] * 5)

    @parameterized.parameters(
        ((2, 1), (2,)),  # a trailing axis would broadcast to [B, B]
        ((2,), (2, 1)),
        ((3,), (2,)),
    )
    def test_a_wrong_shape_is_refused_at_trace_time(self, reward, log_prob):
        function = tf.function(sac.soft_q_target)
        with self.assertRaisesRegex(ValueError, r"\[N, B\]"):
            function.get_concrete_function(
                tf.zeros(reward),
                tf.zeros([2]),
                tf.zeros([2, 2]),
                tf.zeros(log_prob),
                tf.constant(1.0),
                0.99,
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
        loss = mode(sac.actor_loss)(log_prob, q, tf.constant(0.5))
        self.assertAllClose(loss, ((0.5 - 2) + (-0.5 - 1)) / 2)

    def test_only_the_smallest_value_has_a_gradient(self):
        log_prob, alpha = constant(1.0, -1.0), tf.constant(0.5)
        q = constant((4.0, 1.0), (2.0, 6.0))
        with tf.GradientTape() as tape:
            tape.watch([log_prob, q])
            loss = sac.actor_loss(log_prob, q, alpha)
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
