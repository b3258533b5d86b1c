"""Hostile `.keras` files: refused, before anything in them takes effect."""

import pathlib
import resource
import stat
import subprocess
import sys
import tempfile
import zipfile

import h5py
import keras
import numpy as np
import small_agent
import tensorflow as tf
from absl.testing import parameterized
from forged import CONFIG, WEIGHTS, edit_config, edit_weights, rewrite
from gymnasium.spaces import Box

import tfsac

SPACES = Box(-1, 1, (3,)), Box(-2, 2, (1,))
TERA = 2**40


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class KerasFileTest(parameterized.TestCase, tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.good = pathlib.Path(tempfile.mkdtemp()) / "x.keras"
        small_agent.make(SPACES).save(cls.good)

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=self.get_temp_dir()))
        self.path = self.folder / "x.keras"
        self.path.write_bytes(self.good.read_bytes())

    def refused(self, message):
        """It says why, and takes no memory whatever the file declares."""
        before = peak_mb()
        with self.assertRaisesRegex(ValueError, f"x.keras.*{message}"):
            tfsac.load(self.path)
        self.assertLess(peak_mb() - before, 200)

    def test_each_flipped_bit_and_each_cut_is_noticed(self):
        good = self.good.read_bytes()
        rng = np.random.default_rng(0)
        with zipfile.ZipFile(self.good) as archive:
            members = archive.infolist()
        for member in members:  # somewhere in each of them
            data = member.header_offset + 30 + len(member.filename)
            at = data + int(rng.integers(member.file_size))
            damaged = bytearray(good)
            damaged[at] ^= 1 << int(rng.integers(8))
            self.path.write_bytes(damaged)
            self.refused("damaged")
        for length in (0, 3, len(good) // 2, len(good) - 1):
            self.path.write_bytes(good[:length])
            self.refused("damaged")

    @parameterized.parameters("/tmp/x", "../x", "assets/../../x", "a\\..\\x")
    def test_a_name_that_leads_out(self, name):
        rewrite(self.path, lambda members: members.update({name: b"1"}))
        self.refused("leads out")

    def test_a_link(self):
        link = zipfile.ZipInfo("assets/x")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        with zipfile.ZipFile(self.path, "a") as archive:
            archive.writestr(link, "/etc/passwd")
        self.refused("is a link")

    def test_a_name_twice(self):
        with zipfile.ZipFile(self.path, "a") as archive:
            with self.assertWarnsRegex(UserWarning, "Duplicate"):
                archive.writestr(CONFIG, "{}")
        self.refused("twice")

    @parameterized.parameters(CONFIG, WEIGHTS)
    def test_a_missing_member(self, name):
        rewrite(self.path, lambda members: members.pop(name))
        self.refused("missing")

    def test_a_bomb(self):
        bomb = {"metadata.json": b" " * 2**20}
        rewrite(
            self.path,
            lambda members: members.update(bomb),
            compression=zipfile.ZIP_DEFLATED,
        )
        self.refused("compressed")

    def test_a_file_of_another_kind(self):
        for content in (b"", b"\x80\x04.", b"\x89HDF\r\n\x1a\n"):
            self.path.write_bytes(content)
            self.refused("damaged or foreign")
        other = self.folder / "x.h5"  # no format of ours
        keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(other)
        with self.assertRaisesRegex(ValueError, "x.h5.*damaged or foreign"):
            tfsac.load(other)

    @parameterized.parameters("[1", "[" * 100_000, "3", "null", "\xff")
    def test_a_config_that_is_none(self, text):
        rewrite(self.path, lambda members: members.update({CONFIG: text}))
        self.refused("config.json")

    def test_weights_that_declare_more_than_is_stored(self):
        def declare(file):
            file.create_dataset("huge", (TERA,), "f4", chunks=(1024,))

        edit_weights(self.path, declare)
        self.refused("huge.*more than are stored")

    @parameterized.parameters(
        (h5py.ExternalLink("/etc/passwd", "/"), "leads elsewhere"),
        (h5py.SoftLink("/_layer_checkpoint_dependencies"), "leads elsewhere"),
    )
    def test_links_to_weights_elsewhere(self, link, message):
        edit_weights(self.path, lambda file: file.update({"out": link}))
        self.refused(message)

    def test_weights_that_are_elsewhere(self):
        def point(file):
            file.create_dataset(
                "there", (4,), "u1", external=[("/etc/passwd", 0, 4)]
            )

        edit_weights(self.path, point)
        self.refused("no plain numbers")

    @parameterized.parameters(keras.layers.Dense, keras.layers.EinsumDense)
    def test_networks_that_declare_more_than_is_stored(self, kind):
        units = 1_000_000
        sizes = (units,) if kind is keras.layers.Dense else ("ab,bc->ac", units)
        layers = [keras.Input((3,)), kind(*sizes), kind(*sizes)]
        with tf.Graph().as_default():
            network = keras.saving.serialize_keras_object(
                keras.Sequential(layers)
            )
        edit_config(
            self.path,
            lambda config: config["compile_config"].update(
                actor_optimizer=network
            ),
        )
        self.refused("declares 4.* bytes of weights")

    @parameterized.parameters("actor", "critic")
    def test_hidden_units_that_declare_a_terabyte(self, part):
        def enlarge(config):
            network = config["config"][part]["config"]
            network["hidden_units"] = [1_000_000] * 2

        edit_config(self.path, enlarge)
        self.refused("declares [48].* bytes of weights")

    @parameterized.parameters("observation_space", "action_space")
    def test_a_space_that_declares_a_terabyte(self, name):
        for space in (
            {"type": "Box", "low": 0, "high": 1, "shape": [2**20, 2**20]}
            | {"dtype": "float32"},
            {"type": "Discrete", "n": TERA, "start": 0, "dtype": "int64"},
            {"type": "MultiBinary", "n": [TERA]},
        ):
            space = {"type": "Dict", "spaces": [["a", space]]}
            edit_config(
                self.path,
                lambda config, space=space: config["config"].update(
                    {name: space}
                ),
            )
            self.refused("at most 2,097,152 numbers")

    def test_a_lambda_layer_never_runs(self):
        canary = self.folder / "canary"
        inputs = keras.Input((3,))
        outputs = keras.layers.Lambda(
            lambda x, path=str(canary): open(path, "w") and x,
            output_shape=(3,),
        )
        network = keras.Sequential([inputs, outputs])
        canary.unlink(missing_ok=True)
        planted = keras.saving.serialize_keras_object(network)
        for part, name in (
            ("config", "actor"),
            ("config", "critic"),
            ("compile_config", "actor_optimizer"),
        ):
            self.path.write_bytes(self.good.read_bytes())
            edit_config(
                self.path,
                lambda config, part=part, name=name: config[part].update(
                    {name: planted}
                ),
            )
            with self.assertRaisesRegex(ValueError, "(?s)ambda.*unsafe"):
                tfsac.load(self.path)
            self.assertFalse(canary.exists())

    def test_loading_runs_nothing_and_unpickles_nothing(self):
        """In a process of its own: an audit hook cannot be taken away."""
        program = """
import sys
sys.path[:0] = sys.argv[2:]
import tfsac
tfsac.load(sys.argv[1])  # what is imported late, is imported now
events = ("pickle.find_class", "marshal.loads", "compile", "os.exec",
          "os.system", "os.posix_spawn", "subprocess.Popen", "import")
seen = []
sys.addaudithook(lambda event, _: event in events and seen.append(event))
tfsac.load(sys.argv[1])
assert not seen, seen
"""
        folder = self.folder / "saved"
        agent = small_agent.make(SPACES)
        agent.replay.insert(small_agent.transitions(agent, 9))
        agent.save(folder, include_replay=True)
        root = pathlib.Path(tfsac.__file__).parent.parent
        subprocess.run(
            [sys.executable, "-c", program, folder, root],
            check=True,
            capture_output=True,
        )


if __name__ == "__main__":
    tf.test.main()
