"""A small file that declares a terabyte fails in a second and 200 MB."""

import io
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import zipfile

import keras
import numpy as np
import small_agent
import tensorflow as tf
import wandering_env
from absl.testing import parameterized
from forged import agree_to, edit_config, edit_weights, replace_file
from gymnasium.spaces import Box

import tfsac

TESTS = pathlib.Path(__file__).parent
SPACES = Box(-1, 1, (3,)), Box(-2, 2, (1,))
TERA = 2**40
SECONDS, MEGABYTES = 1.0, 200


def box(size):
    return {"type": "Box", "low": 0, "high": 1, "shape": [size]} | {
        "dtype": "float64"
    }


def several(space, count):
    spaces = [[f"{i}", space] for i in range(count)]
    return {"type": "Dict", "spaces": spaces}


def many_layers():
    layers = [keras.layers.Dense(1) for _ in range(700)]
    with tf.Graph().as_default():
        network = keras.Sequential([keras.Input((3,)), *layers])
    return keras.saving.serialize_keras_object(network)


def npz(members, **options):
    """An archive of arrays that declare what they do not hold."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def array(shape, held):
    """The bytes of a `.npy` file."""
    file = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + bytes(held)


def make_hollow(path):
    os.truncate(path, TERA)
    if path.stat().st_blocks > 2**20:
        raise AssertionError("This file system has no holes.")


class BombTest(parameterized.TestCase, tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.good = pathlib.Path(tempfile.mkdtemp())
        small_agent.make(SPACES).save(cls.good / "x.keras")

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=self.get_temp_dir()))
        self.path = self.folder / "x.keras"
        self.path.write_bytes((self.good / "x.keras").read_bytes())

    def refused(self, use, path, message):
        size = sum(
            each.stat().st_blocks * 512
            for each in self.folder.rglob("*")
            if each.is_file()
        )
        self.assertLess(size, 4 << 20)  # it is a small one
        process = subprocess.run(
            [sys.executable, TESTS / "bomb.py", use, path],
            env={**os.environ, "PYTHONPATH": f"{TESTS.parent}:{TESTS}"},
            capture_output=True,
            text=True,
        )
        self.assertEqual(process.returncode, 0, msg=process.stderr[-3000:])
        error, seconds, megabytes = json.loads(process.stdout.splitlines()[-1])
        self.assertRegex(error, message)
        self.assertLess(seconds, SECONDS)
        self.assertLess(megabytes, MEGABYTES)

    @parameterized.named_parameters(
        ("a terabyte", box(TERA // 8)),
        ("a box", box(20_000_000)),
        ("several boxes", several(box(1_500_000), 3)),
        ("many parts", several({"type": "Discrete", "n": 1}, 20_000)),
        ("choices", {"type": "MultiDiscrete", "nvec": [2**20] * 9}),
        ("bits", {"type": "MultiBinary", "n": [2**20, 2**20]}),
    )
    def test_spaces(self, space):
        for name in ("observation_space", "action_space"):
            edit_config(
                self.path, lambda c, n=name: c["config"].update({n: space})
            )
        message = "at most 2,097,152 numbers|expected at most 10,000"
        self.refused("load", self.path, message)

    @parameterized.named_parameters(
        ("wide", [1_000_000] * 2, "bytes of weights"),
        ("many", [1] * 1_000, "at most 100 hidden layers"),
    )
    def test_hidden_units(self, units, message):
        for name in ("actor", "critic"):
            edit_config(
                self.path,
                lambda c, n=name: c["config"][n]["config"].update(
                    hidden_units=units
                ),
            )
        self.refused("load", self.path, message)

    def test_many_layers(self):
        network = many_layers()
        edit_config(self.path, lambda c: c["config"].update(actor=network))
        self.refused("load", self.path, "of Keras, expected at most 2,000")

    def test_weights(self):
        def declare(file):
            file.create_dataset("huge", (TERA,), "f4", chunks=(1024,))

        edit_weights(self.path, declare)
        self.refused("load", self.path, "more than are stored")

    def test_holes(self):
        make_hollow(self.path)
        self.refused("load", self.path, "holds next to none")

    def run_folder(self, replaced, content=None):
        """A run of whose newest checkpoint a file is another."""
        self.path.unlink()
        stopping = keras.callbacks.EarlyStopping(
            "q_mean", mode="max", restore_best_weights=True
        )
        small_agent.fit(
            small_agent.make(wandering_env.ID),
            20,
            checkpoint_dir=self.folder,
            checkpoint_every=10,
            callbacks=[stopping],
        )
        path = max(self.folder.glob(f"checkpoint-*.{replaced}"))
        if content is not None:
            replace_file(path, content)
            return
        make_hollow(path)
        if replaced != "json":
            agree_to(path, TERA, "0" * 64)

    @parameterized.parameters("json", "keras", "npz")
    def test_holes_in_a_checkpoint(self, kind):
        self.run_folder(kind)
        self.refused("checkpoint", self.folder, f"{kind}: declares 1099511627")
        if kind != "npz":
            return
        with self.assertWarnsRegex(UserWarning, "gives checkpoint"):
            self.assertGreater(tfsac.load(self.folder).env_steps, 0)

    def test_compressed_arrays_of_callbacks(self):
        zeros = {"EarlyStopping 0/0.npy": array((2**26,), 2**28)}
        content = npz(zeros, compression=zipfile.ZIP_DEFLATED)
        self.run_folder("npz", content)
        self.refused("callbacks", self.folder, "is compressed")

    def test_arrays_of_callbacks_that_are_not_there(self):
        content = npz({"EarlyStopping 0/0.npy": array((2**38,), 64)})
        self.run_folder("npz", content)
        self.refused("callbacks", self.folder, "more bytes than are stored")

    def test_an_exported_save(self):
        agent = small_agent.make(SPACES)
        agent.replay.insert(small_agent.transitions(agent, 9))
        folder = agent.export(self.folder / "model", format="trainable")
        model = tf.saved_model.load(folder)
        path = self.folder / "saved"
        model.signatures["save"](path=tf.constant(str(path)))
        [data] = self.folder.glob("saved.data-*")
        make_hollow(data)
        self.refused("load", path, "holds next to none")

    def test_a_checkpoint_of_tensorflow(self):
        """TensorFlow alone would end the process."""
        path = self.folder / "saved"
        tf.raw_ops.SaveV2(
            prefix=str(path),
            tensor_names=["x"],
            shape_and_slices=[""],
            tensors=[tf.zeros([3])],
        )
        index = self.folder / "saved.index"
        # The end tells where blocks are, and how large.
        begin, end = index.read_bytes()[:-48], index.read_bytes()[-8:]
        index.write_bytes(begin + (b"\x00" + b"\xff" * 8 + b"\x01") * 4 + end)
        self.refused("load", path, "a block of 144115188075855871 bytes at 0")


if __name__ == "__main__":
    tf.test.main()
