"""The environment goes on while the step learns, and nothing is left to chance.

The oracle is `in_sequence`: the same run by one thread, from the definition.
"""

import pathlib
import signal
import sys
import threading
import time
import traceback
from unittest import mock

import counting_env
import keras
import numpy as np
import small_agent
import tensorflow as tf
from absl.testing import parameterized
from counting_env import CountingEnv
from small_agent import ConstantActor, changed, fit, state

import tfsac

LEARNS_FAST = {"learning_rate": 0.03, "overlap": True}


@keras.saving.register_keras_serializable("tests")
class NormalisedActor(keras.Model):
    """Acts by averages that training moves, which are no trainable weights."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.norm = keras.layers.BatchNormalization(momentum=0.5)
        self.head = keras.layers.Dense(
            4, kernel_initializer=keras.initializers.GlorotUniform(seed=1)
        )

    def call(self, observation, training=False):
        x = keras.ops.cast(observation, "float32")
        return keras.ops.split(
            self.head(self.norm(x, training=training)), 2, axis=-1
        )


def in_sequence(agent, steps, epochs=1):
    """What `fit` should do; returns the loss of each call of the step."""
    stream, progress = agent._training_stream(), agent.progress
    if not stream.is_running:
        agent.restart_episodes()
    end, losses = progress.env_steps, []
    for _ in range(epochs):
        end += steps
        before_the_last_call = None
        while progress.env_steps < end:
            now = agent.actor.get_weights()
            agent.actor.set_weights(before_the_last_call or now)
            transitions = stream.step(agent.explore(stream.observation))
            agent.actor.set_weights(now)
            agent.replay.insert(transitions)
            progress.env_steps += len(transitions.reward)
            while progress.pending_steps >= agent.config.train_every:
                progress.answered_steps += agent.config.train_every
                if agent.can_learn:
                    before_the_last_call = agent.actor.get_weights()
                    losses.append(agent.update()["loss"])
    return losses


def content(agent):
    """Fields of draws from the replay buffer, many for each row."""
    return [field.numpy() for field in agent.replay.sample(20, 50)]


def wrap_calls(agent, wrapper):
    """Has `wrapper(n, learn)` run the nth call of the step, from 0 on."""
    prepare, count = agent.prepare_update, []

    def prepare_wrapped():
        learn, n = prepare(), len(count)
        count.append(n)
        return lambda: wrapper(n, learn)

    return mock.patch.object(agent, "prepare_update", prepare_wrapped)


class HookedEnv(CountingEnv):
    """Calls `hook(n, action)` in its nth step, from 1 on."""

    def __init__(self, hook):
        super().__init__()
        self._hook, self._calls = hook, 0

    def step(self, action):
        self._calls += 1
        self._hook(self._calls, action)
        return super().step(action)


class OverlapTest(parameterized.TestCase, tf.test.TestCase):
    def tearDown(self):
        names = [thread.name for thread in threading.enumerate()]
        self.assertEmpty([name for name in names if "tfsac" in name])
        super().tearDown()

    def assert_equal_runs(self, *agents):
        self.assertEmpty(changed(*map(state, agents)))
        for fields in zip(*map(content, agents), strict=True):
            self.assertAllEqual(*fields)
        self.assertEqual(*(agent.progress for agent in agents))


class ResultTest(OverlapTest):
    """A run is a function of its seed, bit for bit."""

    @parameterized.parameters(
        # E, train_every, updates_per_step, XLA, the actor
        (1, 1, 1, True, None),
        (3, 1, 1, False, None),  # three calls at once
        (3, 4, 1, False, None),
        (1, 1, 1, False, NormalisedActor),
        (1, 4, 0.5, False, NormalisedActor),
    )
    def test_it_is_that_of_the_definition(
        self, num_envs, train_every, updates_per_step, jit_compile, actor
    ):
        agents = [
            small_agent.make(
                counting_env.ID,
                jit_compile,
                num_envs=num_envs,
                models={"actor": actor and actor()},
                train_every=train_every,
                updates_per_step=updates_per_step,
                **LEARNS_FAST,
            )
            for _ in range(2)
        ]
        losses = []

        def note(batch, logs):
            losses.extend([logs["loss"]] if logs else [])

        see = keras.callbacks.LambdaCallback(on_train_batch_end=note)
        # Chunks go over the ends of epochs and fits.
        fit(agents[0], 22, epochs=2, callbacks=[see])
        fit(agents[0], 7, callbacks=[see])
        expected = in_sequence(agents[1], 22, epochs=2)
        expected += in_sequence(agents[1], 7)
        self.assertEqual(losses, expected)
        self.assertGreater(agents[0].updates, 20)
        self.assert_equal_runs(*agents)

    def test_only_that_it_overlaps_makes_the_difference(self):
        agents = [
            small_agent.make(counting_env.ID, **LEARNS_FAST | {"overlap": on})
            for on in (True, False)
        ]
        weights = [len(agent.get_weights()) for agent in agents]
        self.assertEqual(*weights)  # a snapshot is nobody's weights
        for agent in agents:
            fit(agent, 30)
        self.assertEqual(*(agent.progress for agent in agents))
        self.assertEqual(*(agent.updates for agent in agents))
        self.assertIn("actor", changed(*map(state, agents)))

    def test_it_comes_back_and_goes_on(self):
        agent = small_agent.make(
            counting_env.ID, train_every=4, num_envs=3, **LEARNS_FAST
        )
        fit(agent, 22)
        path = pathlib.Path(self.get_temp_dir()) / "agent"
        agent.save(path, include_replay=True)
        loaded = [tfsac.load(path) for _ in range(2)]
        self.assertTrue(loaded[0].config.overlap)
        self.assertEmpty(changed(state(agent), state(loaded[0])))
        fit(loaded[0], 22)
        in_sequence(loaded[1], 22)
        self.assert_equal_runs(*loaded)


class ConcurrencyTest(OverlapTest):
    def test_environment_and_step_run_at_the_same_time(self):
        """Each call begins before a step of the env ends, and ends after it."""
        meeting = threading.Barrier(2, timeout=10)

        def step(n, action):
            # Calls are due at 2, 4, 6 and 8; nobody steps after the last.
            if n > 2:
                meeting.wait()

        def call(n, learn):
            if n == 3:
                return learn()
            meeting.wait()
            metrics = learn()
            meeting.wait()
            return metrics

        env = HookedEnv(step)
        agent = small_agent.make(
            env, random_steps=0, train_every=2, overlap=True
        )
        with wrap_calls(agent, call):
            fit(agent, 8)
        self.assertEqual(agent.updates, 8)

    def test_it_begins_even_if_the_environment_is_busy_python(self):
        begun, seen = [], []
        env = HookedEnv(lambda n, action: seen.append(list(begun)))
        agent = small_agent.make(env, random_steps=0, overlap=True)

        def call(n, learn):
            begun.append(n)
            return learn()

        middle = np.float32([[0, 5]])
        acts = mock.patch.object(agent, "explore", lambda *_: middle)
        self.addCleanup(sys.setswitchinterval, sys.getswitchinterval())
        sys.setswitchinterval(1)  # seconds for which it may keep the GIL
        with acts, wrap_calls(agent, call):
            fit(agent, 4)
        self.assertEqual(seen, [[], [0], [0, 1], [0, 1, 2]])


class CallbacksTest(OverlapTest):
    def test_they_see_what_they_see_in_turn(self):
        """On their own thread, with as many updates as they were told of."""
        seen = {}
        for overlap in (True, False):
            agent = small_agent.make(
                counting_env.ID, train_every=3, overlap=overlap
            )
            hooks = seen[overlap] = []

            def see(hook, agent=agent, hooks=hooks):
                def tell(*args, **kwargs):
                    updates = agent.updates
                    time.sleep(0.002)  # in which a call in flight would go on
                    self.assertEqual(agent.updates, updates)
                    thread = threading.current_thread()
                    index = [a for a in args if isinstance(a, int)]
                    hooks.append((hook, *index, updates, thread))

                return tell

            batch = "train_batch_begin train_batch_end".split()
            epoch = "train_begin epoch_begin epoch_end test_begin train_end"
            note = keras.callbacks.LambdaCallback()
            for hook in [*epoch.split(), *batch]:
                setattr(note, f"on_{hook}", see(hook))
            logs = fit(
                agent, 11, epochs=3, callbacks=[note], validation_episodes=1
            ).history
            self.assertEqual(logs["env_steps"], [11, 22, 33])
        self.assertEqual(seen[True], seen[False])
        threads = {thread for *_, thread in seen[True]}
        self.assertEqual(threads, {threading.current_thread()})

    def test_a_batch_ends_when_the_next_chunk_was_collected(self):
        agent = small_agent.make(
            counting_env.ID, random_steps=4, train_every=2, overlap=True
        )
        seen = []
        note = keras.callbacks.LambdaCallback(
            on_train_batch_begin=lambda batch, logs: seen.append(
                ("begin", batch, agent.env_steps, agent.pending_steps)
            ),
            on_train_batch_end=lambda batch, logs: seen.append(
                ("end", batch, agent.env_steps, agent.pending_steps)
            ),
        )
        fit(agent, 9, callbacks=[note])
        self.assertEqual(
            seen,
            [
                ("begin", 0, 2, 2),  # in the random phase: nothing to wait for
                ("end", 0, 2, 0),
                ("begin", 1, 4, 2),
                ("end", 1, 6, 2),
                ("begin", 2, 6, 2),
                ("end", 2, 8, 2),
                ("begin", 3, 8, 2),
                ("end", 3, 9, 1),  # at the epoch's end
            ],
        )

    def test_weights_that_they_set_act_from_the_next_chunk_on(self):
        acted = []
        env = HookedEnv(lambda n, action: acted.append(action[0]))
        agent = small_agent.make(
            env,
            random_steps=0,
            train_every=2,
            learning_rate=1e-12,
            overlap=True,
            models={"actor": ConstantActor([0.0, 0.0], [-20.0, -20.0])},
        )
        means = iter(np.arange(1, 10) / 10)
        fresh = []

        def set_mean(*_, **__):
            mean = next(means)
            agent.actor.set_weights([np.array([[mean, 0], [-20, -20]])])
            explored = agent.explore(np.zeros((1, 5), np.float32))
            fresh.append((explored[0, 0], np.tanh(mean)))

        note = keras.callbacks.LambdaCallback(
            on_train_batch_end=set_mean, on_epoch_end=set_mean
        )
        fit(agent, 6, epochs=2, callbacks=[note])
        set_mean()
        fit(agent, 1)
        # Batches end at 4, 6, 6, 10, 12 and 12, epochs at 6 and 12.
        expected = [0, 0, 0, 0, 1, 1, 4, 4, 4, 4, 5, 5, 9]
        self.assertAllClose(np.arctanh(acted) * 10, expected, atol=1e-4)
        self.assertAllClose(*np.transpose(fresh), atol=1e-5)

    def test_they_can_stop_it(self):
        agent = small_agent.make(
            counting_env.ID, num_envs=4, random_steps=0, overlap=True
        )
        ended = []

        def stop(batch, logs):
            ended.append(batch)
            agent.stop_training = batch == 5

        note = keras.callbacks.LambdaCallback(on_train_batch_end=stop)
        fit(agent, 20, callbacks=[note])
        self.assertEqual(ended, [0, 1, 2, 3, 4, 5])
        self.assertEqual((agent.env_steps, agent.pending_steps), (8, 2))
        self.assertEqual(agent.updates, 6)
        fit(agent, 4)  # the calls that were due are made up for
        self.assertEqual((agent.updates, agent.pending_steps), (12, 0))


class FailureTest(OverlapTest):
    """Nothing is left running, and the counts are those of what was done."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.agent = small_agent.make(
            CountingEnv(), random_steps=0, train_every=2, overlap=True
        )

    def setUp(self):
        super().setUp()
        self.before = self.agent.env_steps, self.agent.updates

    def assert_done(self, env_steps, updates, pending_steps):
        begin = self.before
        self.assertEqual(self.agent.env_steps - begin[0], env_steps)
        self.assertEqual(self.agent.updates - begin[1], updates)
        self.assertEqual(self.agent.pending_steps, pending_steps)

    @parameterized.parameters(
        (ValueError("boom"), tfsac.EnvError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    )
    def test_of_the_environment(self, error, expected):
        def fail_once(n, action):
            if n == 6:
                raise error

        def slow(n, learn):
            time.sleep(0.01)
            return learn()

        with wrap_calls(self.agent, slow), self.assertRaises(expected):
            fit(self.agent, 10, env=HookedEnv(fail_once))
        self.assert_done(5, 4, 1)
        fit(self.agent, 10)
        self.assert_done(15, 14, 1)
        fit(self.agent, 1)

    @parameterized.parameters(7, 6)  # the epoch ends after the call, or with it
    def test_of_the_step(self, steps):
        def fail(n, learn):
            if n == 2:
                raise OSError("in the step")
            return learn()

        with wrap_calls(self.agent, fail):
            try:
                fit(self.agent, steps)
                self.fail("nothing was raised")
            except OSError as error:
                frames = traceback.extract_tb(error.__traceback__)
                self.assertIsNone(error.__context__)
        names = [frame.name for frame in frames]
        self.assertEqual(names[-1], "fail")  # where it happened
        self.assertEqual(names.count("_epoch"), 1)  # and told once
        self.assert_done(steps, 4, steps - 4)  # it stays due
        fit(self.agent, 10 - steps)
        self.assert_done(10, 10, 0)

    def test_of_both(self):
        def fail_in_the_env(n, action):
            if n == 3:
                raise ValueError("in the env")

        def fail_in_the_step(n, learn):
            raise OSError("in the step")

        failing = wrap_calls(self.agent, fail_in_the_step)
        with failing, self.assertRaises(OSError) as caught:
            fit(self.agent, 5, env=HookedEnv(fail_in_the_env))
        self.assertIsInstance(caught.exception.__context__, tfsac.EnvError)
        self.assert_done(2, 0, 2)
        fit(self.agent, 2)
        self.assert_done(4, 4, 0)

    def test_interrupted_while_waiting_for_the_step(self):
        # A shell that starts the tests in the background has it ignored.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        self.addCleanup(signal.signal, signal.SIGINT, before)

        def interrupt(n, learn):
            if n == 1:  # the last of the epoch
                time.sleep(0.02)
                main = threading.main_thread().ident
                signal.pthread_kill(main, signal.SIGINT)
                time.sleep(0.02)
            return learn()

        with wrap_calls(self.agent, interrupt):
            with self.assertRaises(KeyboardInterrupt):
                fit(self.agent, 4)
        self.assert_done(4, 4, 0)
        fit(self.agent, 2)
        self.assert_done(6, 6, 0)

    def test_of_a_callback(self):
        failing = keras.callbacks.LambdaCallback(
            on_train_batch_end=mock.Mock(side_effect=[None, OSError])
        )
        with self.assertRaises(OSError):
            fit(self.agent, 9, callbacks=[failing])
        self.assert_done(6, 4, 2)
        fit(self.agent, 2)
        self.assert_done(8, 8, 0)


if __name__ == "__main__":
    tf.test.main()
