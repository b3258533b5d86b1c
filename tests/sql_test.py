"""Soft Q-learning's equations, against closed forms and numbers by hand."""

import math

import numpy as np
import sql_reference
import tensorflow as tf
from absl.testing import parameterized
from modes import MODES

from tfsac import sql


def constant(values):
    return tf.constant(values, tf.float32)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


class ProposalsTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.named_parameters(*MODES)
    def test_they_are_the_noise_on_a_uniform_scale(self, mode):
        noise = [[[0.0, 1.0], [-1.0, 3.0]]]
        action, log_density = mode(sql.uniform_proposals)(constant(noise))
        expected = [[[0.0, 0.6826895], [-0.6826895, 0.9973002]]]
        self.assertAllClose(action, expected, atol=1e-6)
        self.assertAllClose(log_density, [[-2 * math.log(2)] * 2])

    def test_every_part_is_as_likely(self):
        action, _ = sql.uniform_proposals(constant(normal(1, 100_000, 1)))
        counts, _ = np.histogram(action, bins=20, range=(-1, 1))
        self.assertAllClose(counts, [5_000] * 20, atol=5 * 70)  # 5 sigma


class SoftValueTest(tf.test.TestCase, parameterized.TestCase):
    """Of the policy N(mean, std) with Q = V + alpha log pi, whatever V is."""

    alpha, mean, std, value = 0.3, 0.2, 0.05, 7.0

    def q(self, action):
        z = (action - self.mean) / self.std
        log_pi = -0.5 * z**2 - math.log(self.std) - 0.5 * math.log(2 * math.pi)
        return constant(self.value + self.alpha * log_pi)[tf.newaxis]

    def uniform(self):
        action = np.linspace(-1, 1, 10_001)[np.newaxis]
        return self.q(action), tf.fill(action.shape, -math.log(2.0))

    @parameterized.named_parameters(*MODES)
    def test_uniform_proposals_find_it(self, mode):
        value = mode(sql.soft_value)(*self.uniform(), self.alpha)
        self.assertAllClose(value, [self.value], rtol=1e-4)

    def test_the_policy_itself_as_proposal_needs_one_sample(self):
        action = self.mean + self.std * normal(5, 1)
        q = self.q(action)
        log_density = (q[0] - self.value) / self.alpha
        value = sql.soft_value(q, log_density, self.alpha)
        self.assertAllClose(value, [self.value] * 5, rtol=1e-5)

    def test_other_proposals_are_weighed_by_their_density(self):
        action = 0.3 + 0.1 * normal(1, 100_000)
        z = (action - 0.3) / 0.1
        log_density = -0.5 * z**2 - math.log(0.1 * math.sqrt(2 * math.pi))
        value = sql.soft_value(
            self.q(action), constant(log_density), self.alpha
        )
        self.assertAllClose(value, [self.value], atol=0.01)

    def test_the_smallest_member_counts(self):
        q = constant([[[1.0, 5.0]], [[2.0, 3.0]]])
        value = sql.soft_value(q, tf.zeros([1, 2]), 1.0)
        expected = math.log((math.exp(1) + math.exp(3)) / 2)
        self.assertAllClose(value, [expected])

    def test_no_value_overflows(self):
        q = constant([[[1e4, -1e4]]])
        value = sql.soft_value(q, tf.zeros([1, 2]), 0.01)
        self.assertAllClose(value, [1e4])

    @parameterized.named_parameters(*MODES)
    def test_entropy(self, mode):
        entropy = mode(sql.soft_entropy)(*self.uniform(), self.alpha)
        expected = math.log(self.std * math.sqrt(2 * math.pi * math.e))
        self.assertAllClose(entropy, [expected], rtol=1e-4)

    def test_a_wrong_shape_is_refused_at_trace_time(self):
        function = tf.function(sql.soft_value)
        with self.assertRaisesRegex(ValueError, r"\[N, B, K\]"):
            function.get_concrete_function(
                tf.zeros([2, 5, 3]), tf.zeros([3]), tf.constant(1.0)
            )


class ScoreTest(tf.test.TestCase):
    def test_it_is_the_gradient_of_the_log_density_before_tanh(self):
        alpha, u = 0.3, tf.constant(normal(4, 3, 2))

        def q(action):
            return tf.reduce_sum(tf.sin(3 * action), axis=-1)

        with tf.GradientTape() as tape:
            tape.watch(u)
            slope = tf.math.log(1 - tf.tanh(u) ** 2)  # d tanh(u) / du
            log_p = q(tf.tanh(u)) / alpha + tf.reduce_sum(slope, axis=-1)
        expected = tape.gradient(log_p, u)
        action = tf.tanh(u)
        with tf.GradientTape() as tape:
            tape.watch(action)
            value = q(action)
        score = sql.score(tape.gradient(value, action), action, alpha)
        self.assertAllClose(score, expected)


class SteinTest(tf.test.TestCase, parameterized.TestCase):
    def test_the_bandwidth_is_the_median_over_log_m(self):
        # Distances 1, 2, 3, 4, 6, 7, squared; the fourth of them is 16.
        particles = constant([0.0, 1.0, 3.0, 7.0])
        squared = (particles[:, tf.newaxis] - particles) ** 2
        h = sql.median_bandwidth(squared[tf.newaxis])
        self.assertAllClose(h, [16 / math.log(4)])

    @parameterized.parameters((2, 1), (5, 3), (8, 2))
    def test_any_shape_is_that_of_the_reference(self, count, size):
        particles, score = normal(2, 6, count, size)
        direction = sql.stein_gradient(constant(particles), constant(score))
        expected = [
            sql_reference.stein_gradient(*each)
            for each in zip(particles, score, strict=True)
        ]
        self.assertAllClose(direction, expected, rtol=1e-4, atol=1e-5)

    @parameterized.named_parameters(*MODES)
    def test_two_particles_by_hand(self, mode):
        # h = 4 / log 2, so that kappa = exp(-log 2) = 1/2 between them.
        particles = constant([[[-1.0], [1.0]]])
        score = constant([[[0.5], [-0.2]]])
        direction = mode(sql.stein_gradient)(particles, score)
        part = 2 * 2 * math.log(2) / 4 * 0.5  # 2 |u - u'| kappa / h
        expected = [[[0.5 * -0.2 - part], [0.5 * 0.5 + part]]]
        self.assertAllClose(direction, expected)

    def widening(self, states, count, size=1, width=1.0):
        """E[Delta u] of particles of this width, where 1 is right."""
        particles = constant(width * normal(states, count, size))
        direction = sql.stein_gradient(particles, -particles)
        return tf.reduce_mean(direction * particles) / width**2

    @parameterized.parameters((40_000, 8), (40_000, 16), (20_000, 32))
    def test_it_is_nearly_0_on_average_where_particles_are_right(
        self, states, count
    ):
        """Stein's identity; a particle beside itself would add -1/M."""
        # The bandwidth is of the same particles: -0.005, -0.006 and -0.004.
        widening = self.widening(states, count)
        self.assertAllClose(widening, 0.0, rtol=0, atol=0.009)

    @parameterized.parameters(
        (60_000, 8, 1), (40_000, 16, 1), (20_000, 32, 1), (40_000, 8, 2)
    )
    def test_the_width_at_rest_is_right_to_3_percent(self, states, count, size):
        self.assertGreater(self.widening(states, count, size, width=0.97), 0)
        self.assertLess(self.widening(states, count, size, width=1.03), 0)

    def test_fewer_than_8_particles_rest_too_far_apart(self):
        """Why `SQLConfig` refuses them: by 13% with 4, by 75% with 2."""
        self.assertGreater(self.widening(40_000, 4, width=1.1), 0)
        self.assertGreater(self.widening(40_000, 2, width=1.7), 0)

    def test_a_sampler_that_follows_it_finds_the_density(self):
        mean, std = 2.0, 0.5
        sampler = np.array([0.0, 1.0])  # particles are its mean + std * noise
        rng = np.random.default_rng(0)
        for i in range(400):
            noise = rng.normal(size=(64, 16, 1))
            particles = constant(sampler[0] + sampler[1] * noise)
            score = (mean - particles) / std**2
            step = sql.stein_gradient(particles, score).numpy()
            sampler += [np.mean(step), np.mean(step * noise)] / np.sqrt(1 + i)
        self.assertAllClose(sampler, [mean, std], rtol=0.03)

    def test_particles_in_one_place_stay_finite(self):
        direction = sql.stein_gradient(tf.ones([1, 4, 2]), tf.ones([1, 4, 2]))
        self.assertAllClose(direction, tf.ones([1, 4, 2]))

    def test_the_loss_moves_particles_along_it_alone(self):
        particles, direction = constant(normal(2, 3, 4, 1))
        with tf.GradientTape() as tape:
            tape.watch([particles, direction])
            loss = sql.sampler_loss(particles, direction)
        gradients = tape.gradient(loss, [particles, direction])
        self.assertAllClose(gradients[0], -direction / 12)
        self.assertIsNone(gradients[1])

    def test_a_wrong_shape_is_refused_at_trace_time(self):
        with self.assertRaisesRegex(ValueError, r"\[B, M, A\]"):
            tf.function(sql.stein_gradient).get_concrete_function(
                tf.zeros([2, 3, 1]), tf.zeros([2, 3])
            )


if __name__ == "__main__":
    tf.test.main()
