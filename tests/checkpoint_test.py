"""A run that is killed and begun again is the run that never stopped."""

import hashlib
import json
import math
import os
import pathlib
import platform
import re
import shutil
import tempfile
import warnings
from unittest import mock

import gymnasium
import keras
import numpy as np
import small_agent
import tensorflow as tf
import wandering_env
from absl.testing import parameterized
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from small_agent import fit, state
from wandering_env import WanderingEnv

import tfsac
from tfsac import files, manifest
from tfsac.checkpoint import Checkpoint, Checkpoints
from tfsac.epoch import Epoch
from tfsac.manifest import encode

TESTS = pathlib.Path(__file__).parent
ROOT = TESTS.parent
# Neither epochs nor chunks end where checkpoints are.
RUN = {"steps_per_epoch": 26, "epochs": 3, "checkpoint_every": 20}


class Killed(BaseException):
    """Stands in for SIGKILL: nobody catches it, nothing is saved."""


def killed_after(agent, inserts):
    """Has the agent's process end when it has stored so many times."""
    insert, count = agent.replay.insert, iter(range(inserts))

    def insert_or_die(transitions):
        insert(transitions)
        if next(count, None) is None:
            raise Killed

    return mock.patch.object(agent.replay, "insert", insert_or_die)


def run_of(make, folder, kills=(), callbacks=list, **kwargs):
    """Runs to the end, in one process after the other; returns the agent."""
    for kill in (*kills, math.inf):
        agent = make()
        kwargs = {**RUN, "checkpoint_dir": folder} | kwargs
        try:
            with killed_after(agent, min(kill, 10**9)):
                history = fit(agent, callbacks=callbacks(), **kwargs)
        except Killed:
            continue
        return agent, history
    raise AssertionError


def everything(agent, history):
    """All that a run comes to, in bits."""
    batch = agent.replay.sample(10, 50)
    logs = {**history.history, "epoch": history.epoch}
    logs.pop("steps_per_second")  # the one thing that time decides
    return {
        **{name: array.tobytes() for name, array in state(agent).items()},
        **{f"replay/{i}": np.asarray(x).tobytes() for i, x in enumerate(batch)},
        "inserted": agent.replay.inserted,
        "progress": repr(agent.progress),
        "learning noise": int(agent.learning_noise.counter),
        "random actions": agent._random_actions.random(3).tobytes(),
        "logs": json.dumps(logs),
    }


class ResumeTest(parameterized.TestCase, tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=self.get_temp_dir()))

    def assert_same_run(self, make, kills, **kwargs):
        """Whether it is killed so often or never makes no difference."""
        runs = [
            everything(*run_of(make, self.folder / name, times, **kwargs))
            for name, times in (("whole", ()), ("killed", kills))
        ]
        for name, value in runs[0].items():
            self.assertEqual(value, runs[1][name], msg=name)

    @parameterized.product(num_envs=[1, 8], overlap=[False, True])
    def test_environments_and_overlap(self, num_envs, overlap):
        def make():
            return small_agent.make(
                wandering_env.ID,
                num_envs=num_envs,
                overlap=overlap,
                train_every=3,
                learning_rate=0.03,
                random_steps=17,
            )

        # Amid the random phase, between checkpoints, at one, at an epoch's end.
        kills = [k // num_envs for k in (11, 31, 20, 7, 38)]
        self.assert_same_run(make, kills)

    @parameterized.parameters(*AutoresetMode)
    def test_vector_environments(self, mode):
        def make():
            envs = SyncVectorEnv([WanderingEnv] * 3, autoreset_mode=mode)
            return small_agent.make(envs)

        self.assert_same_run(make, [9, 11, 5], validation_env=WanderingEnv())

    @parameterized.product(num_envs=[1, 8], overlap=[False, True])
    def test_environments_in_processes(self, num_envs, overlap):
        opened = []

        def make():
            for envs in opened:
                envs.close()
            opened[:] = [AsyncVectorEnv([WanderingEnv] * num_envs)]
            return small_agent.make(opened[0], overlap=overlap, train_every=4)

        self.assert_same_run(make, [k // num_envs for k in (25, 18)])
        opened[0].close()

    @parameterized.parameters(tfsac.SAC, tfsac.SoftQLearning)
    def test_compiled(self, algorithm):
        def make():
            return small_agent.make(
                wandering_env.ID, algorithm=algorithm, jit_compile=True
            )

        self.assert_same_run(make, [45])

    def test_validation_and_stock_callbacks(self):
        """They are as patient as if there had been one process."""
        stopped = []

        def callbacks():
            stopping = keras.callbacks.EarlyStopping(
                "q_mean", patience=3, mode="max", restore_best_weights=True
            )
            stopped.append(stopping)
            slowing = keras.callbacks.ReduceLROnPlateau(
                "q_mean", patience=1, mode="max", min_delta=9.0, factor=0.5
            )
            decay = keras.callbacks.LearningRateScheduler(
                lambda epoch, rate: rate * 0.9
            )
            return [stopping, slowing, decay]

        def make():
            return small_agent.make(
                wandering_env.ID, learning_rate=0.01, random_steps=2
            )

        run = {"epochs": 12, "steps_per_epoch": 9, "checkpoint_every": 6}
        self.assert_same_run(make, [13, 17, 8], callbacks=callbacks, **run)
        self.assertGreater(stopped[0].stopped_epoch, 0)
        self.assertEqual(stopped[0].stopped_epoch, stopped[-1].stopped_epoch)

    def test_layers_that_draw(self):
        """Keras does not save the states of their generators."""

        def critic():
            inputs = keras.Input((3,)), keras.Input((2,))
            x = keras.layers.Concatenate()(inputs)
            x = keras.layers.Dense(
                9, "relu", kernel_initializer=keras.initializers.Ones()
            )(x)
            x = keras.layers.Dropout(0.5, seed=4)(x)
            x = keras.layers.Dense(
                2, kernel_initializer=keras.initializers.Ones()
            )(x)
            return keras.Model(inputs, keras.ops.transpose(x))

        def make():
            return small_agent.make(
                wandering_env.ID, models={"critic": critic()}
            )

        self.assert_same_run(make, [33])

    def test_what_has_ended_has_nothing_to_do(self):
        def make():
            return small_agent.make(wandering_env.ID)

        folder = self.folder / "run"
        agent, history = run_of(make, folder)
        before = sorted(folder.rglob("*"))
        again, same = run_of(make, folder)
        self.assertEqual(repr(history.history), repr(same.history))
        self.assertEqual(again.env_steps, 78)
        self.assertEqual(sorted(folder.rglob("*")), before)
        with self.subTest("more epochs go on"):
            agents = []
            for each in (agent, again, tfsac.load(folder)):
                each.compile(jit_compile=False)
                copy = self.folder / str(len(agents))
                shutil.copytree(self.folder / "run", copy)
                kwargs = RUN | {"epochs": 4, "checkpoint_dir": copy}
                agents.append(everything(each, fit(each, **kwargs)))
            self.assertEqual(agents[0], agents[1])
            self.assertEqual(agents[0], agents[2])


class FilesTest(parameterized.TestCase, tf.test.TestCase):
    """Damage is named, and the checkpoint before it serves."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.good = pathlib.Path(tempfile.mkdtemp()) / "good"
        cls.addClassCleanup(shutil.rmtree, cls.good.parent)
        stopping = keras.callbacks.EarlyStopping(
            "q_mean", mode="max", restore_best_weights=True
        )
        run_of(cls.make, cls.good, callbacks=lambda: [stopping], epochs=1)

    @staticmethod
    def make():
        return small_agent.make(wandering_env.ID)

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=self.get_temp_dir()))
        self.run_folder = self.folder / "run"
        shutil.copytree(self.good, self.run_folder)

    def newest(self):
        """Transitions in the newest checkpoint, and the warnings."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            agent = tfsac.load(self.run_folder)
        self.assertEqual(agent.env_steps, agent.replay.inserted)
        return agent.env_steps, "".join(str(w.message) for w in caught)

    def test_what_is_there(self):
        names = {
            str(path.relative_to(self.run_folder))
            for path in self.run_folder.rglob("*")
            if path.is_file() and path.suffix != ".segment"
        }
        self.assertEqual(
            names,
            {
                "checkpoint-1.json",
                "checkpoint-1.keras",
                "checkpoint-2.json",
                "checkpoint-2.keras",
                "checkpoint-2.npz",
                "replay/checkpoint-1.index",
                "replay/checkpoint-2.index",
            },
        )
        self.assertLen(list(self.run_folder.glob("replay/*.segment")), 2)
        self.assertEqual(self.newest(), (26, ""))

    @parameterized.product(
        name=[
            "checkpoint-2.json",
            "checkpoint-2.keras",
            "checkpoint-2.npz",
            "replay/checkpoint-2.index",
            "replay/rows-0-26-*.segment",
        ],
        damage=["bit", "cut", "gone", "empty"],
    )
    def test_damage_is_named_and_the_one_before_serves(self, name, damage):
        [path] = self.run_folder.glob(name)
        content = bytearray(path.read_bytes())
        if damage == "gone":
            path.unlink()
        else:
            if damage == "bit":
                place = np.random.default_rng(len(name)).integers(len(content))
                content[place] ^= 1 << place % 8
            keep = {"bit": len(content), "cut": -1, "empty": 0}[damage]
            path.write_bytes(content[:keep])
        steps, warning = self.newest()
        self.assertEqual(steps, 20)
        if name.endswith(".json") and damage == "gone":
            self.assertEmpty(warning)  # as of a save that was not completed
            return
        self.assertIn(str(path), warning)
        self.assertIn("gives checkpoint 1, of step 20", warning)

    @parameterized.parameters("bit", "cut", "gone")
    def test_damage_of_rows_that_both_share_is_named(self, damage):
        agent = tfsac.load(self.run_folder)
        checkpoints = Checkpoints(self.folder / "new")
        for _ in range(2):
            checkpoints.save(agent, Epoch(4, 0, agent.METRICS), [])
        [path] = self.folder.glob("new/replay/*.segment")
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content if damage == "bit" else content[:-1])
        if damage == "gone":
            path.unlink()
        with self.assertRaisesRegex(
            tf.errors.DataLossError, f"no checkpoint.*{path}.*{path}"
        ) as caught:
            tfsac.load(self.folder / "new")
        # The error says how to go on without them: exactly so.
        message = caught.exception.message
        [way] = re.findall(r"To go on .*: (agent = .*; agent.fit.*)\.", message)
        names = {"tfsac": tfsac, "ANOTHER_FOLDER": self.folder / "another"}
        way = way.replace("...", "epochs=5, steps_per_epoch=26, verbose=0")
        exec(way, names)
        self.assertEqual(names["agent"].env_steps, 26 + 26)

    def test_every_byte_of_a_manifest_counts(self):
        path = self.run_folder / "checkpoint-2.json"
        good = path.read_bytes()
        for i in range(len(good)):
            bad = bytearray(good)
            bad[i] ^= 1 << i % 8
            path.write_bytes(bad)
            with self.assertRaises(tf.errors.DataLossError):
                Checkpoint(self.run_folder, 2)
        path.write_bytes(good)
        Checkpoint(self.run_folder, 2)

    def test_a_run_goes_on_from_the_one_before(self):
        (self.run_folder / "checkpoint-2.keras").write_bytes(b"")
        with self.assertWarnsRegex(UserWarning, "checkpoint-2.keras"):
            agent, history = run_of(self.make, self.run_folder)
        expected = run_of(self.make, self.folder / "whole")
        whole = everything(*expected)
        self.assertEqual(everything(agent, history), whole)
        # The damaged one gave way, and those that are good are kept.
        numbers = sorted(self.run_folder.glob("checkpoint-*.json"))
        self.assertLen(numbers, 2)
        self.assertEqual(self.newest(), (78, ""))

    def test_the_last_good_one_is_kept_until_there_is_another(self):
        (self.run_folder / "checkpoint-2.keras").write_bytes(b"")
        agent = tfsac.load(self.run_folder / "checkpoint-1.keras")
        checkpoints = Checkpoints(self.run_folder)
        with self.assertWarns(UserWarning):
            checkpoints.newest(lambda checkpoint: None)
        checkpoints.save(agent, Epoch(0, 0, agent.METRICS), [])
        names = [p.name for p in sorted(self.run_folder.glob("*.json"))]
        self.assertEqual(names, ["checkpoint-1.json", "checkpoint-3.json"])

    @parameterized.parameters(
        "checkpoint-3.keras", "replay/checkpoint-3.index", "rows-0-66-*"
    )
    def test_the_last_good_one_is_kept_if_the_new_one_is_damaged(self, name):
        """As by a disk that loses what it said it had."""
        agent = tfsac.load(self.run_folder)
        checkpoints = Checkpoints(self.run_folder)
        checkpoints.newest(lambda checkpoint: None)
        agent.replay.insert(small_agent.transitions(agent, 40))
        sync = files.sync_directory

        def damage(folder):
            for path in self.run_folder.rglob(pathlib.Path(name).name):
                with path.open("r+b") as file:
                    file.seek(-40, 2)
                    file.write(b"damage")
            sync(folder)

        with (
            mock.patch.object(files, "sync_directory", damage),
            self.assertRaisesRegex(tf.errors.DataLossError, name[:6]),
        ):
            checkpoints.save(agent, Epoch(0, 0, agent.METRICS), [])
        names = [p.name for p in sorted(self.run_folder.glob("*.json"))]
        self.assertContainsSubset(
            ["checkpoint-1.json", "checkpoint-2.json"], names
        )

    def test_a_folder_that_somebody_else_made_is_synced(self):
        synced = []
        folder = self.folder / "made" / "by" / "others"
        folder.mkdir(parents=True)
        sync = files.sync_directory

        def note(directory):
            synced.append(directory)
            sync(directory)

        agent = self.make()
        checkpoints = Checkpoints(folder)
        with mock.patch.object(files, "sync_directory", note):
            checkpoints.save(agent, Epoch(0, 0, agent.METRICS), [])
            self.assertContainsSubset(
                [self.folder, folder.parent.parent, folder.parent], synced
            )
            synced.clear()
            checkpoints.save(agent, Epoch(0, 0, agent.METRICS), [])
        self.assertEqual({folder, folder / "replay"}, set(synced))  # once

    def test_no_good_one(self):
        for path in self.run_folder.glob("*.json"):
            path.write_bytes(path.read_bytes()[:-1])
        for use in (
            lambda: tfsac.load(self.run_folder),
            lambda: run_of(self.make, self.run_folder),
        ):
            with self.assertRaisesRegex(
                tf.errors.DataLossError,
                "(?s)no checkpoint that is good.*-2.json.*-1.json",
            ):
                use()
        agent = tfsac.load(self.run_folder / "checkpoint-2.keras")
        self.assertEqual(agent.env_steps, 26)

    def test_files_of_others_are_refused(self):
        path = self.run_folder / "checkpoint-2.json"
        (self.folder / "secret").write_text("x")
        content = json.loads(path.read_text())["content"]
        content["files"]["../secret"] = {
            "bytes": 1,
            "sha256": hashlib.sha256(b"x").hexdigest(),
        }
        path.write_bytes(encode(content))
        with self.assertRaisesRegex(tf.errors.DataLossError, "not its own"):
            Checkpoint(self.run_folder, 2)

    def test_leftovers_of_a_kill_are_removed(self):
        for name in ("checkpoint-3.keras", "checkpoint-4.tmp.keras"):
            (self.run_folder / name).write_text("half")
        (self.run_folder / "replay/checkpoint-4.index.tmp").write_text("half")
        (self.run_folder / "replay/rows-0-9-00000000.segment").write_text("h")
        self.assertEqual(self.newest(), (26, ""))
        (self.run_folder / "history.csv").write_text("theirs")
        with self.assertWarnsRegex(
            UserWarning, "checkpoint_every=20, now 10000"
        ):
            fit(
                tfsac.load(self.run_folder),
                epochs=2,
                steps_per_epoch=26,
                checkpoint_dir=self.run_folder,
                callbacks=[keras.callbacks.EarlyStopping("q_mean", mode="max")],
            )
        names = sorted(path.name for path in self.run_folder.rglob("*.*"))
        self.assertEqual(
            [name for name in names if not name.startswith("rows-")],
            [
                "checkpoint-2.index",
                "checkpoint-2.json",
                "checkpoint-2.keras",
                "checkpoint-2.npz",
                "checkpoint-5.index",
                "checkpoint-5.json",
                "checkpoint-5.keras",
                "checkpoint-5.npz",
                "history.csv",
            ],
        )
        self.assertLen(names, 9 + 3)  # the segment of 1 goes with the next

    @parameterized.parameters(
        ({"seed": 7}, "seed=0.*Received: seed=7"),
        ({"discount": 0.5}, "discount=0.99.*Received: discount=0.5"),
    )
    def test_another_run_is_refused(self, other, message):
        agent = small_agent.make(wandering_env.ID, **other)
        with self.assertRaisesRegex(ValueError, message):
            fit(agent, checkpoint_dir=self.run_folder)
        self.assertEqual(agent.env_steps, 0)

    def test_another_algorithm_is_refused(self):
        agent = small_agent.make(
            wandering_env.ID, algorithm=tfsac.SoftQLearning
        )
        with self.assertRaisesRegex(ValueError, "Expected .*, that of the run"):
            fit(agent, checkpoint_dir=self.run_folder)

    def test_a_run_that_changes_is_told(self):
        agent = self.make()
        agent.env, agent.num_envs = "module:Other-v0", 2
        with (
            mock.patch.object(manifest, "ops") as ops,
            mock.patch.object(platform, "python_version", lambda: "2.7"),
            mock.patch.object(os, "sched_getaffinity", lambda _: range(99)),
            mock.patch.object(gymnasium, "__version__", "0.1"),
            warnings.catch_warnings(record=True) as caught,
        ):
            ops.loaded.return_value = False
            warnings.simplefilter("always", UserWarning)
            Checkpoints(self.run_folder, 7)._require_same_run(
                agent, Checkpoint(self.run_folder, 2)
            )
        message = "".join(str(warning.message) for warning in caught)
        for name, now in (
            ("env", "'Other-v0'"),
            ("num_envs", "2"),
            ("checkpoint_every", "7"),
            ("gymnasium", "'0.1'"),
            ("python", "'2.7'"),
            ("threads", "'99'"),
            ("kernels", "'off'"),
        ):
            self.assertRegex(message, f"{name}=[^;]*, now {now}")

    def test_bad_arguments(self):
        with self.assertRaisesRegex(ValueError, "every >= 1. Received: 0"):
            fit(self.make(), checkpoint_dir=self.folder, checkpoint_every=0)

    def test_other_versions_and_callbacks_are_told(self):
        with (
            mock.patch.object(np, "__version__", "1.0"),
            warnings.catch_warnings(record=True) as caught,
        ):
            warnings.simplefilter("always", UserWarning)
            fit(self.make(), checkpoint_dir=self.run_folder)
        messages = "".join(str(warning.message) for warning in caught)
        self.assertRegex(messages, "numpy='[^']*', now '1.0'")
        self.assertIn("Expected the callbacks of the run: Early", messages)

    def test_an_agent_that_is_further_goes_on(self):
        """As when Ctrl-C ended a fit in a notebook, amid two checkpoints."""
        agent = self.make()
        with (
            self.assertRaises(Killed),
            killed_after(agent, 47),
        ):
            fit(agent, **RUN, checkpoint_dir=self.folder / "new")
        self.assertEqual(agent.env_steps, 48)
        history = fit(agent, **RUN, checkpoint_dir=self.folder / "new")
        # The second epoch begins anew.
        self.assertEqual(history.history["env_steps"], [26, 74, 100])

    def test_a_failing_environment_loses_nothing(self):
        class Broken(WanderingEnv):
            def __init__(self, steps):
                self.steps = steps

            def step(self, action):
                self.steps -= 1
                if self.steps < 0:
                    raise OSError("the cable is loose")
                return super().step(action)

        agents = Broken(32), WanderingEnv()
        validation = WanderingEnv(), Broken(0)
        for i, (env, other) in enumerate(zip(agents, validation, strict=True)):
            run = {**RUN, "checkpoint_dir": self.folder / str(i)}
            with self.assertRaisesRegex(tfsac.EnvError, "cable"):
                fit(
                    small_agent.make(env),
                    **run,
                    validation_env=other,
                    validation_episodes=1,
                )
            loaded = tfsac.load(self.folder / str(i), WanderingEnv())
            self.assertEqual(loaded.env_steps, (32, 26)[i])
            history = fit(loaded, **run)
            self.assertEqual(history.history["env_steps"], [26, 52, 78])


if __name__ == "__main__":
    tf.test.main()
