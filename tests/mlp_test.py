"""Dense layers by the kernels, against float64 sums of the definitions."""

import os
import subprocess
import sys
from unittest import mock

import hypothesis
import hypothesis.strategies as st
import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from modes import MODES

from tfsac import mlp, ops
from tfsac.networks import Actor, Critic

INVALID = tf.errors.InvalidArgumentError
INSTRUCTION_SETS = ("amx", "avx512", "avx2", "portable")


class Problem:
    """N stacks with random weights and inputs, and their float64 reference."""

    def __init__(self, members, batch, inputs, widths, activation="relu"):
        rng = np.random.default_rng(sum([members, batch, *inputs, *widths]))

        def draw(*shape, scale=1.0):
            return rng.normal(0, scale, shape).astype(np.float32)

        self.activation = activation
        self.inputs = [draw(batch, width) for width in inputs]
        ins = [sum(inputs), *widths[:-1]]
        self.kernels = [
            draw(members, i, o, scale=i**-0.5)
            for i, o in zip(ins, widths, strict=True)
        ]
        self.biases = [draw(members, o, scale=0.1) for o in widths]
        self.output_gradient = draw(members, batch, widths[-1])
        self._silence_rows_near_zero()

    def _silence_rows_near_zero(self):
        """Where rounding decides whether a ReLU is open, nothing compares."""
        if self.activation == "relu":
            for z in self._forward()[0][:-1]:
                near = (np.abs(z) < 1e-5).any(axis=-1)
                self.output_gradient[near] = 0

    def arrays(self):
        return [*self.inputs, *self.kernels, *self.biases]

    def run(self, *arrays):
        """The op on tensors in the order of `arrays`."""
        m, n = len(self.inputs), len(self.kernels)
        return mlp.dense_stack(
            arrays[:m], arrays[m : m + n], arrays[m + n :], self.activation
        )

    def gradients(self, watched):
        """A function of `arrays` to the gradients of those watched."""

        def run(*arrays):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch([arrays[i] for i in watched])
                outputs = self.run(*arrays)
            return tape.gradient(
                outputs,
                [arrays[i] for i in watched],
                tf.constant(self.output_gradient),
            )

        return run

    def _forward(self):
        """Each layer's sums before the activation, and what goes into it."""
        h = np.concatenate(self.inputs, axis=1).astype(np.float64)
        h = np.broadcast_to(h, (len(self.kernels[0]), *h.shape))
        sums, entering = [], []
        for kernel, bias in zip(self.kernels, self.biases, strict=True):
            entering.append(h)
            sums.append(h @ kernel.astype(np.float64) + bias[:, np.newaxis])
            relu = self.activation == "relu"
            h = np.maximum(sums[-1], 0) if relu else np.tanh(sums[-1])
        return sums, entering

    def reference(self):
        """The outputs, and the gradients of all arrays in their order."""
        sums, entering = self._forward()
        delta = self.output_gradient.astype(np.float64)
        kernels, biases = [], []
        for i in reversed(range(len(self.kernels))):
            kernels.insert(0, entering[i].transpose(0, 2, 1) @ delta)
            biases.insert(0, delta.sum(axis=1))
            delta = delta @ self.kernels[i].astype(np.float64).transpose(
                0, 2, 1
            )
            if i > 0 and self.activation == "relu":
                delta = delta * (sums[i - 1] > 0)
            elif i > 0:
                delta = delta * (1 - np.tanh(sums[i - 1]) ** 2)
        cuts = np.cumsum([each.shape[1] for each in self.inputs])[:-1]
        inputs = np.split(delta.sum(axis=0), cuts, axis=1)
        return sums[-1], [*inputs, *kernels, *biases]


def error(values, expected):
    """The norm of the difference, relative."""
    scale = np.linalg.norm(expected)
    return np.linalg.norm(values - expected) / (scale if scale > 0 else 1.0)


def joined(arrays):
    """All numbers as one vector: a bias alone may be a sum near zero."""
    return np.concatenate([np.ravel(array) for array in arrays])


class MlpTestCase(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        if not ops.loaded():
            self.skipTest(ops.status())


class DenseStackTest(MlpTestCase):
    @hypothesis.settings(max_examples=40, deadline=None)
    @hypothesis.given(
        members=st.integers(1, 3),
        batch=st.integers(1, 700),
        inputs=st.lists(st.integers(1, 300), min_size=1, max_size=2),
        widths=st.lists(st.integers(1, 600), min_size=1, max_size=3),
        activation=st.sampled_from(["relu", "tanh"]),
    )
    def test_any_shape_is_right(self, **shape):
        problem = Problem(**shape)
        arrays = [tf.constant(array) for array in problem.arrays()]
        outputs, gradients = problem.reference()
        self.assertLess(error(problem.run(*arrays), outputs), 1e-5)
        got = problem.gradients(range(len(arrays)))(*arrays)
        count = len(problem.inputs)
        for some in (slice(count), slice(count, None)):
            self.assertLess(
                error(joined(got[some]), joined(gradients[some])), 1e-5
            )

    @parameterized.named_parameters(*MODES)
    def test_each_gradient_by_itself_is_right(self, mode):
        problem = Problem(2, 65, [17, 6], [33, 20, 1])
        arrays = [tf.constant(array) for array in problem.arrays()]
        outputs, gradients = problem.reference()
        self.assertLess(error(mode(problem.run)(*arrays), outputs), 1e-5)
        for watched in ([0], [1], [0, 1], [2], [4, 7], range(8)):
            got = mode(problem.gradients(watched))(*arrays)
            for i, gradient in zip(watched, got, strict=True):
                self.assertLess(error(gradient, gradients[i]), 1e-5)

    def test_it_serves_in_a_compiled_while_loop(self):
        problem = Problem(1, 8, [5], [16, 3])
        expected = problem.reference()[0]

        @tf.function(jit_compile=True)
        def run(count):
            arrays = [tf.constant(array) for array in problem.arrays()]
            total = tf.zeros(expected.shape)
            for _ in tf.range(count):
                total += problem.run(*arrays)
            return total

        self.assertAllClose(run(tf.constant(3)), 3 * expected, rtol=1e-4)

    def test_rows_without_gradient_get_none(self):
        problem = Problem(2, 200, [7], [24, 24, 1], "tanh")
        better = np.arange(200) % 3 == 0
        problem.output_gradient[0, better] = 0
        problem.output_gradient[1, ~better] = 0
        problem.output_gradient[:, 70:140] = 0
        arrays = [tf.constant(array) for array in problem.arrays()]
        (gradient,) = problem.gradients([0])(*arrays)
        self.assertLess(error(gradient, problem.reference()[1][0]), 1e-5)
        self.assertAllEqual(gradient[70:140], tf.zeros([70, 7]))

    def test_rows_without_gradient_are_not_even_read(self):
        problem = Problem(2, 200, [7], [24, 24, 1], "tanh")
        inputs, *weights = map(tf.constant, problem.arrays())
        outputs = ops.kernels().tfsac_mlp(
            inputs=[inputs],
            kernels=weights[:3],
            biases=weights[3:],
            activation="tanh",
        )
        silent = np.zeros([2, 200, 1], bool)
        silent[0, ::3] = silent[1, 1::3] = silent[:, 64:128] = True

        def gradient(hidden):
            return ops.kernels().tfsac_mlp_gradient(
                inputs=[inputs],
                kernels=weights[:3],
                hidden=hidden,
                output_gradient=np.where(silent, 0, problem.output_gradient),
                activation="tanh",
                wanted_inputs=[True],
                wants_weights=False,
                W=1,
                G=0,
            )[0][0]

        # Whoever computed with it would get NaN.
        poisoned = [np.where(silent, np.nan, each) for each in outputs[:-1]]
        self.assertAllEqual(gradient(poisoned), gradient(outputs[:-1]))

    def test_wrong_shapes_are_refused(self):
        problem = Problem(2, 8, [5], [16, 3])
        arrays = [tf.constant(array) for array in problem.arrays()]
        for i, message in (
            (0, r"kernels\[0\]: expected shape \[2, 4, 16\]"),
            (1, r"biases\[0\]: expected shape \[2, 15\]"),
            (3, r"biases\[0\]: expected shape \[2, 16\]"),
        ):
            wrong = list(arrays)
            wrong[i] = wrong[i][..., :-1]
            with self.assertRaisesRegex(INVALID, message):
                problem.run(*wrong)
            with self.assertRaisesRegex(ValueError, "must be equal"):
                tf.function(problem.run)(*wrong)

    def test_second_derivatives_are_refused(self):
        problem = Problem(1, 8, [5], [16, 3], "tanh")
        arrays = [tf.constant(array) for array in problem.arrays()]
        with self.assertRaisesRegex(NotImplementedError, "tensorflow_only"):
            with tf.GradientTape() as tape:
                tape.watch(arrays[0])
                (gradient,) = problem.gradients([0])(*arrays)
            tape.gradient(gradient, arrays[0])

    @parameterized.parameters(
        {"W": 2}, {"W": 0}, {"G": 5}, {"G": 0}, {"wanted_inputs": [True, False]}
    )
    def test_counts_that_disagree_are_refused(self, **wrong):
        """As the op's user, not TensorFlow, is to blame."""
        problem = Problem(2, 8, [5], [16, 3], "relu")
        x, *rest = problem.arrays()
        given = {
            "inputs": [x],
            "kernels": rest[:2],
            "hidden": [tf.zeros([2, 8, 16])],
            "output_gradient": problem.output_gradient,
            "wanted_inputs": [True],
            "wants_weights": True,
            "W": 1,
            "G": 4,
        }
        call = ops.kernels().tfsac_mlp_gradient
        self.assertLen(call(**given).weight_gradients, 4)
        with self.assertRaisesRegex(
            tf.errors.InvalidArgumentError, "wanted_inputs of M flags"
        ):
            call(**given | wrong)

    def test_each_op_is_documented(self):
        for name in ("tfsac_mlp", "tfsac_mlp_gradient"):
            self.assertGreater(len(getattr(ops.kernels(), name).__doc__), 400)


def kernel_ops(function, *arguments):
    """The names of our ops in the graph of a function."""
    graph = tf.function(function).get_concrete_function(*arguments).graph
    return [op for op in graph.get_operations() if op.type.startswith("Tfsac>")]


class NetworksTest(MlpTestCase):
    """That the Keras networks use the kernels, where they should."""

    @parameterized.parameters("relu", "tanh")
    def test_networks_equal_their_keras_layers(self, activation):
        observation, action = tf.random.normal([9, 5]), tf.random.normal([9, 2])
        for network, inputs in (
            (Actor(2, (20, 17), activation, seed=0), observation),
            (Critic(3, (20, 17), activation, seed=0), (observation, action)),
        ):
            outputs = network(inputs)
            self.assertNotEmpty(kernel_ops(network, inputs))
            with mlp.tensorflow_only():
                self.assertEmpty(kernel_ops(network, inputs))
                self.assertAllClose(network(inputs), outputs, rtol=1e-5)

    def test_an_encoder_in_front_gets_the_right_gradient(self):
        encoder = keras.layers.Dense(6, "tanh")
        actor = Actor(2, (20, 17), seed=0)
        observation = tf.random.normal([9, 5])

        def gradients():
            with tf.GradientTape() as tape:
                mean, log_std = actor(encoder(observation))
                loss = tf.reduce_sum(mean**2 + tf.exp(log_std))
            return tape.gradient(
                loss, [v.value for v in encoder.variables + actor.variables]
            )

        got = gradients()
        with mlp.tensorflow_only():
            self.assertAllClose(got, gradients(), rtol=1e-4, atol=1e-5)

    def test_the_actors_loss_asks_for_gradients_of_actions_alone(self):
        critic = Critic(2, (16, 16))
        observation, action = tf.zeros([4, 5]), tf.zeros([4, 2])
        critic((observation, action))

        def gradient(action):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(action)
                q = tf.reduce_min(critic((observation, action)), axis=0)
            return tape.gradient(q, action)

        _, op = kernel_ops(gradient, action)
        self.assertEqual(op.get_attr("wanted_inputs"), [False, True])
        self.assertFalse(op.get_attr("wants_weights"))

    def test_where_tensorflow_serves(self):
        self.assertTrue(mlp.serves("relu", "float32"))
        self.assertFalse(mlp.serves("gelu", "float32"))
        self.assertFalse(mlp.serves("relu", "bfloat16"))
        self.assertTrue(mlp.serves("relu", "float32", 512))
        self.assertFalse(mlp.serves("relu", "float32", 513))
        with mock.patch.dict(os.environ, TFSAC_KERNELS="off"):
            self.assertFalse(mlp.serves("relu", "float32"))
        with mock.patch.object(mlp, "_has_gpu", lambda: True):
            self.assertFalse(mlp.serves("relu", "float32"))
        critic = Critic(2, (16,), "gelu")
        inputs = tf.zeros([4, 5]), tf.zeros([4, 2])
        self.assertEmpty(kernel_ops(critic, inputs))


RUN = """
import numpy as np
import tensorflow as tf
{before}
from tfsac import mlp
rng = np.random.default_rng(0)
draw = lambda *s: tf.constant(rng.normal(size=s).astype(np.float32) * 0.1)
shapes = [(2, 23, 96), (2, 96, 96), (2, 96, 1)]
kernels = [draw(*shape) for shape in shapes]
biases = [draw(2, shape[2]) for shape in shapes]
x = draw(300, 23)
def run(x):
    with tf.GradientTape() as tape:
        tape.watch([x, *kernels])
        y = mlp.dense_stack([x], kernels, biases, "relu")
    return [y, *tape.gradient(y, [x, *kernels])]
results = tf.function(run, jit_compile=True)(x)
np.savez({path!r}, *[result.numpy() for result in results])
"""


def status_of(instructions):
    """What the kernels say of themselves where these are asked for."""
    program = "from tfsac import ops; print(ops.status())"
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        capture_output=True,
        check=True,
        env={**os.environ, "TFSAC_SIMD": instructions},
        text=True,
    ).stdout


class FreshProcessTest(MlpTestCase):
    def results(self, before="", **environment):
        """What RUN computes in a process of its own."""
        path = os.path.join(self.get_temp_dir(), "results.npz")
        subprocess.run(
            [sys.executable, "-c", RUN.format(before=before, path=path)],
            check=True,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        )
        return list(np.load(path).values())

    def test_results_do_not_depend_on_threads_nor_on_what_came_before(self):
        threads = "tf.config.threading.set_intra_op_parallelism_threads({})"
        first_compile = "tf.function(lambda x: x + 1, jit_compile=True)(1.0)"
        one = self.results(threads.format(1))
        for other in (
            self.results(threads.format(2)),
            self.results(threads.format(5)),
            self.results(first_compile),
        ):
            for a, b in zip(one, other, strict=True):
                self.assertAllEqual(a, b)

    @parameterized.parameters(*INSTRUCTION_SETS)
    def test_each_instruction_set_is_right(self, name):
        """The tests above, by instructions that may not be the fastest."""
        status = status_of(name)
        if "names instructions that are not of this CPU" in status:
            self.skipTest(status)
        self.assertEndsWith(status, f"for {name}\n")
        child = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
            + [__file__, "-k", "any_shape_is_right or by_itself_is_right"],
            capture_output=True,
            env={**os.environ, "TFSAC_SIMD": name},
            text=True,
        )
        self.assertEqual(child.returncode, 0, child.stdout)
        self.assertIn("4 passed", child.stdout)

    def test_instructions_that_are_not_there_are_refused(self):
        self.assertIn("TFSAC_SIMD='sse9' names", status_of("sse9"))


if __name__ == "__main__":
    tf.test.main()
