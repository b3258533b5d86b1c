"""The built-in networks: an ensemble is N networks, and nothing less."""

import keras
import numpy as np
import reference
import tensorflow as tf
from absl.testing import parameterized

from tfsac.layers import EnsembleDense
from tfsac.networks import Actor, Critic


def members(critic):
    """The critic's weights as N lists of (kernel, bias)."""
    layers = [
        (layer.kernel.numpy(), layer.bias.numpy())
        for layer in critic.ensemble_layers
    ]
    return [
        [(kernel[i], bias[i]) for kernel, bias in layers]
        for i in range(critic.num_critics)
    ]


def perturbed(model, *inputs):
    """Builds a model with weights, biases too, that are nowhere zero."""
    model(*inputs)
    rng = np.random.default_rng(0)
    model.set_weights(
        [w + rng.normal(size=w.shape) for w in model.get_weights()]
    )
    return model


class CriticTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(1, 2, 5)
    def test_each_member_is_a_network_of_its_own(self, num_critics):
        rng = np.random.default_rng(1)
        observation = rng.normal(size=(7, 3)).astype(np.float32)
        action = rng.normal(size=(7, 2)).astype(np.float32)
        critic = perturbed(
            Critic(num_critics, hidden_units=(5, 4)), (observation, action)
        )
        q = critic((observation, action))
        x = np.concatenate([observation, action], axis=-1)
        expected = [
            reference.forward(member, x)[-1][:, 0] for member in members(critic)
        ]
        self.assertEqual(q.shape, (num_critics, 7))
        self.assertAllClose(q, np.stack(expected), rtol=1e-5, atol=1e-5)

    def test_the_gradient_of_a_member_reaches_no_other(self):
        critic = Critic(3, hidden_units=(8,))
        inputs = (tf.random.normal([4, 3]), tf.random.normal([4, 2]))
        with tf.GradientTape() as tape:
            q = critic(inputs)[1]
        for gradient in tape.gradient(q, critic.trainable_variables):
            self.assertAllEqual(gradient[0], tf.zeros_like(gradient[0]))
            self.assertAllEqual(gradient[2], tf.zeros_like(gradient[2]))
            self.assertGreater(np.abs(gradient[1]).max(), 0)

    def test_members_begin_different_and_with_glorots_variance(self):
        layer = EnsembleDense(2, 256, seed=0)
        layer.build((None, 64))
        first, second = layer.kernel.numpy()
        self.assertNotAllClose(first, second)
        for kernel in (first, second):
            # The variance is 2 / (in + out) of one member.
            self.assertAllClose(kernel.std(), np.sqrt(2 / 320), rtol=0.02)
        self.assertAllEqual(layer.bias, np.zeros((2, 256)))

    def test_equal_seeds_give_equal_weights(self):
        inputs = (tf.zeros([1, 3]), tf.zeros([1, 2]))
        weights = []
        for seed in (0, 0, 1):
            critic = Critic(2, (8,), seed=seed)
            critic(inputs)
            weights.append(critic.get_weights()[0])
        self.assertAllEqual(weights[0], weights[1])
        self.assertNotAllClose(weights[0], weights[2])


class ActorTest(tf.test.TestCase):
    def test_it_is_a_network_with_two_heads(self):
        observation = np.random.default_rng(1).normal(size=(7, 3))
        actor = perturbed(
            Actor(2, hidden_units=(5, 4)), observation.astype(np.float32)
        )
        weights = [w.astype(np.float64) for w in actor.get_weights()]
        layers = list(zip(weights[::2], weights[1::2], strict=True))
        mean, log_std = actor(observation.astype(np.float32))
        output = reference.forward(layers, observation)[-1]
        self.assertAllClose(mean, output[:, :2], rtol=1e-5, atol=1e-5)
        self.assertAllClose(log_std, output[:, 2:], rtol=1e-5, atol=1e-5)

    def test_bytes_are_taken_as_numbers(self):
        actor = Actor(2, hidden_units=(5,), seed=0)
        rows = np.array([[0, 128, 255]], np.uint8)
        self.assertAllEqual(actor(rows), actor(rows.astype(np.float32)))


class SerializationTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        (Actor(2, (5, 4), "tanh", seed=3), np.ones((4, 3))),
        (Critic(3, (5, 4), "elu", seed=3), (np.ones((4, 3)), np.ones((4, 2)))),
    )
    def test_a_model_comes_back_equal(self, model, inputs):
        inputs = keras.tree.map_structure(tf.constant, inputs)
        expected = model(inputs)
        path = f"{self.get_temp_dir()}/model.keras"
        model.save(path)
        loaded = keras.saving.load_model(path)
        self.assertEqual(loaded.get_config(), model.get_config())
        keras.tree.map_structure(self.assertAllEqual, loaded(inputs), expected)


if __name__ == "__main__":
    tf.test.main()
