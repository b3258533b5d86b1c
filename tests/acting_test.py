"""The policy at work, against densities written down in NumPy."""

import numpy as np
import small_agent
import tensorflow as tf
from absl.testing import parameterized
from gymnasium import spaces
from small_agent import ConstantActor

from tfsac.noise import standard_normal

LOW, HIGH = np.float32([-1, 0, 5]), np.float32([1, 10, 5.5])
BOX = spaces.Box(LOW, HIGH)
# Rounding carries actions out of this one, if nothing stops them.
ROUGH_BOX = spaces.Box(np.float32([-1.9]), np.float32([0.5]))
ROWS = spaces.Box(-np.inf, np.inf, (4,))


def scale(unit, low=LOW, high=HIGH):
    return low + (high.astype(np.float64) - low) * (unit + 1) / 2


def density(mean, log_std, action, low, high):
    """Log density of a squashed Gaussian at an action strictly inside."""
    unit = 2 * (np.float64(action) - low) / (np.float64(high) - low) - 1
    z = (np.arctanh(unit) - mean) / np.exp(log_std)
    normal = -0.5 * (z**2 + np.log(2 * np.pi)) - log_std
    jacobian = np.log1p(-(unit**2)) + np.log((np.float64(high) - low) / 2)
    return (normal - jacobian).sum(-1)


def network(actor, rows):
    """What a built-in actor computes."""
    x = np.asarray(rows, np.float64)
    *hidden, (kernel, bias) = zip(*[iter(actor.get_weights())] * 2, strict=True)
    for hidden_kernel, hidden_bias in hidden:
        x = np.maximum(x @ hidden_kernel + hidden_bias, 0)
    return np.split(x @ kernel + bias, 2, axis=-1)


class PredictTest(parameterized.TestCase, tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.agent = small_agent.make((ROWS, BOX))
        cls.rows = np.random.default_rng(0).normal(size=(7, 4)) * 3

    def test_deterministic_is_tanh_of_the_mean_in_env_units(self):
        mean, _ = network(self.agent.actor, self.rows)
        actions = self.agent.predict(self.rows.astype(np.float32))
        self.assertIsInstance(actions, np.ndarray)
        self.assertEqual(actions.dtype, np.float32)
        expected = scale(np.tanh(mean))
        half_range = (HIGH - LOW) / 2
        self.assertAllInRange((actions - expected) / half_range, -1e-5, 1e-5)
        self.assertAllClose(actions, self.agent(self.rows), rtol=1e-6)

    def test_one_or_a_batch(self):
        batch = self.agent.predict(self.rows)
        self.assertEqual(batch.shape, (7, 3))
        one = self.agent.predict(self.rows[2])
        self.assertEqual(one.shape, (3,))
        self.assertAllClose(one, batch[2], rtol=1e-6)
        self.assertAllEqual(self.agent.predict(self.rows.tolist()), batch)
        self.assertEqual(self.agent.predict(self.rows[:0]).shape, (0, 3))

    def test_extreme_observations(self):
        for box in (BOX, ROUGH_BOX):
            agent = small_agent.make((ROWS, box))
            for value in (1e30, -1e30, 3e38, np.inf, -np.inf):
                rows = np.full((9, 4), value, np.float32)
                rows[1] = [0, value, 1, -value]
                rows[2] = [-value, 0, value, value]
                for deterministic in (True, False):
                    actions = agent.predict(rows, deterministic)
                    self.assertTrue(np.isfinite(actions).all())
                    self.assertAllInSet(actions >= box.low, [True])
                    self.assertAllInSet(actions <= box.high, [True])

    def test_nan_has_no_answer(self):
        rows = self.rows.copy()
        rows[1, 2] = np.nan
        for function in (
            self.agent.predict,
            self.agent.policy,
            lambda rows: self.agent.log_prob(rows, scale(0 * rows[:, :3])),
        ):
            with self.assertRaisesRegex(ValueError, "(?s)without NaN.*nan"):
                function(rows)

    @parameterized.parameters(((5,),), ((2, 3),), ((1, 2, 4),))
    def test_wrong_shape(self, shape):
        with self.assertRaisesRegex(ValueError, r"shape \(4,\).*Received: sha"):
            self.agent.predict(np.zeros(shape))

    def test_sampled_actions_are_reproducible_and_random(self):
        agents = [small_agent.make((ROWS, BOX), seed=s) for s in (1, 1, 2)]
        rows = np.zeros((50, 4))
        first, again, other = (
            [agent.predict(rows, deterministic=False) for _ in range(2)]
            for agent in agents
        )
        self.assertAllEqual(first, again)
        self.assertNotAllEqual(first[0], first[1])
        self.assertNotAllEqual(first[0], other[0])
        # No two rows of a batch share their noise.
        self.assertLen(np.unique(first[0][:, 0]), 50)

    def test_a_traced_sample_has_noise_of_its_own_in_each_row(self):
        """As one that is not traced: TensorFlow must not mistake B for 1."""
        seed = tf.constant([5, 6], tf.int64)
        rows = tf.constant(self.rows, tf.float32)
        traced, _ = self.agent.policy.seeded(rows, seed)
        expected, _ = self.agent.policy.sample(
            rows, standard_normal((7, 3), seed)
        )
        self.assertAllClose(traced, expected, atol=1e-5)

    def test_sampled_actions_have_the_distribution(self):
        mean, log_std = np.float32([0.5, -1, 0]), np.float32([-1, 0, 0.5])
        agent = small_agent.make(
            (ROWS, BOX), models={"actor": ConstantActor(mean, log_std)}
        )
        actions = agent.predict(np.zeros((20_000, 4)), deterministic=False)
        unit = 2 * (np.float64(actions) - LOW) / (HIGH - LOW) - 1
        z = (np.arctanh(np.clip(unit, -1, 1)) - mean) / np.exp(log_std)
        self.assertAllClose(np.corrcoef(z.T), np.eye(3), atol=0.03)
        z.sort(axis=0)
        normal = (1 + tf.math.erf(z / np.sqrt(2)).numpy()) / 2
        uniform = (np.arange(len(z)) + 0.5)[:, np.newaxis] / len(z)
        # Kolmogorov and Smirnov: 1.95 / sqrt(n) is exceeded once in 1,000.
        self.assertAllLess(np.abs(normal - uniform), 1.95 / len(z) ** 0.5)

    def test_dict_observations(self):
        space = spaces.Dict(
            angle=spaces.Box(-1, 1, (2,)), gear=spaces.Discrete(2)
        )
        agent = small_agent.make((space, BOX))
        agent.actor.set_weights(self.agent.actor.get_weights())
        one = {"angle": np.float32([0.5, -0.5]), "gear": 1}
        rows = [[0.5, -0.5, 0, 1], [0, 1, 1, 0]]
        batch = {
            "angle": np.float32([[0.5, -0.5], [0, 1]]),
            "gear": np.array([1, 0]),
        }
        expected = self.agent.predict(np.float32(rows))
        self.assertAllClose(agent.predict(batch), expected)
        self.assertAllClose(agent.predict(one), expected[0])
        with self.assertRaisesRegex(ValueError, "gear"):
            agent.predict({"angle": one["angle"]})


class PolicyTest(tf.test.TestCase):
    def test_distribution_over_scaled_actions(self):
        agent = small_agent.make((ROWS, BOX))
        rows = np.random.default_rng(0).normal(size=(5, 4))
        policy = agent.policy(rows)
        self.assertEqual(policy.batch_shape, [5])
        self.assertEqual(policy.event_shape, [3])
        samples = policy.sample(100, seed=1)
        self.assertAllInRange(samples, -1, 1)
        mean, log_std = network(agent.actor, rows)
        unit = np.tanh(mean + 0.3)
        expected = density(mean, log_std, unit, -np.ones(3), np.ones(3))
        self.assertAllClose(
            policy.log_prob(tf.cast(unit, tf.float32)), expected, rtol=1e-4
        )
        self.assertEqual(agent.policy(rows[0]).batch_shape, [])

    def test_log_std_is_bounded(self):
        for log_std, bound in (([9.0], 2.0), ([-9.0], -3.0)):
            agent = small_agent.make(
                (ROWS, spaces.Box(-1, 1, (1,))),
                models={"actor": ConstantActor([0.0], log_std)},
                log_std_min=-3.0,
            )
            expected = density(0, bound, np.tanh([0.1]), -1, 1)
            actual = agent.log_prob(np.zeros(4), np.tanh([0.1]))
            self.assertAllClose(actual, expected)


class LogProbTest(parameterized.TestCase, tf.test.TestCase):
    def test_equals_the_density(self):
        agent = small_agent.make((ROWS, BOX))
        rng = np.random.default_rng(0)
        rows = rng.normal(size=(100, 4))
        mean, log_std = network(agent.actor, rows.astype(np.float32))
        actions = scale(np.tanh(rng.normal(size=(100, 3)) * 1.5))
        actual = agent.log_prob(rows, actions)
        self.assertEqual(actual.dtype, np.float64)
        expected = density(mean, log_std, actions, LOW, HIGH)
        self.assertAllClose(actual, expected, rtol=1e-5, atol=1e-4)
        one = agent.log_prob(rows[3], actions[3])
        self.assertEqual(one.shape, ())
        self.assertAllClose(one, expected[3], rtol=1e-5, atol=1e-4)

    @parameterized.product(
        parameters=[(0.0, 0.0), (0.7, -1.0), (-2.0, -2.0), (0.0, 1.0)],
        bounds=[(-1, 1), (0, 10), (5, 5.5)],
    )
    def test_integrates_to_one(self, parameters, bounds):
        mean, log_std = parameters
        actor = ConstantActor([mean], [log_std])
        space = spaces.Box(*np.float32(bounds), (1,))
        agent = small_agent.make((ROWS, space), models={"actor": actor})
        # Gauss-Legendre in z, of which 1e-10 lies beyond 6.5.
        nodes, weights = np.polynomial.legendre.leggauss(200)
        z = 6.5 * nodes
        unit = np.tanh(mean + np.exp(log_std) * z)
        actions = scale(unit, *np.float32(bounds))[:, np.newaxis]
        jacobian = (bounds[1] - bounds[0]) / 2 * (1 - unit**2) * np.exp(log_std)
        probability = np.exp(agent.log_prob(np.zeros((200, 4)), actions))
        total = (6.5 * weights * probability * jacobian).sum()
        self.assertAllClose(total, 1, atol=2e-3)

    def test_at_the_bounds_and_outside(self):
        agent = small_agent.make((ROWS, BOX))
        rows = np.zeros(4)
        middle = (LOW + HIGH) / 2
        for i in range(3):
            for bound, outwards in ((LOW, -np.inf), (HIGH, np.inf)):
                action = middle.copy()
                action[i] = bound[i]
                at_bound = agent.log_prob(rows, action)
                self.assertTrue(np.isfinite(at_bound))
                # The action 2**-24 of the half range inside is scored.
                inside = action.astype(np.float64)
                inside[i] -= np.sign(outwards) * (HIGH - LOW)[i] / 2**25
                self.assertAllClose(agent.log_prob(rows, inside), at_bound)
                action[i] = np.nextafter(bound[i], np.float32(outwards))
                self.assertEqual(agent.log_prob(rows, action), -np.inf)
        mixed = np.stack([middle, HIGH + 1])
        self.assertAllEqual(
            np.isfinite(agent.log_prob(np.zeros((2, 4)), mixed)), [True, False]
        )

    def test_whatever_is_predicted_can_be_scored(self):
        for box, value in ((BOX, 0), (BOX, 1e30), (ROUGH_BOX, 1e30)):
            agent = small_agent.make((ROWS, box))
            rows = np.full((50, 4), value)
            for deterministic in (True, False):
                actions = agent.predict(rows, deterministic)
                log_prob = agent.log_prob(rows, actions)
                self.assertTrue(np.isfinite(log_prob).all())

    @parameterized.parameters(
        ((4,), (2,)), ((4,), (1, 3)), ((5, 4), (3,)), ((5, 4), (4, 3))
    )
    def test_shapes_have_to_fit(self, rows, actions):
        agent = small_agent.make((ROWS, BOX))
        with self.assertRaisesRegex(
            ValueError, r"one for each observation. Received: shape"
        ):
            agent.log_prob(np.zeros(rows), np.ones(actions))


if __name__ == "__main__":
    tf.test.main()
