"""Runs and saved agents that somebody tampered with: nothing of it acts."""

import io
import os
import pathlib
import pickle
import shutil
import tempfile
import warnings
from unittest import mock

import forged
import keras
import numpy as np
import small_agent
import tensorflow as tf
import wandering_env
from absl.testing import parameterized

import tfsac
from tfsac.checkpoint import Checkpoint, Checkpoints
from tfsac.epoch import Epoch

RUN = {"steps_per_epoch": 26, "epochs": 1, "checkpoint_every": 20}


class Canary:
    """Who unpickles it makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


class PlantedTest(parameterized.TestCase, tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.good = pathlib.Path(tempfile.mkdtemp()) / "good"
        cls.addClassCleanup(shutil.rmtree, cls.good.parent)
        agent = cls.make()
        small_agent.fit(
            agent, **RUN, checkpoint_dir=cls.good, callbacks=cls.callbacks()
        )

    @staticmethod
    def make():
        return small_agent.make(wandering_env.ID)

    @staticmethod
    def callbacks():
        stopping = keras.callbacks.EarlyStopping(
            "q_mean", mode="max", restore_best_weights=True
        )
        best = keras.callbacks.ModelCheckpoint(
            "best.keras", "q_mean", mode="max", save_best_only=True
        )
        best.save_freq = 10**9  # it saves nothing here
        return [stopping, best]

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=self.get_temp_dir()))
        self.run_folder = self.folder / "run"
        shutil.copytree(self.good, self.run_folder)
        self.newest = max(self.run_folder.glob("checkpoint-*.json"))

    def loads_the_one_before(self, path):
        with self.assertWarnsRegex(UserWarning, f"{path}.*gives checkpoint"):
            agent = tfsac.load(self.run_folder)
        self.assertEqual(agent.env_steps, 20)

    def test_a_manifest_that_names_other_attributes(self):
        """As the file that a ModelCheckpoint of the user's would write."""
        stopping, best = self.callbacks()
        forged.edit_manifest(
            self.newest,
            lambda content: content["callbacks"]["ModelCheckpoint 0"].update(
                filepath="/etc/passwd", _save_model="x"
            ),
        )
        number = int(self.newest.stem.split("-")[1])
        for each in (stopping, best):
            each.set_model(self.make())
            each.on_train_begin()
        found = Checkpoint(self.run_folder, number)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # no History
            found.restore_callbacks([stopping, best])
        self.assertEqual(best.filepath, "best.keras")
        self.assertTrue(callable(best._save_model))

    @parameterized.parameters(
        ("seed", None),
        ("seed", "0"),
        ("env_steps", -1),
        ("env_steps", 2.5),
        ("epoch", {}),
        ("epoch.number", "1"),
        ("epoch.start", 2**62),
        ("epoch.first", []),
        ("epoch.seconds", None),
        ("epoch.learned.sums", [None]),
        ("epoch.learned.sums", {}),
        ("epoch.episodes.sums", [0.0]),
        ("epoch.episodes.count", True),
        ("callbacks", []),
        ("callbacks.EarlyStopping 0", 3),
        ("callbacks.EarlyStopping 0.wait", "x"),
        ("callbacks.ModelCheckpoint 0.best", {}),
        ("callbacks.History 0.history", {"loss": 1}),
        ("versions", {"numpy": 2}),
        ("run", 1),
        ("files", {}),
        ("files.replay/checkpoint-3.index", 1),
    )
    def test_a_manifest_that_says_what_none_can(self, name, value):
        *path, last = name.replace("-3", self.newest.stem[10:]).split(".")
        if last == "index":
            path, last = path[:-1], f"{path[-1]}.{last}"

        def edit(content):
            for each in path:
                content = content[each]
            content[last] = value

        forged.edit_manifest(self.newest, edit)
        self.loads_the_one_before(self.newest)

    def test_each_key_of_a_manifest_that_is_missing(self):
        good = self.newest.read_bytes()
        required = ("versions", "seed", "env_steps", "epoch", "callbacks")
        for name in (*required, "files", "format"):
            self.newest.write_bytes(good)
            forged.edit_manifest(self.newest, lambda c, n=name: c.pop(n))
            with self.assertRaises(tf.errors.DataLossError, msg=name):
                Checkpoint(self.run_folder, int(self.newest.stem[11:]))

    def test_means_of_other_metrics(self):
        forged.edit_manifest(
            self.newest,
            lambda content: content["epoch"]["learned"]["sums"].append(0.0),
        )
        with self.assertWarnsRegex(UserWarning, r"means of \d+ metrics"):
            Checkpoints(self.run_folder, 20).resume(self.make())

    def test_a_manifest_of_before_it_told_of_the_run(self):
        def edit(content):
            del content["run"], content["algorithm"]
            for name in ("gymnasium", "python", "threads", "kernels"):
                del content["versions"][name]

        forged.edit_manifest(self.newest, edit)
        agent = self.make()
        Checkpoints(self.run_folder, 20).resume(agent)
        self.assertEqual(agent.env_steps, 26)

    @parameterized.parameters("agent", "replay", "callbacks", "manifest")
    def test_a_pickle_in_a_checkpoint(self, where):
        canary = self.folder / "canary"
        data = pickle.dumps(Canary(canary))
        path = {
            "agent": self.newest.with_suffix(".keras"),
            "replay": self.run_folder / "replay" / f"{self.newest.stem}.index",
            "callbacks": self.newest.with_suffix(".npz"),
            "manifest": self.newest,
        }[where]
        if where == "callbacks":  # where NumPy would look for one
            buffer = io.BytesIO()
            planted = np.array([Canary(canary)], object)
            np.savez(buffer, **{"EarlyStopping 0/0": planted})
            data = buffer.getvalue()
        if where == "manifest":
            path.write_bytes(data)
        else:
            forged.replace_file(path, data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            if where == "agent":
                with self.assertRaisesRegex(ValueError, "damaged or foreign"):
                    small_agent.fit(self.make(), checkpoint_dir=path.parent)
            elif where == "callbacks":
                found = Checkpoint(self.run_folder, int(path.stem[11:]))
                with self.assertRaisesRegex(
                    tf.errors.DataLossError, "no plain numbers"
                ):
                    found.restore_callbacks(self.callbacks())
            else:
                self.assertEqual(tfsac.load(self.run_folder).env_steps, 20)
        self.assertFalse(canary.exists())
        if where == "callbacks":  # it is a live one
            np.load(path, allow_pickle=True)["EarlyStopping 0/0"]
        else:
            pickle.loads(path.read_bytes())
        self.assertTrue(canary.exists())

    @parameterized.parameters("x.keras", "model.weights.h5", "assets/x.pkl")
    def test_a_pickle_in_a_saved_agent(self, name):
        canary = self.folder / "canary"
        data = pickle.dumps(Canary(canary))
        path = self.folder / "x.keras"
        self.make().save(path)
        if name == "x.keras":
            path.write_bytes(data)
        else:
            forged.rewrite(path, lambda members: members.update({name: data}))
        try:
            tfsac.load(path)
        except ValueError:
            self.assertNotEqual(name, "assets/x.pkl")
        self.assertFalse(canary.exists())

    @parameterized.parameters("saved.index", "saved.data-00000-of-00001")
    def test_a_pickle_in_an_exported_save(self, name):
        canary = self.folder / "canary"
        agent = self.make()
        agent.replay.insert(small_agent.transitions(agent, 9))
        folder = agent.export(self.folder / "model", format="trainable")
        model = tf.saved_model.load(folder)
        path = self.folder / "saved"
        model.signatures["save"](path=tf.constant(str(path)))
        data = pickle.dumps(Canary(canary))
        target = self.folder / name
        target.write_bytes(data + target.read_bytes()[len(data) :])
        with self.assertRaises((ValueError, tf.errors.OpError)):
            tfsac.load(path)
        self.assertFalse(canary.exists())

    def test_resuming_checks_the_agents_file(self):
        """As loading does: Keras believes what it says of sizes."""
        path = self.newest.with_suffix(".keras")

        def declare(file):
            file.create_dataset("huge", (2**40,), "f4", chunks=(1024,))

        forged.edit_weights(path, declare)
        forged.replace_file(path, path.read_bytes())
        with (
            mock.patch.object(keras.Model, "load_weights") as load,
            self.assertRaisesRegex(ValueError, "more than are stored"),
        ):
            small_agent.fit(self.make(), **RUN, checkpoint_dir=self.run_folder)
        load.assert_not_called()

    @parameterized.parameters("json", "keras", "npz", "index")
    def test_links_that_were_planted_are_not_followed(self, kind):
        """Where the next checkpoint's files are written first."""
        theirs = self.folder / "theirs"
        theirs.write_text("theirs")
        number = int(self.newest.stem[11:]) + 1
        for folder in (self.run_folder, self.run_folder / "replay"):
            for name in (f"{number}.{kind}.tmp", f"{number}.tmp.{kind}"):
                (folder / f"checkpoint-{name}").symlink_to(theirs)
        # They count as leftovers, so that the number would be the next one.
        with mock.patch.object(
            Checkpoints, "_numbers", return_value={number - 1}
        ):
            checkpoints = Checkpoints(self.run_folder, 20)
            agent = self.make()
            checkpoints.resume(agent)
            [stopping, _] = self.callbacks()
            stopping.on_train_begin()
            stopping.best_weights = agent.get_weights()
            checkpoints.save(agent, Epoch(0, 0, agent.METRICS), [stopping])
        self.assertEqual(theirs.read_text(), "theirs")
        written = self.run_folder / f"checkpoint-{number}.json"
        self.assertFalse(written.is_symlink())
        self.assertEqual(tfsac.load(self.run_folder).env_steps, 26)


if __name__ == "__main__":
    tf.test.main()
