"""Acting by the C++ kernels, against NumPy and the policy in TensorFlow."""

import pathlib
import threading
from unittest import mock

import counting_env
import keras
import numpy as np
import small_agent
import tensorflow as tf
from absl.testing import parameterized
from gymnasium import spaces
from small_agent import fit

import tfsac
from tfsac import mlp, ops
from tfsac.noise import standard_normal

INVALID = tf.errors.InvalidArgumentError
LOW, HIGH = np.float32([-1, 0, 5]), np.float32([1, 10, 5.5])
BOX = spaces.Box(LOW, HIGH)
ACTIVATIONS = {"relu": lambda x: np.maximum(x, 0), "tanh": np.tanh}


def make(size=17, dtype=np.float32, **config):
    space = spaces.Box(0, 255, (size,), dtype)
    return small_agent.make((space, BOX), random_steps=0, **config)


def observations(agent, batch, seed=0):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(batch, agent.policy.flatten.size)) * 3
    if agent.policy.flatten.dtype == np.uint8:
        rows = np.abs(rows) * 80
    return rows.astype(agent.policy.flatten.dtype)


def reference(agent, rows, noise=None):
    """In float64, from the weights that the agent has now; in [-1, 1]."""
    x = rows.astype(np.float64)
    weights = [w.astype(np.float64) for w in agent.actor.get_weights()]
    *hidden, (kernel, bias) = zip(*[iter(weights)] * 2, strict=True)
    for hidden_kernel, hidden_bias in hidden:
        x = x @ hidden_kernel + hidden_bias
        x = ACTIVATIONS[agent.config.activation](x)
    mean, log_std = np.split(x @ kernel + bias, 2, axis=-1)
    low, high = agent.config.log_std_min, agent.config.log_std_max
    if noise is None:
        return np.tanh(mean)
    return np.tanh(mean + np.exp(np.clip(log_std, low, high)) * noise)


def unit(actions):
    """From the env's units to [-1, 1]."""
    return 2 * (np.float64(actions) - LOW) / (np.float64(HIGH) - LOW) - 1


class KernelPolicyTest(parameterized.TestCase, tf.test.TestCase):
    def setUp(self):
        super().setUp()
        if not ops.loaded():
            self.skipTest(ops.status())

    def assert_acts_as(self, actions, expected):
        """To 1e-5 times half the range."""
        self.assertEqual(actions.dtype, np.float32)
        self.assertAllInSet(actions >= LOW, [True])
        self.assertAllInSet(actions <= HIGH, [True])
        self.assertAllClose(unit(actions), expected, rtol=0, atol=1e-5)

    @parameterized.product(
        config=(
            dict(hidden_units=(256, 256)),
            dict(hidden_units=(33, 7, 20), activation="tanh"),
            dict(hidden_units=(16,), log_std_min=-0.5, log_std_max=0.1),
            dict(hidden_units=(16,), size=1),
        ),
        batch=(0, 1, 2, 65, 300),
    )
    def test_actions_are_those_of_numpy_and_tensorflow(self, batch, config):
        agent = make(**config)
        rows = observations(agent, batch)
        actions = agent.predict(rows)
        self.assert_acts_as(actions, reference(agent, rows))
        self.assert_acts_as(actions, unit(agent.policy.deterministic(rows)))
        seed = (3, 2**40)
        actions = agent.policy.act(rows, seed)
        noise = standard_normal((batch, 3), tf.constant(seed, tf.int64))
        self.assert_acts_as(actions, reference(agent, rows, noise.numpy()))
        self.assert_acts_as(
            actions, unit(agent.policy.seeded(rows, list(seed))[0])
        )

    def test_bytes(self):
        agent = make(dtype=np.uint8)
        rows = observations(agent, 5)
        self.assertGreater(rows.max(), 127)
        self.assert_acts_as(agent.predict(rows), reference(agent, rows))

    def test_rows_in_any_order_in_memory(self):
        agent = make()
        rows = observations(agent, 9)
        expected = agent.policy.act(rows)
        for same in (np.asfortranarray(rows), np.repeat(rows, 2, 0)[::2]):
            self.assertAllEqual(agent.policy.act(same), expected)
        self.assertAllEqual(agent.policy.act(np.float64(rows)), expected)

    def test_exploring_is_the_same_without_kernels(self):
        """So is its noise, from call to call, and after loading."""
        agents = make(), make()
        agents[1].policy.kernels = None
        path = pathlib.Path(self.get_temp_dir()) / "agent"
        for i in range(6):
            rows = observations(agents[0], 2, seed=i)
            actions = [agent.explore(rows) for agent in agents]
            self.assert_acts_as(actions[0], unit(actions[1]))
            if i == 2:
                agents[0].save(path)
                agents = tfsac.load(path), agents[1]

    def test_nan_and_infinity(self):
        agent = make(size=4)
        rows = np.float32(
            [[0, np.inf, 1, -np.inf], [1, np.nan, 0, 0], [1, 3e38, 0, -3e38]]
        )
        for seed in (None, (1, 2)):
            is_nan = np.isnan(agent.policy.act(rows, seed))
            self.assertAllEqual(is_nan, [[False] * 3, [True] * 3, [False] * 3])
        agent.actor.head.bias.assign([np.nan] + [0.0] * 5)
        with self.assertRaisesRegex(ValueError, "diverged"):
            tfsac.env.to_env_actions(BOX, agent.policy.act(rows[:1]), 1)

    def test_wrong_rows(self):
        agent = make(size=4)
        for shape in ((4,), (2, 5), (1, 2, 4)):
            with self.assertRaisesRegex(ValueError, r"shape \[B, 4\]"):
                agent.explore(np.zeros(shape, np.float32))

    def test_who_it_serves(self):
        class Halved(tfsac.Actor):
            def call(self, observation):
                mean, log_std = super().call(observation)
                return mean / 2, log_std

        self.assertIsNotNone(make().policy.kernels)
        self.assertIsNone(make(activation="gelu").policy.kernels)
        with mock.patch.object(ops, "kernels", return_value=None):
            self.assertIsNone(make().policy.kernels)
        with mlp.tensorflow_only():
            self.assertIsNone(make().policy.kernels)
        space = spaces.Box(-1, 1, (4,))
        halved = Halved(3, (16,))
        agent = small_agent.make((space, BOX), models={"actor": halved})
        self.assertIsNone(agent.policy.kernels)
        rows = observations(agent, 3)
        self.assertAllClose(
            np.arctanh(unit(agent.predict(rows))),
            np.arctanh(reference(agent, rows)) / 2,
            atol=1e-5,
        )


class FreshTest(parameterized.TestCase, tf.test.TestCase):
    """It acts with the weights of now, whatever changed them."""

    def setUp(self):
        super().setUp()
        if not ops.loaded():
            self.skipTest(ops.status())
        self.agent = make()
        self.rows = observations(self.agent, 2)
        self.before = self.act()

    def act(self, agent=None):
        """Deterministic actions; explored ones have to agree with NumPy too."""
        agent = agent or self.agent
        place = agent.progress.explored + 1
        seed = tf.constant([agent._seeds.acting, place], tf.int64)
        noise = standard_normal((2, 3), seed).numpy()
        expected = reference(agent, self.rows, noise)
        actual = unit(agent.explore(self.rows))
        self.assertAllClose(actual, expected, rtol=0, atol=1e-5)
        actual = unit(agent.predict(self.rows))
        expected = reference(agent, self.rows)
        self.assertAllClose(actual, expected, rtol=0, atol=1e-5)
        return actual

    def assert_changed(self):
        self.assertGreater(np.abs(self.act() - self.before).max(), 1e-3)

    def test_set_weights(self):
        weights = [w + 0.1 for w in self.agent.actor.get_weights()]
        self.agent.actor.set_weights(weights)
        self.assert_changed()

    def test_load_weights(self):
        path = pathlib.Path(self.get_temp_dir()) / "x.weights.h5"
        other = make()
        other.actor.set_weights([w + 0.1 for w in other.actor.get_weights()])
        other.save_weights(path)
        self.agent.load_weights(path)
        self.assert_changed()
        self.assertAllEqual(self.act(), self.act(other))

    @parameterized.parameters(*range(4))
    def test_assign(self, i):
        variable = self.agent.actor.trainable_variables[i]
        variable.assign(variable + 0.1)
        self.assert_changed()
        variable.value.assign_sub(tf.fill(variable.shape, 0.1))
        self.assertAllClose(self.act(), self.before, atol=1e-5)

    def test_an_update(self):
        for jit_compile in (False, True):
            self.agent.compile(jit_compile=jit_compile)
            self.agent.replay.insert(small_agent.transitions(self.agent, 20))
            self.before = self.act()
            self.agent.update(updates=3)
            self.assert_changed()

    def test_early_stopping_restores(self):
        agent = small_agent.make(counting_env.ID, random_steps=0)
        rows = np.ones((3, 5), np.float32)
        seen = []
        stop = keras.callbacks.EarlyStopping(
            "val_episode_return", mode="max", restore_best_weights=True
        )
        see = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda *_: seen.append(agent.predict(rows))
        )
        with small_agent.validating(2, 1):
            fit(agent, epochs=2, callbacks=[see, stop], validation_episodes=1)
        self.assertNotAllClose(seen[0], seen[1], atol=1e-4)
        self.assertAllEqual(agent.predict(rows), seen[0])

    def test_assigning_on_another_thread(self):
        """An action is of the one value or of the other, never of both."""
        variable = self.agent.actor.head.kernel
        values = [variable.numpy(), variable.numpy() + 0.5]
        expected = []
        for value in values:
            variable.assign(value)
            expected.append(self.agent.predict(self.rows))
        over = threading.Event()

        def assign():
            for i in range(2_000):
                variable.assign(values[i % 2])
            over.set()

        thread = threading.Thread(target=assign)
        thread.start()
        seen = set()
        while not over.is_set():
            actions = self.agent.predict(self.rows)
            is_one = [(actions == each).all() for each in expected]
            self.assertIn(True, is_one)
            seen.add(is_one.index(True))
        thread.join()
        self.assertEqual(seen, {0, 1})


class PolicyCreateTest(tf.test.TestCase):
    """What the op refuses by itself."""

    def setUp(self):
        super().setUp()
        if not ops.loaded():
            self.skipTest(ops.status())
        shapes = [(4, 8), (8, 6)], [(8,), (6,)]
        self.variables = [
            [tf.Variable(tf.zeros(shape)) for shape in each] for each in shapes
        ]

    def create(self, kernels=None, biases=None, low=LOW, high=HIGH):
        kernels = kernels or self.variables[0]
        biases = biases or self.variables[1]
        return ops.kernels().tfsac_policy_create(
            kernels=[getattr(v, "handle", v) for v in kernels],
            biases=[getattr(v, "handle", v) for v in biases],
            low=low,
            high=high,
            log_std_min=-20.0,
            log_std_max=2.0,
        )

    def test_it_is_documented(self):
        doc = ops.kernels().tfsac_policy_create.__doc__
        self.assertIn("reads the variables at each call", doc)
        self.assertEqual(self.create().address.shape, [])

    def test_it_refuses_weights_that_do_not_fit(self):
        (first, last), (bias, last_bias) = self.variables
        for wrong in (
            dict(kernels=[last, first]),
            dict(kernels=[first, first]),
            dict(biases=[last_bias, bias]),
            dict(biases=[bias, first]),
            dict(low=LOW[:2], high=HIGH[:2]),
            dict(low=LOW[:2]),
        ):
            with self.assertRaisesRegex(INVALID, "expected kernels|must be eq"):
                self.create(**wrong)
        with self.assertRaises(INVALID):
            self.create(low=LOW[0], high=HIGH[0])

    def test_it_refuses_what_is_no_variable(self):
        replay = ops.kernels().tfsac_replay_create(
            capacity=2, observation_size=1, action_size=1
        )
        with self.assertRaises(INVALID):
            self.create(kernels=[replay, self.variables[0][1]])
        stacked = self.variables[0][0].handle[tf.newaxis]
        with self.assertRaises(INVALID):
            self.create(kernels=[stacked, self.variables[0][1]])
        with self.assertRaises(ValueError):
            tf.function(
                lambda: self.create(kernels=[stacked, self.variables[0][1]])
            )()
        with self.assertRaises(ValueError):
            tf.function(lambda: self.create(low=LOW[0]))()

    def test_a_variable_of_another_shape_is_seen_when_acting(self):
        policy = tfsac.SAC((spaces.Box(-1, 1, (4,)), BOX)).policy
        loose = tf.Variable(tf.zeros([6]), shape=tf.TensorShape(None))
        _, (bias, _) = self.variables
        created = self.create(biases=[bias, loose])
        policy.kernels._address = int(created.address)
        self.assertAllEqual(policy.act(np.zeros((1, 4)))[0], (LOW + HIGH) / 2)
        loose.assign(tf.zeros([5]))
        with self.assertRaisesRegex(RuntimeError, "another shape"):
            policy.act(np.zeros((1, 4)))


if __name__ == "__main__":
    tf.test.main()
