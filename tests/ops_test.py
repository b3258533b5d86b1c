"""The kernels as TensorFlow ops, how they are found, and how they are built."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import warnings
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized
from replay_reference import numbered

from tfsac import ops

ROOT = pathlib.Path(__file__).parent.parent
INVALID = tf.errors.InvalidArgumentError
NAMES = ("create", "insert", "sample", "count", "save", "restore")
SIZES = {"observation_size": 3, "action_size": 2}


class ReplayOpsTest(tf.test.TestCase, parameterized.TestCase):
    """What the ops refuse by themselves, without `ReplayBuffer`."""

    def setUp(self):
        super().setUp()
        self.kernels = ops.kernels()
        if self.kernels is None:
            self.skipTest(ops.status())
        self.handle = self.kernels.tfsac_replay_create(capacity=8, **SIZES)
        self.rows = [tf.constant(field) for field in numbered(0, 4)]

    def sample(self, updates=1, batch_size=2, T=tf.float32, **sizes):
        return self.kernels.tfsac_replay_sample(
            sizes.pop("handle", self.handle),
            updates=updates,
            batch_size=batch_size,
            T=T,
            **SIZES | sizes,
        )

    def test_each_op_is_documented(self):
        for name in NAMES:
            op = getattr(self.kernels, f"tfsac_replay_{name}")
            self.assertGreater(len(op.__doc__), 150)

    @parameterized.parameters(*range(7))
    def test_insert_refuses_wrong_ranks_when_traced(self, field):
        rows = list(self.rows)
        rows[field] = rows[field][tf.newaxis]

        @tf.function
        def insert():
            self.kernels.tfsac_replay_insert(self.handle, *rows)

        with self.assertRaisesRegex(ValueError, "rank"):
            insert()

    def test_insert_refuses_disagreeing_shapes_when_traced(self):
        for field, value in (
            (2, self.rows[2][:3]),
            (3, self.rows[3][:, :2]),
            (6, self.rows[6][1:]),
        ):
            rows = list(self.rows)
            rows[field] = value

            @tf.function
            def insert(rows=rows):
                self.kernels.tfsac_replay_insert(self.handle, *rows)

            with self.assertRaisesRegex(ValueError, "must be equal"):
                insert()

    def test_sample_refuses_numbers_below_one(self):
        self.kernels.tfsac_replay_insert(self.handle, *self.rows)
        for sizes in ((0, 2), (2, 0), (-1, 2)):
            with self.assertRaisesRegex(INVALID, "at least minimum 1|>= 1"):
                self.sample(*sizes)

    def test_sample_refuses_what_the_buffer_does_not_hold(self):
        self.kernels.tfsac_replay_insert(self.handle, *self.rows)
        with self.assertRaisesRegex(INVALID, "observation_size=3"):
            self.sample(observation_size=4)
        with self.assertRaisesRegex(INVALID, "action_size=2"):
            self.sample(action_size=1)
        with self.assertRaisesRegex(INVALID, "expected dtype float"):
            self.sample(T=tf.uint8)
        rows = list(self.rows)
        rows[0] = rows[3] = tf.zeros([4, 3], tf.uint8)
        with self.assertRaisesRegex(INVALID, "expected dtype float"):
            self.kernels.tfsac_replay_insert(self.handle, *rows)

    def test_sizes_beyond_the_machine_are_errors(self):
        self.kernels.tfsac_replay_insert(self.handle, *self.rows)
        with self.assertRaises(INVALID):
            self.sample(2**40, 2**40)
        with self.assertRaises(tf.errors.ResourceExhaustedError):
            self.kernels.tfsac_replay_create(capacity=2**50, **SIZES)
        with self.assertRaises(INVALID):
            self.kernels.tfsac_replay_create(capacity=2**62, **SIZES)
        self.assertEqual(self.sample()[2].shape, [1, 2])

    @pytest.mark.slow  # TensorFlow looks for memory for ten seconds
    def test_a_sample_beyond_the_memory_is_an_error(self):
        self.kernels.tfsac_replay_insert(self.handle, *self.rows)
        with self.assertRaises(tf.errors.ResourceExhaustedError):
            self.sample(2**20, 2**20)

    def test_a_handle_of_something_else_is_refused(self):
        variable = tf.Variable(1.0)
        for handle in (variable.handle, self.handle[tf.newaxis]):
            with self.assertRaises(INVALID):
                self.kernels.tfsac_replay_count(handle)
            with self.assertRaises(INVALID):
                self.sample(handle=handle)
        for names in ((["a", "b"], "c"), ("a", ["b", "c"])):
            with self.assertRaises(INVALID):
                self.kernels.tfsac_replay_save(self.handle, *names)

    def test_the_memory_goes_with_the_last_handle(self):
        def resident():
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * 4096

        rows = [tf.constant(field) for field in numbered(0, 50_000, 200, 2)]
        sizes = dict(observation_size=200, action_size=2)
        handle = self.kernels.tfsac_replay_create(capacity=50_000, **sizes)
        before = resident()
        self.kernels.tfsac_replay_insert(handle, *rows)
        full = resident()
        self.assertGreater(full - before, 70 << 20)
        del handle
        self.assertLess(resident(), full - (70 << 20))

    def test_numpy_rows_larger_than_the_ring(self):
        self.kernels.tfsac_replay_insert(self.handle, *numbered(0, 1000))
        size, inserted = self.kernels.tfsac_replay_count(self.handle)
        self.assertEqual((int(size), int(inserted)), (8, 1000))
        drawn = self.sample(1, 200)[6].numpy()
        self.assertAllEqual(np.unique(drawn), np.arange(992, 1000))


class LoaderTest(tf.test.TestCase):
    """`ops` loads the kernels, or knows why not."""

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.get_temp_dir())

    def load(self, info=None, library=None):
        """The status where the folder holds these files."""
        if info is not None:
            (self.folder / "_kernels.json").write_text(info)
        if library is not None:
            (self.folder / "_kernels.so").write_bytes(library)
        with (
            mock.patch.object(ops, "_FOLDER", self.folder),
            mock.patch.dict(os.environ, TFSAC_KERNELS="on"),
        ):
            ops._load.cache_clear()
            self.addCleanup(ops._load.cache_clear)
            self.assertFalse(ops.loaded())
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                ops.warn_without_kernels()
            [warning] = caught
            self.assertIn("pure TensorFlow serves", str(warning.message))
            status = ops.status()
            # In one line, and yet the whole reason.
            self.assertNotIn("\n", status)
            self.assertEndsWith(" ".join(str(warning.message).split()), status)
            return str(warning.message)

    def test_never_built(self):
        self.assertIn("does not exist; build them with `pip", self.load())

    def test_the_compilers_error_is_kept(self):
        info = json.dumps({"error": "g++ -c x.cc\nx.cc:1: error: no"})
        self.assertIn("not built: g++ -c x.cc\nx.cc:1: error", self.load(info))

    def test_built_for_another_tensorflow(self):
        message = self.load(json.dumps({"tensorflow": "2.20.1"}), b"")
        self.assertIn(
            f"built for TensorFlow 2.20.1, but this is {tf.__version__}",
            message,
        )
        self.assertIn("an unknown version", self.load("[]"))

    def test_no_library_at_all(self):
        info = json.dumps({"tensorflow": tf.__version__})
        self.assertIn("cannot load", self.load(info, b"not a library"))

    def test_switched_off(self):
        """In a process of its own: no kernels, no warning, the same draws."""
        program = (
            "from tfsac import ops, replay\n"
            "assert not ops.loaded()\n"
            "assert 'TFSAC_KERNELS=off' in ops.status()\n"
            "buffer = replay.ReplayBuffer(4000, 3, 2)\n"
            "from replay_reference import numbered\n"
            "buffer.insert(numbered(0, 1000))\n"
            "print(*buffer.sample(1, 5).env_index.numpy()[0])\n"
        )
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        environment = os.environ | {
            "TFSAC_KERNELS": "off",
            "PYTHONPATH": path,
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        command = [sys.executable, "-W", "error::RuntimeWarning", "-c", program]
        output = subprocess.run(
            command, env=environment, check=True, capture_output=True, text=True
        ).stdout
        self.assertEqual(output.split(), ["880", "605", "362", "37", "319"])


class BuildTest(tf.test.TestCase):
    """`setup.py` without a compiler that works."""

    def test_the_error_is_shown_and_recorded(self):
        folder = pathlib.Path(self.get_temp_dir())
        shutil.copy(ROOT / "setup.py", folder)
        shutil.copytree(ROOT / "kernels", folder / "kernels")
        (folder / "build" / "tfsac").mkdir(parents=True)
        (folder / "build" / "tfsac" / "_kernels.so").touch()  # an earlier one
        compiler = folder / "compiler"
        compiler.write_text("#!/bin/sh\necho 'no such thing' >&2\nexit 1\n")
        compiler.chmod(0o755)
        command = [sys.executable, "setup.py", "build_ext"]
        result = subprocess.run(
            [*command, "--build-lib", "build", "--build-temp", "temporary"],
            cwd=folder,
            env=os.environ | {"CXX": str(compiler)},
            check=True,
            capture_output=True,
            text=True,
        )
        self.assertIn("pure TensorFlow will serve", result.stderr)
        self.assertIn("no such thing", result.stderr)
        built = folder / "build" / "tfsac"
        self.assertEqual(os.listdir(built), ["_kernels.json"])
        info = json.loads((built / "_kernels.json").read_text())
        self.assertIn("no such thing", info["error"])


if __name__ == "__main__":
    tf.test.main()
