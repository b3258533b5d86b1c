"""What `fit` counts, calls and reports; learning itself is a stub here."""

import contextlib
import io
import math
import sys
from unittest import mock

import counting_env
import gymnasium
import keras
import numpy as np
import small_agent
import tensorflow as tf
from absl.testing import parameterized
from counting_env import CountingEnv
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from small_agent import LEARNED, LOGS, fit

import tfsac
from tfsac import ops
from tfsac.metrics import Metrics


class Stub:
    """Stands in for `SAC.update`: notes each call, returns its number."""

    def __init__(self):
        self.env_steps = []

    def __call__(self, agent, updates=None):
        self.env_steps.append(agent.env_steps)
        return dict.fromkeys(LEARNED, float(len(self.env_steps)))


class Recorder(gymnasium.Wrapper):
    """Does the sums of episodes by itself."""

    def __init__(self, env):
        super().__init__(env)
        self.finished = []

    def reset(self, **kwargs):
        self.rewards = []
        return self.env.reset(**kwargs)

    def step(self, action):
        result = self.env.step(action)
        self.rewards.append(result[1])
        if result[2] or result[3]:
            self.finished.append((sum(self.rewards), len(self.rewards)))
        return result


class Profiler(gymnasium.Wrapper):
    """Notes the module of each function that is called meanwhile.

    Args:
        env: The environment.
        steps: From which of its steps on, up to which.
    """

    def __init__(self, env, steps):
        super().__init__(env)
        self._steps = steps
        self._count = 0
        self.modules = set()

    def step(self, action):
        self._count += 1
        if self._count == self._steps.start:
            sys.setprofile(self._note)
        elif self._count == self._steps.stop:
            sys.setprofile(None)
        return self.env.step(action)

    def _note(self, frame, event, function):
        if event == "call":
            self.modules.add(frame.f_globals["__name__"])
        elif event == "c_call":
            self.modules.add(function.__module__ or "")


class LoopTest(parameterized.TestCase, tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.update = Stub()
        patch = mock.patch.object(
            tfsac.SAC, "update", lambda agent: self.update(agent)
        )
        self.enter_context(patch)

    @parameterized.parameters(
        # E, train_every, steps: transitions and calls at the epochs' ends.
        (1, 1, 10, [10, 20, 30], [10, 20, 30]),
        (4, 1, 10, [12, 20, 32], [12, 20, 32]),  # ends where 10, 20, 30 are in
        (1, 3, 10, [10, 20, 30], [3, 6, 10]),  # 1, 2, 0 left over
        (4, 3, 10, [12, 20, 32], [4, 6, 10]),
        (2, 8, 3, [4, 6, 10], [0, 0, 1]),
        (3, 1, 1, [3, 3, 3], [3, 3, 3]),  # the first step served all three
    )
    def test_counts(self, num_envs, train_every, steps, env_steps, calls):
        agent = small_agent.make(
            counting_env.ID,
            num_envs=num_envs,
            train_every=train_every,
            random_steps=0,
        )
        ends = []
        note = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda *_: ends.append(len(self.update.env_steps))
        )
        history = fit(agent, steps, epochs=3, callbacks=[note])
        self.assertEqual(history.history["env_steps"], env_steps)
        self.assertEqual(agent.replay.inserted, env_steps[-1])
        self.assertEqual(ends, calls)

    def test_remainders_carry_over_fits(self):
        agent = small_agent.make(counting_env.ID, train_every=4, random_steps=0)
        calls = []
        for _ in range(4):
            fit(agent, 3)
            calls.append(len(self.update.env_steps))
        self.assertEqual(calls, [0, 1, 2, 3])
        self.assertEqual(self.update.env_steps, [4, 8, 12])

    @parameterized.parameters(*AutoresetMode)
    def test_only_transitions_count(self, mode):
        envs = SyncVectorEnv([CountingEnv] * 3, autoreset_mode=mode)
        agent = small_agent.make(envs, random_steps=0)
        fit(agent, 50)
        taken = sum(env.steps for env in envs.envs)
        self.assertEqual(agent.env_steps, taken)
        self.assertEqual(agent.replay.inserted, taken)
        self.assertLen(self.update.env_steps, taken)
        self.assertBetween(taken, 50, 52)

    def test_a_call_that_fails_stays_due(self):
        agent = small_agent.make(counting_env.ID, train_every=4, random_steps=0)
        pending = []

        def see(batch, logs):
            pending.append(agent.pending_steps)

        note = keras.callbacks.LambdaCallback(
            on_train_batch_begin=see, on_train_batch_end=see
        )
        failing = mock.patch.object(tfsac.SAC, "update", side_effect=OSError)
        with failing, self.assertRaises(OSError):
            fit(agent, 6, callbacks=[note])
        self.assertEqual((agent.env_steps, agent.pending_steps), (4, 4))
        fit(agent, 1, callbacks=[note])
        self.assertEqual(self.update.env_steps, [5])
        self.assertEqual(pending, [4, 5, 1])  # as a saved agent would say

    def test_random_phase_counts_transitions(self):
        agent = small_agent.make(
            counting_env.ID, num_envs=2, random_steps=6, train_every=2
        )
        fit(agent, 10)
        # Steps at 0, 2 and 4 are random; those at 6 and 8 are not.
        self.assertEqual(agent.progress.explored, 2)
        self.assertEqual(self.update.env_steps, [6, 8, 10])
        fit(agent, 10)  # no new random phase
        self.assertEqual(agent.progress.explored, 7)
        self.assertEqual(self.update.env_steps[3:], [12, 14, 16, 18, 20])

    def test_random_actions_fill_the_box(self):
        agent = small_agent.make(counting_env.ID, random_steps=200)
        with mock.patch.object(
            agent.replay, "insert", wraps=agent.replay.insert
        ) as insert:
            fit(agent, 200)
        calls = [call.args[0] for call in insert.call_args_list]
        actions = np.concatenate([transitions.action for transitions in calls])
        unit = (actions - [-1, 0]) / [2, 10]
        self.assertAllInRange(unit, 0, 1)
        self.assertAllClose(unit.mean(0), [0.5, 0.5], atol=0.07)
        self.assertAllClose(unit.std(0), [12**-0.5] * 2, atol=0.05)

    def test_second_fit_goes_on_in_the_episode(self):
        env = CountingEnv()
        agent = small_agent.make(env, random_steps=0)
        with mock.patch.object(
            agent.replay, "insert", wraps=agent.replay.insert
        ) as insert:
            for steps in (7, 1, 12):
                fit(agent, steps)
            fit(agent, 5, env=env)  # the same one goes on too
        calls = [call.args[0] for call in insert.call_args_list]
        rows = np.concatenate([t.observation for t in calls])
        expected = [
            (episode, t)
            for episode, length in enumerate(env.lengths)
            for t in range(length)
        ]
        self.assertAllEqual(rows[:, 1:3], expected[:25])
        self.assertEqual(agent.env_steps, 25)

    def test_hooks_in_keras_order(self):
        agent = small_agent.make(counting_env.ID, random_steps=0, train_every=2)
        order = []

        class Note(keras.callbacks.Callback):
            pass

        for hook in (
            "train_begin epoch_begin train_batch_begin train_batch_end "
            "test_begin test_end epoch_end train_end"
        ).split():

            def note(*args, hook=hook, **kwargs):
                index = [a for a in args if isinstance(a, int)]
                order.append(" ".join(map(str, [hook, *index])))

            setattr(Note, f"on_{hook}", note)
        fit(agent, 4, epochs=2, callbacks=[Note()], validation_episodes=1)
        epoch = [
            "epoch_begin {}",
            "train_batch_begin 0",
            "train_batch_end 0",
            "train_batch_begin 1",
            "train_batch_end 1",
            "test_begin",
            "test_end",
            "epoch_end {}",
        ]
        epochs = [line.format(i) for i in range(2) for line in epoch]
        self.assertEqual(order, ["train_begin", *epochs, "train_end"])

    def test_one_batch_is_one_call_and_logs_its_result(self):
        agent = small_agent.make(counting_env.ID, random_steps=4)
        seen = []
        note = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: seen.append((batch, logs))
        )
        fit(agent, 6, callbacks=[note])
        self.assertEqual([batch for batch, _ in seen], list(range(6)))
        learned = [dict.fromkeys(LEARNED, value) for value in (1.0, 2.0, 3.0)]
        self.assertEqual([logs for _, logs in seen], [{}, {}, {}, *learned])

    def test_metrics_are_read_once_when_a_call_is_over(self):
        reads = []

        class OnDevice:
            """Stands in for a tensor, of which nobody else has a copy."""

            def numpy(self):
                reads.append(agent.env_steps)
                return np.arange(7.0)

        def metrics(agent):
            return Metrics(LEARNED, OnDevice())

        agent = small_agent.make(counting_env.ID, random_steps=0)
        quiet = keras.callbacks.EarlyStopping("loss", patience=9)
        with mock.patch.object(tfsac.SAC, "update", metrics):
            with contextlib.redirect_stdout(io.StringIO()):
                logs = fit(agent, 4, verbose=2, callbacks=[quiet]).history
            self.assertEqual(reads, [1, 2, 3, 4])
            self.assertEqual([logs[key][0] for key in LEARNED], [*range(7)])
            see = keras.callbacks.LambdaCallback(
                on_train_batch_end=lambda _, logs: self.assertIsInstance(
                    logs["loss"], float
                )
            )
            fit(agent, 4, callbacks=[quiet, see])
            self.assertEqual(reads[4:], [5, 6, 7, 8])

    def test_who_hears_of_batches(self):
        heard = []

        def hook(name):
            return lambda *_, logs: heard.append((name, type(logs)))

        hooks = "batch_begin batch_end train_batch_begin train_batch_end"
        note = {
            name: type(
                name, (keras.callbacks.Callback,), {f"on_{name}": hook(name)}
            )()
            for name in hooks.split()
        }
        agent = small_agent.make(counting_env.ID, random_steps=0)
        fit(agent, 1, callbacks=[*note.values()])
        self.assertCountEqual(heard, [(name, dict) for name in note])

    def test_a_step_of_the_environment_needs_no_tensorflow(self):
        if not ops.loaded():
            self.skipTest(ops.status())
        env = Profiler(CountingEnv(), steps=range(20, 90))
        agent = small_agent.make(env, random_steps=10, train_every=1_000)
        fit(agent, 100)
        self.assertEqual(agent.replay.inserted, 100)
        self.assertEqual(agent.progress.explored, 90)
        expected = {"tfsac.batches", "tfsac.replay"}
        self.assertContainsSubset(expected, env.modules)
        libraries = "tensorflow", "keras", "logging", "absl"
        called = {
            name for name in env.modules if name.split(".")[0] in libraries
        }
        # That alone which says whether a function is being traced.
        self.assertEqual(called, {"tensorflow.python.eager.context"})

    def test_epoch_logs(self):
        env = Recorder(CountingEnv())
        agent = small_agent.make(env, random_steps=12)
        at_end = [0]
        note = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda *_: at_end.append(len(env.finished))
        )
        history = fit(
            agent,
            10,
            epochs=3,
            callbacks=[note],
            validation_env=counting_env.ID,
            validation_episodes=2,
        )
        logs = history.history
        with self.subTest("the same keys from the first epoch on"):
            keys = {*LOGS, "val_episode_return"}
            self.assertEqual(set(logs), keys)
            for values in logs.values():
                self.assertLen(values, 3)
        with self.subTest("means over the calls of the epoch"):
            # Call 1 is after 12 transitions.
            for key in LEARNED:
                self.assertTrue(math.isnan(logs[key][0]))
                self.assertEqual(logs[key][1:], [5.0, 14.5])
        with self.subTest("means over the episodes that ended in it"):
            for epoch in range(3):
                finished = env.finished[at_end[epoch] : at_end[epoch + 1]]
                self.assertNotEmpty(finished)
                episode_return, length = np.mean(finished, axis=0)
                self.assertAllClose(
                    logs["episode_return"][epoch], episode_return
                )
                self.assertEqual(logs["episode_length"][epoch], length)

    def test_without_an_episode_that_ended(self):
        agent = small_agent.make("Pendulum-v1", random_steps=0)
        logs = fit(agent, 3).history
        self.assertEqual(set(logs), set(LOGS))
        self.assertAllEqual(logs["episode_return"], [math.nan])
        self.assertAllEqual(logs["episode_length"], [math.nan])

    def test_steps_per_second_is_of_training_alone(self):
        agent = small_agent.make(counting_env.ID, num_envs=2)
        clock = mock.patch("time.perf_counter", side_effect=[1, 3, 13, 14])
        with (
            small_agent.validating(0, 0),
            clock,
        ):
            logs = fit(agent, 5, epochs=2, validation_episodes=1).history
        self.assertEqual(logs["steps_per_second"], [6 / 2, 4 / 1])

    def test_stopping_in_the_middle_of_an_epoch(self):
        agent = small_agent.make(counting_env.ID, num_envs=4, random_steps=0)
        ends = []

        def stop(batch, logs):
            agent.stop_training = batch == 5

        note = keras.callbacks.LambdaCallback(
            on_train_batch_end=stop,
            on_epoch_end=lambda epoch, logs: ends.append(epoch),
            on_train_end=lambda logs: ends.append("train"),
        )
        with small_agent.validating() as evaluate:
            history = fit(
                agent, 20, epochs=5, callbacks=[note], validation_episodes=9
            )
        evaluate.assert_not_called()
        self.assertTrue(math.isnan(history.history["val_episode_return"][0]))
        self.assertEqual(ends, [0, "train"])
        self.assertEqual(history.history["env_steps"], [8])
        # The calls that were due are made up for.
        self.assertLen(self.update.env_steps, 6)
        fit(agent, 4)
        self.assertLen(self.update.env_steps, 12)

    def test_epochs_are_numbered_as_in_keras(self):
        agent = small_agent.make(counting_env.ID)
        history = fit(agent, 3, initial_epoch=4, epochs=6)
        self.assertEqual(history.epoch, [4, 5])
        self.assertEqual(agent.env_steps, 6)
        self.assertIs(agent.history, history)
        self.assertEmpty(fit(agent, 3, initial_epoch=6, epochs=6).epoch)
        self.assertEqual(agent.env_steps, 6)

    def test_validation_is_from_the_same_starts_in_each_epoch(self):
        agent = small_agent.make(counting_env.ID)
        with mock.patch.object(
            agent, "explore", lambda rows: np.zeros([len(rows), 2])
        ):
            logs = fit(agent, 3, epochs=3, validation_episodes=4).history
        expected = agent.evaluate(episodes=4, seed=agent.seed)
        self.assertEqual(
            logs["val_episode_return"], [expected["episode_return"]] * 3
        )

    @parameterized.parameters(
        # verbose, on a terminal: as numbers of lines, and with a bar?
        (0, True, 0, False),
        (1, False, 2, True),
        (2, True, 2, False),
        ("auto", True, 2, True),
        ("auto", False, 2, False),
    )
    def test_verbose(self, verbose, is_terminal, lines, bar):
        agent = small_agent.make(counting_env.ID, random_steps=0)
        output = io.StringIO()
        output.isatty = lambda: is_terminal
        with contextlib.redirect_stdout(output):
            fit(agent, 10, epochs=2, verbose=verbose)
        text = output.getvalue()
        self.assertEqual(text.count("/2\n"), lines)  # "Epoch 1/2"
        self.assertEqual("10/10" in text, verbose != 0)
        self.assertEqual("env_steps" in text, verbose != 0)
        self.assertEqual("\u2501" in text, bar)


if __name__ == "__main__":
    tf.test.main()
