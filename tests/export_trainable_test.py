"""The SavedModel that goes on learning, without Python."""

import pathlib
import subprocess
import sys
import tempfile

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

import tfsac

ROOT = pathlib.Path(__file__).parent.parent
SPACES = export_contract.SPACES
B = small_agent.SMALL["batch_size"]
UPDATES = 20
FIELDS = ("observation", "action", "reward", "next_observation", "terminated")
# What 20 updates have in common but for rounding.
SAME = {"rtol": 1e-4, "atol": 1e-6}

# Without what a robot does not have.
FRESH_PROCESS = """
import sys
for name in ("tfsac", "tensorflow_probability", "keras", "tf_keras",
             "gymnasium"):
    sys.modules[name] = None
import numpy as np
import tensorflow as tf
path, folder = sys.argv[1:]
model = tf.saved_model.load(path)  # which holds the variables
train, batches = model.signatures["train"], np.load(folder + "/batches.npz")
metrics = [
    train(**{name: tf.constant(batches[name][i]) for name in batches})
    for i in range(len(batches["reward"]))
]
model.signatures["save"](path=tf.constant(folder + "/fresh"))
np.savez(
    folder + "/metrics.npz",
    **{name: [float(each[name]) for each in metrics] for name in metrics[0]},
)
"""


def make(env=SPACES, updates=3, **kwargs):
    """An agent that has learned a little."""
    agent = small_agent.make(env, **kwargs)
    agent.replay.insert(small_agent.transitions(agent, 50))
    for _ in range(updates):
        agent.update(updates=1)
    return agent


def batches(agent, calls, updates=1, seed=1):
    """What `train` takes, for each call."""
    rng = np.random.default_rng(seed)
    all_of_them = small_agent.transitions(agent, 50)
    drawn = rng.integers(50, size=(calls, updates, B))
    return [
        {name: tf.constant(getattr(all_of_them, name)[i]) for name in FIELDS}
        for i in drawn
    ]


def learn(agent, batch):
    """What the agent's own compiled step makes of it."""
    unused = {
        "truncated": tf.zeros_like(batch["terminated"]),
        "env_index": tf.zeros_like(batch["reward"], tf.int32),
    }
    agent.replay.sample = lambda *_: tfsac.Transition(**batch, **unused)
    return dict(agent.update(updates=len(batch["reward"])))


class ExportTrainableTest(parameterized.TestCase, tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=self.get_temp_dir()))

    def export(self, agent):
        """Returns the path, and the signatures, called as functions."""
        path = agent.export(self.folder / "model", format="trainable")
        model = tf.saved_model.load(path)
        self.addCleanup(lambda: model)  # whose variables live as long
        return pathlib.Path(path), model.signatures

    def save(self, signatures, name="saved"):
        path = str(self.folder / name)
        signatures["save"](path=tf.constant(path))
        return path

    def test_signatures(self):
        _, signatures = self.export(make())
        rows = {"observations": (tf.float32, [None, 4])}
        path = {"path": (tf.string, [])}
        fields = {
            "observation": (tf.float32, [None, B, 4]),
            "action": (tf.float32, [None, B, 3]),
            "reward": (tf.float32, [None, B]),
            "next_observation": (tf.float32, [None, B, 4]),
            "terminated": (tf.bool, [None, B]),
        }
        expected = {
            "act": (rows, ["actions"]),
            "sample": (
                rows | {"seed": (tf.int64, [2])},
                ["actions", "log_prob"],
            ),
            "train": (fields, small_agent.LEARNED),
            "save": (path, ["path"]),
            "restore": (path, ["path"]),
        }
        self.assertSameElements(signatures, expected)
        for name, (inputs, outputs) in expected.items():
            _, named = signatures[name].structured_input_signature
            self.assertEqual(
                {k: (v.dtype, v.shape.as_list()) for k, v in named.items()},
                inputs,
            )
            self.assertSameElements(
                signatures[name].structured_outputs, outputs
            )

    @parameterized.parameters(True, False)
    def test_graph_is_tensorflow_alone(self, jit_compile):
        agent = make(jit_compile=jit_compile, updates=0)
        path, _ = self.export(agent)
        nodes, _, ops = saved_model_graph.read(path)
        for op in ops:
            self.assertNotRegex(op, "(?i)tfsac|pyfunc|custom")
        is_compiled = any(node.attr["_XlaMustCompile"].b for node in nodes)
        self.assertEqual(is_compiled, jit_compile)

    def test_fresh_process_with_tensorflow_alone(self):
        agent = make(jit_compile=True)
        path, _ = self.export(agent)
        calls = batches(agent, UPDATES)
        np.savez(
            self.folder / "batches.npz",
            **{name: [batch[name] for batch in calls] for name in FIELDS},
        )
        subprocess.run(
            [sys.executable, "-c", FRESH_PROCESS, path, self.folder],
            check=True,
            capture_output=True,
            cwd=self.folder,
        )
        expected = [learn(agent, batch) for batch in calls]
        metrics = np.load(self.folder / "metrics.npz")
        self.assertSameElements(metrics, small_agent.LEARNED)
        for name in metrics:
            values = [each[name] for each in expected]
            self.assertAllClose(metrics[name], values, **SAME, msg=name)
        loaded = tfsac.load(self.folder / "fresh")
        self.assert_same_state(loaded, agent, rtol=1e-3, atol=1e-5)

    def test_from_cpp(self):
        program = self.folder / "train_batches"
        headers = f"-I{ROOT / 'examples' / 'cpp'}"
        source = ROOT / "tests" / "train_batches.cc"
        tools.need("g++")
        tensorflow_program.build(source, program, headers)
        agent = make(jit_compile=True)
        path, _ = self.export(agent)
        calls = batches(agent, UPDATES)
        bytes_ = b"".join(
            batch[name].numpy().tobytes() for batch in calls for name in FIELDS
        )
        saved = self.folder / "from_cpp"
        output = subprocess.run(
            [program, path, str(UPDATES), saved],
            input=bytes_,
            check=True,
            capture_output=True,
        ).stdout
        names, *lines = (line.split() for line in output.decode().splitlines())
        self.assertLen(lines, UPDATES)
        self.assertSameElements(names, small_agent.LEARNED)
        for batch, line in zip(calls, lines, strict=True):
            expected = learn(agent, batch)
            self.assertAllClose(
                np.float32(line), [expected[name] for name in names], **SAME
            )
        self.assert_same_state(tfsac.load(saved), agent, rtol=1e-3, atol=1e-5)

    def assert_same_state(self, agent, other, **tolerance):
        received, expected = map(small_agent.state, (agent, other))
        self.assertSameElements(received, expected)
        for name, value in expected.items():
            self.assertAllClose(received[name], value, **tolerance, msg=name)
        self.assertEqual(
            agent.learning_noise.counter, other.learning_noise.counter
        )
        self.assertEqual(agent.updates, other.updates)

    def test_any_number_of_updates_a_call(self):
        _, signatures = self.export(agent := make())
        for updates in (1, 2, 5):
            [batch] = batches(agent, 1, updates)
            metrics = signatures["train"](**batch)
            for name, value in learn(agent, batch).items():
                self.assertAllClose(metrics[name], value, **SAME, msg=name)

    def test_another_batch_size_is_refused(self):
        _, signatures = self.export(agent := make(updates=0))
        [batch] = batches(agent, 1)
        batch = {name: value[:, :1] for name, value in batch.items()}
        with self.assertRaisesRegex(
            tf.errors.InvalidArgumentError, "not compatible with expected"
        ):
            signatures["train"](**batch)

    def test_acts_as_the_agent(self):
        _, signatures = self.export(agent := make())
        act = signatures["act"]
        export_contract.check(
            self,
            agent,
            lambda rows: act(observations=tf.constant(rows))["actions"].numpy(),
        )

    def test_what_it_learned_it_acts_upon(self):
        agent = make()
        _, signatures = self.export(agent)
        for batch in batches(agent, 5):
            signatures["train"](**batch)
            learn(agent, batch)
        rows = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
        acted = signatures["act"](observations=tf.constant(rows))["actions"]
        self.assertAllClose(acted, agent.predict(rows), atol=1e-4)
        seeded = {"seed": tf.constant([1, 2], tf.int64)}
        sampled = signatures["sample"](observations=tf.constant(rows), **seeded)
        self.assertAllClose(
            sampled["actions"], agent.policy.act(rows, (1, 2)), atol=1e-4
        )

    def test_restored_it_goes_on_bit_for_bit(self):
        _, signatures = self.export(agent := make(jit_compile=True))
        rows = tf.constant(small_agent.transitions(agent, 9).observation)
        first, second = batches(agent, 2)
        signatures["train"](**first)
        path = self.save(signatures)
        runs = []
        for _ in range(2):
            signatures["restore"](path=tf.constant(path))
            runs.append(
                {
                    "acted": signatures["act"](observations=rows)["actions"],
                    **signatures["train"](**second),
                }
            )
        before, after = runs
        for name, value in before.items():
            self.assertAllEqual(value, after[name], msg=name)

    def test_what_it_saves_is_loaded(self):
        agent = make(seed=3, discount=0.75)
        agent.progress.env_steps = 17
        _, signatures = self.export(agent)
        for batch in batches(agent, 4):
            signatures["train"](**batch)
            learn(agent, batch)
        loaded = tfsac.load(self.save(signatures, "folder/saved"))
        self.assert_same_state(loaded, agent, **SAME)
        for name in ("config", "seed", "observation_space", "action_space"):
            self.assertEqual(getattr(loaded, name), getattr(agent, name))
        self.assertEqual(loaded.env_steps, 17)
        [batch] = batches(agent, 1, seed=2)
        expected, received = learn(agent, batch), learn(loaded, batch)
        for name, value in expected.items():
            self.assertAllClose(received[name], value, **SAME, msg=name)

    def test_the_loaded_agent_is_whole(self):
        """It can be saved, exported, and given an environment."""
        agent = make("Pendulum-v1")
        _, signatures = self.export(agent)
        loaded = tfsac.load(self.save(signatures))
        small_agent.fit(loaded, 10)
        loaded.save(self.folder / "agent.keras")
        loaded.export(self.folder / "again", format="trainable")
        self.assertEqual(loaded.env_steps, 10)

    def test_own_models_and_optimizers(self):
        observation = keras.Input((4,))
        x = keras.layers.BatchNormalization()(observation)
        x = keras.layers.Dropout(0.5, seed=1)(keras.layers.Dense(8)(x))
        heads = keras.layers.Dense(3)(x), keras.layers.Dense(3)(x)
        actor = keras.Model(observation, heads)
        agent = small_agent.make(SPACES, models={"actor": actor})
        schedule = keras.optimizers.schedules.ExponentialDecay(1e-2, 5, 0.5)
        agent.compile(
            actor_optimizer=keras.optimizers.SGD(schedule, momentum=0.5),
            critic_optimizer="rmsprop",
            jit_compile=False,
        )
        _, signatures = self.export(agent)
        for batch in batches(agent, 5):
            metrics, expected = (
                signatures["train"](**batch),
                learn(agent, batch),
            )
            for name, value in expected.items():
                self.assertAllClose(metrics[name], value, **SAME, msg=name)
        loaded = tfsac.load(self.save(signatures))
        self.assert_same_state(loaded, agent, **SAME)
        self.assertIsInstance(loaded.actor_optimizer, keras.optimizers.SGD)

    def test_observations_of_bytes(self):
        space = spaces.Box(0, 255, (4,), np.uint8)
        agent = make((space, SPACES[1]), updates=0)
        _, signatures = self.export(agent)
        [batch] = batches(agent, 1)
        self.assertEqual(batch["observation"].dtype, tf.uint8)
        metrics, expected = signatures["train"](**batch), learn(agent, batch)
        for name, value in expected.items():
            self.assertAllClose(metrics[name], value, **SAME, msg=name)

    def test_of_another_agent_nothing_is_restored(self):
        _, signatures = self.export(agent := make())
        rows = tf.constant(small_agent.transitions(agent, 9).observation)
        before = signatures["act"](observations=rows)["actions"]
        for config, message in (
            (
                {"hidden_units": (8,)},
                r"Expected .*actor/0 float32 \[4, 16\]"
                r".*Received.*actor/0 float32 \[4, 8\]",
            ),
            ({"hidden_units": (16, 16)}, "Received.*actor/4 float32"),
            ({"temperature": 0.1}, "Expected .*temperature_optimizer/0"),
        ):
            _, other = self.export(make(updates=0, **config))
            path = self.save(other)
            with self.assertRaisesRegex(tf.errors.OpError, message):
                signatures["restore"](path=tf.constant(path))
            after = signatures["act"](observations=rows)["actions"]
            self.assertAllEqual(before, after)

    def test_files_that_are_not_there_or_not_ours(self):
        _, signatures = self.export(make())
        missing = str(self.folder / "missing")
        with self.assertRaisesRegex(tf.errors.NotFoundError, "missing"):
            signatures["restore"](path=tf.constant(missing))
        with self.assertRaisesRegex(FileNotFoundError, "missing"):
            tfsac.load(missing)
        foreign = tf.train.Checkpoint(x=tf.Variable(1.0))
        foreign = foreign.write(str(self.folder / "foreign"))
        with self.assertRaisesRegex(tf.errors.NotFoundError, "not found"):
            signatures["restore"](path=tf.constant(foreign))
        with self.assertRaisesRegex(ValueError, "Expected a file that an exp"):
            tfsac.load(foreign)

    def test_unknown_format(self):
        with self.assertRaisesRegex(
            ValueError,
            "Expected one of the formats .*trainable.* "
            "Received: format='torchscript'",
        ):
            make(updates=0).export(self.folder, format="torchscript")
        self.assertEmpty(list(self.folder.iterdir()))


if __name__ == "__main__":
    tf.test.main()
