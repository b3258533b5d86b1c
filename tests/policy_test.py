"""The squashed Gaussian, against a float64 reference and quadrature."""

import numpy as np
import reference
import tensorflow as tf
from absl.testing import parameterized
from modes import MODES

from tfsac import policy


def grid():
    """Means to +-20, scales from e^-20 to e^2, noise to +-4: `[n, 1]` each."""
    mean = np.concatenate([np.linspace(-20, 20, 41), [-8.1, 1e-3, 1e-6]])
    log_std = np.linspace(-20, 2, 23)
    eps = np.linspace(-4, 4, 17)
    points = np.meshgrid(mean, log_std, eps, indexing="ij")
    return [p.reshape(-1, 1).astype(np.float32) for p in points]


def truth(mean, log_std, eps):
    """Log-probability and its gradients by mean and log_std, in float64."""
    mean, log_std, eps = (x.astype(np.float64) for x in (mean, log_std, eps))
    u = mean + np.exp(log_std) * eps
    log_prob = reference.log_prob(log_std, eps, u)
    by_mean = 2 * np.tanh(u)
    by_log_std = 2 * np.tanh(u) * np.exp(log_std) * eps - 1
    return np.tanh(u), log_prob, by_mean, by_log_std


class SampleTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.named_parameters(*MODES)
    def test_action_and_log_prob_are_exact(self, mode):
        inputs = grid()
        expected_action, expected, *_ = truth(*inputs)
        action, log_prob = mode(policy.sample)(*map(tf.constant, inputs))
        self.assertAllClose(action, expected_action, rtol=0, atol=2e-6)
        error = np.abs(log_prob - expected)
        tolerance = np.maximum(1e-4, 1e-6 * np.abs(expected))
        self.assertAllLessEqual(error / tolerance, 1.0)

    @parameterized.named_parameters(*MODES)
    def test_gradients_are_exact(self, mode):
        inputs = grid()
        *_, by_mean, by_log_std = truth(*inputs)

        def gradients(mean, log_std, eps):
            with tf.GradientTape() as tape:
                tape.watch([mean, log_std])
                _, log_prob = policy.sample(mean, log_std, eps)
            return tape.gradient(log_prob, [mean, log_std])

        got = mode(gradients)(*map(tf.constant, inputs))
        for gradient, expected in zip(got, (by_mean, by_log_std), strict=True):
            self.assertTrue(np.isfinite(gradient).all())
            # Relative to at least 1e-2: where a gradient passes through zero
            # it is a difference of numbers of the order of 1.
            scale = np.maximum(np.abs(expected), 1e-2)
            error = np.abs(gradient - expected) / scale
            self.assertAllLessEqual(error, 1e-4)

    def test_log_prob_is_that_of_the_tfp_distribution(self):
        rng = np.random.default_rng(0)
        mean, log_std, eps = rng.normal(size=(3, 50, 4)) * 0.5
        action, log_prob = policy.sample(mean, log_std, eps)
        distribution = policy.squashed_gaussian(mean, log_std)
        self.assertAllClose(
            distribution.log_prob(tf.identity(action)), log_prob
        )

    def test_the_density_integrates_to_one(self):
        for mean, log_std in ((0.0, 0.0), (1.0, -1.0), (-0.5, 0.7)):
            distribution = policy.squashed_gaussian(
                tf.constant([[mean]], tf.float64),
                tf.constant([[log_std]], tf.float64),
            )
            # Over a = tanh(u), so that the grid is fine near the bounds.
            u = np.linspace(-14, 14, 20_001)
            density = np.exp(distribution.log_prob(np.tanh(u)[:, None]))
            integral = np.trapezoid(density / np.cosh(u) ** 2, u)
            self.assertAllClose(integral, 1, atol=1e-5)

    def test_shapes(self):
        distribution = policy.squashed_gaussian(
            tf.zeros([7, 3]), tf.zeros([7, 3])
        )
        self.assertEqual(distribution.batch_shape, [7])
        self.assertEqual(distribution.event_shape, [3])
        action, log_prob = policy.sample(*[tf.zeros([7, 3])] * 3)
        self.assertEqual((action.shape, log_prob.shape), ([7, 3], [7]))

    def test_the_gradient_reaches_mean_and_scale_through_the_action(self):
        mean, log_std = tf.constant([[0.3]]), tf.constant([[-0.5]])
        eps = tf.constant([[1.5]])
        with tf.GradientTape() as tape:
            tape.watch([mean, log_std])
            action, _ = policy.sample(mean, log_std, eps)
        by_mean, by_log_std = tape.gradient(action, [mean, log_std])
        slope = 1 - np.tanh(0.3 + np.exp(-0.5) * 1.5) ** 2
        self.assertAllClose(by_mean, [[slope]])
        self.assertAllClose(by_log_std, [[slope * np.exp(-0.5) * 1.5]])


class BoundedTest(tf.test.TestCase):
    def test_ordinary_numbers_stay_and_infinity_becomes_finite(self):
        x = tf.constant([[1.5, -3e9, 0.0, 1e30, np.inf, -np.inf]])
        self.assertAllClose(
            policy.bounded(x), [[1.5, -3e9, 0.0, 1e12, 1e12, -1e12]]
        )
        self.assertAllEqual(
            policy.bounded(tf.constant([[255, 0]], tf.uint8)), [[255.0, 0.0]]
        )


class ActionScaleTest(tf.test.TestCase):
    def test_bounds_map_to_bounds_and_back(self):
        scale = policy.ActionScale([-2.0, 0.0], [2.0, 100.0])
        unit = tf.constant([[-1.0, -1.0], [1.0, 1.0], [0.0, 0.5]])
        env = scale.to_env(unit)
        self.assertAllEqual(env, [[-2.0, 0.0], [2.0, 100.0], [0.0, 75.0]])
        self.assertAllClose(scale.from_env(env), unit)

    def test_rounding_never_leaves_the_bounds(self):
        rng = np.random.default_rng(0)
        low = rng.normal(size=1000).astype(np.float32) * 100
        high = low + rng.exponential(size=1000).astype(np.float32) + 0.01
        scale = policy.ActionScale(low, high)
        for unit in (-1.0, 1.0):
            env = scale.to_env(tf.fill([1000], unit)).numpy()
            self.assertTrue(scale.contains(env).all())
            bound = high if unit > 0 else low
            self.assertAllClose(env, bound, rtol=1e-6)

    def test_log_volume_is_the_density_of_the_map(self):
        scale = policy.ActionScale([-2.0, 0.0], [2.0, 100.0])
        self.assertAllClose(scale.log_volume, np.log(2.0) + np.log(50.0))


if __name__ == "__main__":
    tf.test.main()
