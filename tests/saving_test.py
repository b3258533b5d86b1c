"""An agent comes back as it was, and goes on."""

import os
import pathlib
import shutil
import tempfile
from unittest import mock

import counting_env
import gymnasium
import keras
import numpy as np
import small_agent
import tensorflow as tf
from absl.testing import parameterized
from counting_env import CountingEnv
from gymnasium import spaces
from small_agent import changed, fit, state

import tfsac

SPACES = CountingEnv.observation_space, CountingEnv.action_space


class Unregistered(keras.Model):
    """A critic that Keras knows nothing about."""

    def __init__(self, units=4, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.hidden = keras.layers.Dense(units, "relu")
        self.head = keras.layers.Dense(3)

    def call(self, inputs):
        x = keras.ops.concatenate(inputs, axis=-1)
        return keras.ops.transpose(self.head(self.hidden(x)))

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def functional_actor():
    observation = keras.Input((5,))
    x = keras.layers.Dense(4, "relu")(observation)
    heads = keras.layers.Dense(2)(x), keras.layers.Dense(2)(x)
    return keras.Model(observation, heads)


def files(folder):
    """The content of each file below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


class SavingTest(parameterized.TestCase, tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # 17 transitions: 5 calls of 3, the first before learning; 2 are left.
        cls.agent = small_agent.make(
            counting_env.ID,
            seed=3,
            train_every=3,
            tau=0.1,
            discount=0.5,
            hidden_units=(6, 5),
        )
        fit(cls.agent, 17)

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=self.get_temp_dir()))

    @parameterized.parameters("runs/x.keras", "runs/x")
    def test_everything_comes_back(self, name):
        path = self.folder / name
        self.agent.save(path)
        agent = tfsac.load(path)
        before, after = state(self.agent), state(agent)
        self.assertEqual(list(before), list(after))
        for key, value in before.items():
            self.assertEqual(value.dtype, after[key].dtype)
            self.assertEqual(value.tobytes(), after[key].tobytes(), msg=key)
        with self.subTest("optimizers have a state to lose"):
            self.assertEqual(agent.updates, 12)
            moments = agent.critic_optimizer.variables[2]
            self.assertGreater(np.abs(moments).max(), 0)
        self.assertEqual(agent.config, self.agent.config)
        self.assertEqual((agent.env_steps, agent.pending_steps), (17, 2))
        self.assertEqual(agent.seed, 3)
        self.assertEqual(agent.observation_space, SPACES[0])
        self.assertEqual(agent.action_space, SPACES[1])
        self.assertFalse(agent.jit_compile)
        self.assertEqual(agent.env, counting_env.ID)
        rows = np.random.default_rng(0).normal(size=(4, 5))
        self.assertAllEqual(agent.predict(rows), self.agent.predict(rows))
        self.assertEmpty(agent.replay)

    def test_path_may_be_a_string(self):
        path = str(self.folder / "x")
        self.agent.save(path)
        self.assertEqual(tfsac.load(path).env_steps, 17)

    def test_training_goes_on_as_if_nothing_had_been(self):
        agent = small_agent.make(counting_env.ID, seed=1)
        fit(agent, 12)
        agent.save(self.folder / "x", include_replay=True)
        loaded = tfsac.load(self.folder / "x")
        self.assertLen(loaded.replay, 12)
        rows = np.zeros((2, 5), np.float32)
        for _ in range(3):
            self.assertEqual(agent.update(), loaded.update())
            self.assertAllEqual(agent.explore(rows), loaded.explore(rows))
        self.assertEmpty(changed(state(agent), state(loaded)))
        self.assertEqual(agent.updates, 8 + 3)

    def test_fit_after_loading(self):
        for include_replay in (True, False):
            path = self.folder / str(include_replay)
            self.agent.save(path, include_replay=include_replay)
            agent = tfsac.load(path)
            explored = agent.progress.explored
            logs = fit(agent, 10).history
            # No random phase.
            self.assertEqual(agent.progress.explored, explored + 10)
            self.assertEqual(logs["env_steps"], [27])
            # 9 calls so far, of which the first two learned nothing; without
            # a replay buffer it waits for 5 transitions more.
            calls = 4 if include_replay else 2
            self.assertEqual(agent.updates, 12 + 3 * calls)
            self.assertGreater(agent.evaluate(episodes=1)["episode_length"], 0)

    def test_compiled_optimizers_come_back(self):
        agent = small_agent.make(SPACES, temperature=0.2)
        agent.compile(
            actor_optimizer=keras.optimizers.SGD(0.125, momentum=0.5),
            critic_optimizer=keras.optimizers.AdamW(weight_decay=0.25),
            jit_compile=False,
        )
        agent.replay.insert(small_agent.transitions(agent, 9))
        agent.update(updates=3)
        agent.save(self.folder / "x", include_replay=True)
        loaded = tfsac.load(self.folder / "x")
        self.assertIsInstance(loaded.actor_optimizer, keras.optimizers.SGD)
        self.assertEqual(loaded.actor_optimizer.momentum, 0.5)
        self.assertEqual(loaded.actor_optimizer.learning_rate, 0.125)
        self.assertEqual(loaded.critic_optimizer.weight_decay, 0.25)
        self.assertIsNone(loaded.temperature_optimizer)
        self.assertEqual(loaded.update(), agent.update())
        self.assertEmpty(changed(state(agent), state(loaded)))

    def test_own_models(self):
        models = {"actor": functional_actor(), "critic": Unregistered(7)}
        agent = small_agent.make(SPACES, models=models)
        agent.replay.insert(small_agent.transitions(agent, 9))
        agent.update()
        path = self.folder / "x.keras"
        agent.save(path)
        loaded = tfsac.load(path, custom_objects={"Unregistered": Unregistered})
        self.assertIsInstance(loaded.critic, Unregistered)
        self.assertEqual(loaded.critic.units, 7)
        self.assertEmpty(changed(state(agent), state(loaded)))
        self.assertIsNot(loaded.target_critic, loaded.critic)
        with self.assertRaisesRegex(ValueError, "Unregistered"):
            tfsac.load(path)

    def test_weights_alone(self):
        path = self.folder / "x.weights.h5"
        self.agent.save_weights(path)
        other = tfsac.SAC(counting_env.ID, self.agent.config, seed=4)
        self.assertLen(changed(state(self.agent), state(other)), 7)
        other.load_weights(path)
        self.assertEmpty(changed(state(self.agent), state(other)))
        self.assertEqual((other.env_steps, other.pending_steps), (17, 2))

    @parameterized.parameters(
        (spaces.Dict(a=spaces.Box(-1, 1, (2,)), b=spaces.Discrete(3)),),
        (spaces.Box(0, 255, (5,), np.uint8),),
        (spaces.Tuple([spaces.MultiBinary(2), spaces.Box(-np.inf, 1, (1,))]),),
    )
    def test_observation_spaces(self, space):
        agent = small_agent.make((space, SPACES[1]))
        agent.save(self.folder / "x.keras")
        loaded = tfsac.load(self.folder / "x.keras")
        self.assertEqual(loaded.observation_space, space)
        one = space.sample()
        self.assertAllEqual(agent.predict(one), loaded.predict(one))


class EnvironmentTest(parameterized.TestCase, tf.test.TestCase):
    def setUp(self):
        super().setUp()
        folder = tempfile.mkdtemp(dir=self.get_temp_dir())
        self.path = pathlib.Path(folder, "x.keras")

    def save_and_load(self, made_with, env=None):
        small_agent.make(made_with).save(self.path)
        return tfsac.load(self.path, env)

    def test_made_again_of_its_spec(self):
        env = gymnasium.make("Pendulum-v1", g=5.0, max_episode_steps=9)
        agent = self.save_and_load(env)
        fit(agent, 10)
        self.assertEqual(agent._stream.env.kwargs["g"], 5.0)
        result = agent.evaluate(episodes=2)
        self.assertEqual(result["episode_length"], 9)

    def test_several_environments(self):
        envs = gymnasium.make_vec(counting_env.ID, num_envs=3)
        for env in (counting_env.ID, envs):
            num_envs = 3 if env is counting_env.ID else 1
            small_agent.make(env, num_envs=num_envs).save(self.path)
            agent = tfsac.load(self.path)
            fit(agent, 6)
            self.assertEqual(agent.env_steps, 6)
            self.assertEqual(agent.num_envs, 3)
            index = agent.replay.sample(1, 50).env_index
            self.assertSameElements(np.unique(index), [0, 1, 2])

    def test_id_that_names_its_module(self):
        env = "gymnasium.envs.classic_control:Pendulum-v1"
        agent = self.save_and_load(env)
        self.assertEqual(agent.env, env)
        fit(agent, 2)

    @parameterized.named_parameters(
        ("no spec", CountingEnv),
        (
            "a function",
            lambda: gymnasium.wrappers.TransformReward(
                gymnasium.make("Pendulum-v1"), lambda reward: reward / 2
            ),
        ),
        (
            "an argument that JSON cannot hold",
            lambda: gymnasium.make("Pendulum-v1", g=np.float32(9)),
        ),
    )
    def test_that_cannot_be_made_again(self, make):
        agent = self.save_and_load(make())
        self.assertIsNone(agent.env)
        with self.assertRaisesRegex(ValueError, "train on.*Received: none"):
            agent.fit()
        fit(agent, 2, env=make())
        self.assertEqual(agent.env_steps, 2)

    def test_another_one(self):
        env = CountingEnv()
        agent = self.save_and_load(counting_env.ID, env=env)
        fit(agent, 3)
        self.assertEqual(env.steps, 3)

    def test_of_other_spaces(self):
        with self.assertRaisesRegex(
            ValueError, "(?s)5 numbers.*3 numbers.*'Pendulum-v1'"
        ):
            self.save_and_load(counting_env.ID, env="Pendulum-v1")


class FilesTest(parameterized.TestCase, tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.agent = small_agent.make(SPACES)
        cls.agent.replay.insert(small_agent.transitions(cls.agent, 9))

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=self.get_temp_dir()))

    def test_saves_replace_what_is_theirs(self):
        path = self.folder / "x"
        self.agent.save(path, include_replay=True)
        self.assertSameElements(
            ["agent.keras", "replay"], [p.name for p in path.iterdir()]
        )
        (path / "history.csv").write_text("theirs")
        self.agent.save(path, include_replay=True)
        self.assertLen(tfsac.load(path).replay, 9)
        self.agent.save(path)
        # The old transitions are no part of this save.
        self.assertSameElements(
            ["agent.keras", "history.csv"], [p.name for p in path.iterdir()]
        )
        self.assertEmpty(tfsac.load(path).replay)

    def test_agent_and_transitions_change_at_once(self):
        """A crash just before, or just after, the agent's file is renamed."""
        path, other = self.folder / "x", small_agent.make(SPACES, seed=5)
        other.replay.insert(small_agent.transitions(other, 4))
        self.agent.save(path, include_replay=True)
        rename = pathlib.Path.rename
        for is_done in (False, True):
            copy = self.folder / f"copy{is_done}"

            def crash(aside, to, is_done=is_done, copy=copy):
                if is_done:
                    rename(aside, to)
                if pathlib.Path(to).name == "agent.keras":
                    shutil.copytree(path, copy)
                    raise SystemExit

            with (
                mock.patch.object(pathlib.Path, "rename", crash),
                self.assertRaises(SystemExit),
            ):
                other.save(path, include_replay=True)
            loaded = tfsac.load(copy)
            expected = (5, 4) if is_done else (0, 9)
            self.assertEqual((loaded.seed, len(loaded.replay)), expected)

    def test_transitions_of_another_agent_are_left_out(self):
        path = self.folder / "x"
        self.agent.save(path, include_replay=True)
        small_agent.make(SPACES, seed=5).save(path / "agent.keras")
        with self.assertWarnsRegex(UserWarning, "another save.*left out"):
            self.assertEmpty(tfsac.load(path).replay)

    def test_transitions_saved_before_they_told_their_agent(self):
        path = self.folder / "x"
        self.agent.save(path, include_replay=True)
        [index] = path.glob("replay/*.index")
        index.rename(index.with_name("replay.index"))
        self.assertLen(tfsac.load(path).replay, 9)
        self.agent.save(path, include_replay=True)
        self.assertLen(list(path.glob("replay/*.index")), 1)
        self.assertLen(tfsac.load(path).replay, 9)

    @parameterized.parameters("x.keras", "x")
    def test_files_are_synced_before_they_are_renamed(self, name):
        calls = []
        for function in ("fsync", "rename"):
            real = getattr(os, function)

            def note(*args, function=function, real=real):
                names = [
                    os.readlink(f"/proc/self/fd/{each}")
                    if isinstance(each, int)
                    else os.fspath(each)
                    for each in args
                ]
                calls.append((function, *map(os.path.basename, names)))
                return real(*args)

            self.enter_context(mock.patch.object(os, function, note))
        path = self.folder / "above" / name
        self.agent.save(path)
        agent_file = "x" if name == "x.keras" else "agent"
        folder = "above" if name == "x.keras" else "x"
        renamed = calls.index(
            ("rename", f"{agent_file}.tmp.keras", f"{agent_file}.keras")
        )
        self.assertIn(("fsync", f"{agent_file}.tmp.keras"), calls[:renamed])
        self.assertIn(("fsync", folder), calls[renamed:])
        self.assertIn(("fsync", self.folder.name), calls)  # holds "above"

    @parameterized.parameters(False, True)
    def test_checkpoints_of_a_run_are_left_alone(self, include_replay):
        agent = small_agent.make(counting_env.ID)
        run = {"checkpoint_dir": self.folder, "checkpoint_every": 10}
        fit(agent, 10, **run)
        before = files(self.folder)
        with self.assertRaisesRegex(
            ValueError, "without the checkpoints of a run.*agent.keras"
        ):
            agent.save(self.folder, include_replay=include_replay)
        self.assertEqual(files(self.folder), before)
        agent.save(self.folder / "agent.keras")
        agent = tfsac.load(self.folder)
        fit(agent, 10, epochs=2, **run)
        self.assertEqual(agent.env_steps, 20)

    @parameterized.parameters("x.keras", "x")
    def test_overwrite_false(self, name):
        path = self.folder / name
        self.agent.save(path, overwrite=False)
        before = files(self.folder)
        with self.assertRaisesRegex(
            FileExistsError, f"overwrite=False. Received: .*{name}'"
        ):
            self.agent.save(path, overwrite=False)
        self.assertEqual(files(self.folder), before)
        self.agent.save(path)

    @parameterized.product(
        name=["x.keras", "x"], exists=[True, False], error=[OSError, SystemExit]
    )
    def test_failed_save_leaves_the_old_one(self, name, exists, error):
        path = self.folder / name
        if exists:
            self.agent.save(path, include_replay=name == "x")
        before = files(self.folder)

        def fail(agent, path, **kwargs):
            pathlib.Path(path).write_text("half")
            raise error("no space left")

        other = small_agent.make(SPACES, seed=5)
        other.replay.insert(small_agent.transitions(other, 4))
        with (
            mock.patch.object(keras.Model, "save", fail),
            self.assertRaisesRegex(error, "no space left"),
        ):
            other.save(path, include_replay=name == "x")
        self.assertEqual(files(self.folder), before)
        if exists:
            tfsac.load(path)

    def test_failed_save_of_the_replay_leaves_the_old_agent(self):
        path = self.folder / "x"
        self.agent.save(path, include_replay=True)
        before = files(self.folder)
        other = small_agent.make(SPACES, seed=5)
        with (
            mock.patch.object(
                other.replay, "save", side_effect=OSError("no space left")
            ),
            self.assertRaisesRegex(OSError, "no space left"),
        ):
            other.save(path, include_replay=True)
        self.assertEqual(files(self.folder), before)

    def test_replay_needs_a_directory(self):
        path = self.folder / "x.keras"
        with self.assertRaisesRegex(
            ValueError, "Expected a directory.*x.keras.*include_replay=True"
        ):
            self.agent.save(path, include_replay=True)
        self.assertEmpty(files(self.folder))

    def test_nothing_there(self):
        self.folder.joinpath("empty").mkdir()
        for name in ("missing", "missing.keras", "empty"):
            with self.assertRaisesRegex(
                FileNotFoundError, f"that agent.save wrote.*{name}'"
            ):
                tfsac.load(self.folder / name)

    def test_foreign_file(self):
        path = self.folder / "x.keras"
        keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(path)
        with self.assertRaisesRegex(
            ValueError, "that tfsac wrote.*x.keras', which holds a Sequential"
        ):
            tfsac.load(path)

    def test_damaged_replay(self):
        path = self.folder / "x"
        self.agent.save(path, include_replay=True)
        [segment] = path.glob("replay/*.segment*")
        content = bytearray(segment.read_bytes())
        content[-5] ^= 1
        segment.write_bytes(content)
        with self.assertRaises(tf.errors.DataLossError):
            tfsac.load(path)
        self.assertEmpty(tfsac.load(path / "agent.keras").replay)


if __name__ == "__main__":
    tf.test.main()
