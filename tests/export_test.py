"""The SavedModel, as those meet it who have TensorFlow and nothing else."""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
from unittest import mock

import counting_env
import export_contract
import keras
import numpy as np
import saved_model_graph
import small_agent
import tensorflow as tf
import tensorflow_program
import tools
from absl.testing import parameterized
from gymnasium import spaces
from tensorflow_serving.apis import prediction_log_pb2

import tfsac
from tfsac import parity
from tfsac.spaces_json import space_from_dict

TESTS = pathlib.Path(__file__).parent
LOW, HIGH, SPACES = (
    export_contract.LOW,
    export_contract.HIGH,
    export_contract.SPACES,
)

# Without what a server does not have.
FRESH_PROCESS = """
import sys
for name in ("tfsac", "tensorflow_probability", "keras", "tf_keras",
             "gymnasium"):
    sys.modules[name] = None
import numpy as np
import tensorflow as tf
model, folder = sys.argv[1:]
signatures = tf.saved_model.load(model).signatures
rows = tf.constant(np.load(folder + "/rows.npy"))
seed = tf.constant([1, 2], tf.int64)
np.savez(
    folder + "/results.npz",
    acted=signatures["serving_default"](observations=rows)["actions"],
    **signatures["sample"](observations=rows[:50], seed=seed),
)
"""


class ExportTest(parameterized.TestCase, tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.agent = export_contract.agent()
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.path = pathlib.Path(cls.agent.export(cls.folder / "policy"))
        signatures = tf.saved_model.load(str(cls.path)).signatures
        cls.act = signatures["serving_default"]
        cls.sample = signatures["sample"]
        rng = np.random.default_rng(0)
        cls.rows = rng.normal(size=(50, 4)).astype(np.float32) * 3

    def test_signatures(self):
        # By name, type and shape.
        observations = {"observations": tf.TensorSpec([None, 4])}
        seed = {"seed": tf.TensorSpec([2], tf.int64)}
        actions = {"actions": tf.TensorSpec([None, 3])}
        log_prob = {"log_prob": tf.TensorSpec([None])}
        for signature, inputs, outputs in (
            (self.act, observations, actions),
            (self.sample, observations | seed, actions | log_prob),
        ):
            positional, named = signature.structured_input_signature
            self.assertEmpty(positional)
            for received, expected in (
                (named, inputs),
                (signature.structured_outputs, outputs),
            ):
                self.assertEqual(
                    {k: (v.dtype, v.shape.rank) for k, v in received.items()},
                    {k: (v.dtype, v.shape.rank) for k, v in expected.items()},
                )
        self.assertEqual(named["observations"].shape.as_list(), [None, 4])
        self.assertEqual(
            self.act.structured_outputs["actions"].shape.as_list(), [None, 3]
        )

    def test_saved_model_cli(self):
        cli = pathlib.Path(sys.executable).with_name("saved_model_cli")
        output = subprocess.run(
            [cli, "show", "--dir", self.path, "--all"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for signature, inputs, outputs in (
            (
                "serving_default",
                {"observations": ("DT_FLOAT", "(-1, 4)")},
                {"actions": ("DT_FLOAT", "(-1, 3)")},
            ),
            (
                "sample",
                {
                    "observations": ("DT_FLOAT", "(-1, 4)"),
                    "seed": ("DT_INT64", "(2)"),
                },
                {
                    "actions": ("DT_FLOAT", "(-1, 3)"),
                    "log_prob": ("DT_FLOAT", "(-1)"),
                },
            ),
        ):
            _, _, after = output.partition(f"signature_def['{signature}']:")
            self.assertNotEmpty(after)
            part = after.partition("signature_def[")[0]
            for kind, tensors in (("inputs", inputs), ("outputs", outputs)):
                self.assertEqual(part.count(f"{kind}["), len(tensors))
                for name, (dtype, shape) in tensors.items():
                    self.assertIn(
                        f"{kind}['{name}'] tensor_info:\n"
                        f"        dtype: {dtype}\n        shape: {shape}\n",
                        part,
                    )

    def test_graph_is_tensorflow_alone(self):
        nodes, functions, ops = saved_model_graph.read(self.path)
        self.assertContainsSubset(["MatMul", "Tanh"], ops)
        for op in ops:
            self.assertNotRegex(op, "(?i)tfsac|pyfunc|xla|custom")
        for holder in (*nodes, *functions):
            for name, value in holder.attr.items():
                if "xla" in name.lower():
                    self.assertFalse(value.b or value.s or value.i, msg=name)

    def test_equals_predict(self):
        actions = self.act(observations=tf.constant(self.rows))["actions"]
        expected = self.agent.predict(self.rows)
        self.assertLess(export_contract.difference(actions, expected), 1e-5)

    def test_fresh_process_with_tensorflow_alone(self):
        results = {}

        def act(rows):
            np.save(self.folder / "rows.npy", rows)
            subprocess.run(
                [sys.executable, "-c", FRESH_PROCESS, self.path, self.folder],
                check=True,
                capture_output=True,
                cwd=self.folder,
            )
            results.update(np.load(self.folder / "results.npz"))
            return results["acted"]

        export_contract.check(self, self.agent, act)
        seed = tf.constant([1, 2], tf.int64)
        rows = tf.constant(export_contract.ordinary()[:50])
        here = self.sample(observations=rows, seed=seed)
        self.assertAllEqual(results["actions"], here["actions"])
        self.assertAllEqual(results["log_prob"], here["log_prob"])

    @parameterized.parameters(0, 1, 2, 1000)
    def test_any_batch_size(self, size):
        rows = np.resize(self.rows, (size, 4))
        actions = self.act(observations=tf.constant(rows))["actions"]
        self.assertEqual(actions.shape, [size, 3])
        sampled = self.sample(
            observations=tf.constant(rows), seed=tf.constant([0, size], "int64")
        )
        self.assertEqual(sampled["actions"].shape, [size, 3])
        self.assertEqual(sampled["log_prob"].shape, [size])
        if size:
            self.assertLess(
                export_contract.difference(actions, self.agent.predict(rows)),
                1e-5,
            )

    @parameterized.parameters(1e30, -1e30, 3e38, np.inf, -np.inf)
    def test_extreme_observations(self, value):
        rows = self.rows.copy()
        rows[:2], rows[2, 1], rows[3] = value, value, [value, -value, 0, 1]
        seed = tf.constant([0, 1], tf.int64)
        for actions in (
            self.act(observations=tf.constant(rows))["actions"],
            self.sample(observations=tf.constant(rows), seed=seed)["actions"],
        ):
            self.assertTrue(np.isfinite(actions).all())
            self.assertTrue((actions >= LOW).numpy().all())
            self.assertTrue((actions <= HIGH).numpy().all())

    def test_nan_stays_in_its_row(self):
        rows = self.rows.copy()
        rows[3, 2] = np.nan
        others = np.arange(len(rows)) != 3
        actions = self.act(observations=tf.constant(rows))["actions"].numpy()
        self.assertAllEqual(actions[3], [np.nan] * 3)
        expected = self.agent.predict(self.rows)
        self.assertLess(
            export_contract.difference(actions[others], expected[others]), 1e-5
        )
        seed = tf.constant([0, 1], tf.int64)
        result = self.sample(observations=tf.constant(rows), seed=seed)
        is_nan = np.isnan(result["actions"])
        self.assertAllEqual(is_nan.all(axis=1), ~others)
        self.assertAllEqual(is_nan.any(axis=1), ~others)

    def test_sampling(self):
        rows = tf.constant(self.rows)
        results = [
            self.sample(observations=rows, seed=tf.constant(seed, tf.int64))
            for seed in ([1, 2], [1, 2], [1, 3], [2, 2])
        ]
        actions = [result["actions"].numpy() for result in results]
        self.assertAllEqual(actions[0], actions[1])
        self.assertAllEqual(results[0]["log_prob"], results[1]["log_prob"])
        for other in actions[2:]:
            self.assertAllGreater(np.abs(other - actions[0]).max(axis=0), 0)

    def test_log_prob_is_the_density_of_the_returned_action(self):
        rows = np.repeat(self.rows[:20], 50, axis=0)
        result = self.sample(
            observations=tf.constant(rows), seed=tf.constant([7, 7], tf.int64)
        )
        mean, log_std = (
            tf.cast(each, tf.float64).numpy() for each in self.agent.actor(rows)
        )
        log_std = np.minimum(log_std, self.agent.config.log_std_max)
        unit = (result["actions"].numpy() - (HIGH + LOW) / 2.0) * 2
        unit /= HIGH - LOW
        # Where float32 actions still tell the noise.
        well = (np.abs(unit) < 0.99).all(axis=1)
        self.assertGreater(well.sum(), 100)
        z = (np.arctanh(unit[well]) - mean[well]) / np.exp(log_std[well])
        log_prob = -0.5 * (z**2 + np.log(2 * np.pi)) - log_std[well]
        log_prob -= np.log1p(-(unit[well] ** 2)) + np.log((HIGH - LOW) / 2)
        actual = result["log_prob"].numpy()
        self.assertAllClose(actual[well], log_prob.sum(axis=1), atol=1e-3)
        expected = self.agent.log_prob(rows, result["actions"])
        self.assertAllClose(actual[well], expected[well], atol=1e-3)

    def test_cpp(self):
        program = self.folder / "act"
        source = TESTS.parent / "examples" / "cpp" / "act.cc"
        tools.need("g++")
        tensorflow_program.build(source, program)

        def act(rows):
            output = subprocess.run(
                [program, self.path],
                input=" ".join(map(str, rows.ravel())),
                check=True,
                capture_output=True,
                text=True,
            ).stdout
            return np.float32([line.split() for line in output.splitlines()])

        export_contract.check(self, self.agent, act)


class ContentTest(parameterized.TestCase, tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=self.get_temp_dir()))

    def test_versions(self):
        agent = small_agent.make(SPACES)
        base = self.folder / "models" / "policy"
        self.assertEqual(agent.export(base), str(base / "1"))
        self.assertEqual(agent.export(str(base)), str(base / "2"))
        foreign = {"7", "3.old", "latest", ".9.tmp", "010x", "notes.txt"}
        for name in foreign:
            (base / name).mkdir()
        self.assertEqual(agent.export(base), str(base / "8"))
        self.assertEqual(
            {path.name for path in base.iterdir()}, {"1", "2", "8", *foreign}
        )

    def test_nothing_half_written_remains(self):
        agent = small_agent.make(SPACES)
        save = tf.saved_model.save

        def fail(module, path, signatures):
            save(module, path, signatures)
            raise OSError("no space left")

        with (
            mock.patch.object(tf.saved_model, "save", fail),
            self.assertRaisesRegex(OSError, "no space left"),
        ):
            agent.export(self.folder)
        self.assertEmpty(list(self.folder.iterdir()))

    def test_a_server_never_sees_half_a_model(self):
        agent = small_agent.make(SPACES)
        seen = []
        rename = pathlib.Path.rename

        def watch(path, target):
            seen.append(sorted(p.name for p in path.rglob("*") if p.is_file()))
            seen.append([p.name for p in self.folder.iterdir()])
            return rename(path, target)

        with mock.patch.object(pathlib.Path, "rename", watch):
            final = pathlib.Path(agent.export(self.folder))
        [aside] = seen[1]
        self.assertRegex(aside, r"^\..*\.tmp$")  # no number, so not served
        after = sorted(p.name for p in final.rglob("*") if p.is_file())
        self.assertEqual(seen[0], after)
        self.assertIn("tfsac.json", after)

    def test_two_at_once(self):
        """Each writes a version of its own, whole."""
        agent = small_agent.make(SPACES)
        report = parity.report

        def export_meanwhile(*args):
            with mock.patch.object(parity, "report", report):
                agent.export(self.folder)
            return report(*args)

        with mock.patch.object(parity, "report", export_meanwhile):
            self.assertEqual(agent.export(self.folder), str(self.folder / "2"))
        self.assertLen(list(self.folder.iterdir()), 2)
        for path in self.folder.iterdir():
            tf.saved_model.load(str(path))

    def test_a_number_that_is_taken_meanwhile(self):
        agent = small_agent.make(SPACES)
        rename = pathlib.Path.rename

        def late(path, target):
            if target.name == "1":
                shutil.copytree(path, target)
            return rename(path, target)

        with mock.patch.object(pathlib.Path, "rename", late):
            self.assertEqual(agent.export(self.folder), str(self.folder / "2"))
        names = sorted(path.name for path in self.folder.iterdir())
        self.assertEqual(names, ["1", "2"])

    def test_card(self):
        agent = small_agent.make(counting_env.ID, seed=5, discount=0.875)
        small_agent.fit(agent, 9)
        path = pathlib.Path(agent.export(self.folder))
        card = json.loads((path / "assets.extra" / "tfsac.json").read_text())
        for name in ("observation_space", "action_space"):
            self.assertEqual(space_from_dict(card[name]), getattr(agent, name))
        self.assertEqual(tfsac.SACConfig(**card["config"]), agent.config)
        training = card["training"]
        self.assertIn(counting_env.ID, training["env"])
        self.assertEqual(training["seed"], 5)
        self.assertEqual(training["env_steps"], 9)
        self.assertEqual(training["updates"], 5)
        self.assertAllClose(training["alpha"], np.exp(agent.log_alpha.numpy()))
        self.assertEqual(card["versions"]["tensorflow"], tf.__version__)
        self.assertEqual(card["versions"]["tfsac"], tfsac.__version__)

    def test_card_without_an_environment_and_with_numpy_numbers(self):
        agent = small_agent.make(
            SPACES, seed=np.int64(5), discount=np.float32(0.5)
        )
        path = pathlib.Path(agent.export(self.folder))
        card = json.loads((path / "assets.extra" / "tfsac.json").read_text())
        self.assertIsNone(card["training"]["env"])
        self.assertEqual(card["training"]["seed"], 5)
        self.assertEqual(card["config"]["discount"], 0.5)

    def test_warm_up_requests(self):
        """As TensorFlow Serving reads them, by its own protos."""
        agent = small_agent.make(SPACES)
        path = pathlib.Path(agent.export(self.folder))
        file = path / "assets.extra" / "tf_serving_warmup_requests"
        signatures = tf.saved_model.load(str(path)).signatures
        seen = []
        for record in tf.data.TFRecordDataset(str(file)):
            log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
            request = log.predict_log.request
            seen.append(request.model_spec.signature_name)
            inputs = {
                name: tf.constant(tf.make_ndarray(value))
                for name, value in request.inputs.items()
            }
            actions = signatures[seen[-1]](**inputs)["actions"]
            self.assertEqual(actions.shape, [1, 3])
        self.assertEqual(seen, ["serving_default", "sample"])

    def test_warm_up_requests_of_many_numbers(self):
        """Their lengths then take several bytes."""
        agent = small_agent.make((spaces.Box(-1, 1, (500,)), SPACES[1]))
        path = pathlib.Path(agent.export(self.folder))
        file = path / "assets.extra" / "tf_serving_warmup_requests"
        [record, _] = tf.data.TFRecordDataset(str(file))
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        inputs = log.predict_log.request.inputs
        value = tf.make_ndarray(inputs["observations"])
        self.assertEqual(value.shape, (1, 500))

    def test_unknown_format(self):
        agent = small_agent.make(SPACES)
        with self.assertRaisesRegex(ValueError, "tf_saved_model, litert, onnx"):
            agent.export(self.folder, "pickle")
        with self.assertRaisesRegex(TypeError, "target_cpu"):
            agent.export(self.folder, target_cpu="haswell")
        self.assertEmpty(list(self.folder.iterdir()))

    def test_observations_of_bytes(self):
        space = spaces.Box(0, 255, (4,), np.uint8)
        agent = small_agent.make((space, SPACES[1]))
        policy = tf.saved_model.load(agent.export(self.folder))
        rows = np.uint8([[0, 7, 255, 1], [9, 9, 9, 9]])
        for name in ("serving_default", "sample"):
            _, inputs = policy.signatures[name].structured_input_signature
            self.assertEqual(inputs["observations"].dtype, tf.uint8)
        act = policy.signatures["serving_default"]
        self.assertAllClose(
            act(observations=tf.constant(rows))["actions"], agent.predict(rows)
        )

    def test_own_actor(self):
        """With layers that behave otherwise in training."""
        observation = keras.Input((4,))
        x = keras.layers.BatchNormalization()(observation)
        x = keras.layers.Dropout(0.5)(keras.layers.Dense(8)(x))
        heads = keras.layers.Dense(3)(x), keras.layers.Dense(3)(x)
        agent = small_agent.make(
            SPACES, models={"actor": keras.Model(observation, heads)}
        )
        agent.replay.insert(small_agent.transitions(agent, 20))
        agent.update(updates=3)
        policy = tf.saved_model.load(agent.export(self.folder))
        rows = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
        act = policy.signatures["serving_default"]
        actions = act(observations=tf.constant(rows))["actions"]
        self.assertLess(
            export_contract.difference(actions, agent.predict(rows)), 1e-5
        )


if __name__ == "__main__":
    tf.test.main()
