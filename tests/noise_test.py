"""Noise: the same everywhere, and of its distribution."""

from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from modes import MODES

from tfsac.noise import NoiseStream, Seeds, gumbel, standard_normal

SEED = tf.constant([3, 4], tf.int64)


class StandardNormalTest(tf.test.TestCase, parameterized.TestCase):
    def test_eager_graph_and_xla_agree(self):
        shape = (1000, 301)
        eager, graph, xla = (
            mode(lambda: standard_normal(shape, SEED))() for _, mode in MODES
        )
        self.assertAllClose(eager, graph, rtol=0, atol=1e-6)
        self.assertAllClose(eager, xla, rtol=0, atol=1e-6)

    def test_golden(self):
        """Recorded once: results of old seeds must not change."""
        noise = standard_normal((5,), SEED)
        self.assertAllClose(noise, GOLDEN, rtol=0, atol=1e-6)

    def test_it_is_the_box_muller_transform_of_the_bits(self):
        bits = tf.random.stateless_uniform(
            [2, 50],
            SEED,
            minval=None,
            maxval=None,
            dtype=tf.uint32,
            alg="philox",
        )
        words = (bits.numpy() >> 8).astype(np.float64)
        u, v = (words[0] + 1) / 2**24, words[1] / 2**24 - 0.5
        radius, angle = np.sqrt(-2 * np.log(u)), 2 * np.pi * v
        expected = np.concatenate(
            [radius * np.cos(angle), radius * np.sin(angle)]
        )
        noise = standard_normal((99,), SEED)
        self.assertAllClose(noise, expected[:99], rtol=0, atol=2e-6)

    def test_moments(self):
        noise = standard_normal((1_000_001,), SEED).numpy().astype(np.float64)
        # Five standard errors of the first four moments.
        self.assertAllClose(noise.mean(), 0, atol=0.005)
        self.assertAllClose(noise.var(), 1, atol=0.0071)
        self.assertAllClose((noise**3).mean(), 0, atol=0.02)
        self.assertAllClose((noise**4).mean(), 3, atol=0.05)
        self.assertTrue(np.isfinite(noise).all())

    @parameterized.parameters((0,), (1,), (7,), (2, 3), (4, 0, 2))
    def test_any_shape(self, *shape):
        self.assertEqual(standard_normal(shape, SEED).shape, shape)
        dynamic = tf.function(standard_normal)(tf.constant(shape), SEED)
        self.assertAllEqual(dynamic, standard_normal(shape, SEED))


class GumbelTest(tf.test.TestCase, parameterized.TestCase):
    def test_eager_graph_and_xla_agree(self):
        shape = (1000, 301)
        eager, graph, xla = (
            mode(lambda: gumbel(shape, SEED))() for _, mode in MODES
        )
        self.assertAllClose(eager, graph, rtol=0, atol=1e-5)
        self.assertAllClose(eager, xla, rtol=0, atol=1e-5)

    def test_golden(self):
        noise = gumbel((5,), SEED)
        self.assertAllClose(noise, GOLDEN_GUMBEL, rtol=0, atol=1e-5)

    def test_its_distribution(self):
        noise = np.sort(gumbel((100_000,), SEED))
        self.assertTrue(np.isfinite(noise).all())
        cdf = np.exp(-np.exp(-noise.astype(np.float64)))
        ranks = (np.arange(len(noise)) + 0.5) / len(noise)
        # The Kolmogorov-Smirnov distance, exceeded once in 10,000 seeds.
        self.assertLess(np.abs(cdf - ranks).max() * len(noise) ** 0.5, 2.23)

    def test_words_of_ones_or_zeros_are_finite(self):
        for word in (0, 2**32 - 1):
            bits = tf.constant([word], tf.uint32)
            with mock.patch.object(
                tf.random, "stateless_uniform", return_value=bits
            ):
                noise = gumbel((1,), SEED)
            self.assertTrue(np.isfinite(noise).all())


class NoiseStreamTest(tf.test.TestCase):
    def test_a_compiled_function_draws_anew_in_each_call(self):
        stream = NoiseStream(seed=5)
        draw = tf.function(lambda: stream.draw((8,)), jit_compile=True)
        first, second = draw(), draw()
        self.assertNotAllClose(first, second)
        self.assertEqual(draw.experimental_get_tracing_count(), 1)

    def test_the_counter_is_all_its_state(self):
        stream = NoiseStream(seed=5)
        stream.draw((8,))
        place = stream.counter.numpy()
        second = stream.draw((8,))
        stream.counter.assign(place)
        self.assertAllEqual(stream.draw((8,)), second)
        self.assertNotAllClose(NoiseStream(seed=6).draw((8,)), second)

    def test_global_random_state_is_neither_used_nor_changed(self):
        tf.random.set_seed(1)
        first = NoiseStream(seed=5).draw((8,))
        expected = tf.random.normal([3])
        tf.random.set_seed(1)
        second = NoiseStream(seed=5).draw((8,))
        self.assertAllEqual(first, second)
        self.assertAllEqual(tf.random.normal([3]), expected)


class SeedsTest(tf.test.TestCase):
    def test_they_differ_from_one_another_and_between_agents(self):
        seeds = [*Seeds.derive(0), *Seeds.derive(1)]
        self.assertLen(set(seeds), 2 * len(Seeds._fields))
        self.assertTrue(all(0 <= seed < 2**63 for seed in seeds))


GOLDEN = (-0.03310244, 0.3428228, -0.3468783, -1.064948, 0.4715367)
GOLDEN_GUMBEL = (0.5663295, 1.772326, 0.9384112, -0.340944, 0.8419685)


if __name__ == "__main__":
    tf.test.main()
