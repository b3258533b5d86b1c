"""Each way an environment can fail, in worker i at step t: the promise."""

import contextlib
import itertools
import multiprocessing
import pathlib
import subprocess
import sys
import tempfile
import time
import warnings
from unittest import mock

import counting_env
import gymnasium
import numpy as np
import pytest
import small_agent
import tensorflow as tf
import wandering_env
from absl.testing import parameterized
from counting_env import CountingEnv
from failing_env import FAULTS, ID, IN_PROCESS
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv
from small_agent import fit

import tfsac
from tfsac.env import EnvStream

TIMEOUT = 2.0  # also what docs/reliability.md says of those that end
# A machine that runs other tests meanwhile may take so much longer.
BUSY_SECONDS = 10.0
WORKERS = 2
# Each fault in some worker at some step, and in each at each.
SOME = [(f, i % WORKERS, 1 + i % 3) for i, f in enumerate(FAULTS)]
ALL = [*itertools.product(FAULTS, range(WORKERS), (1, 2, 7))]


def make_workers(num_envs=WORKERS, context="forkserver", **kwargs):
    return gymnasium.make_vec(
        ID,
        num_envs,
        vectorization_mode="async",
        vector_kwargs={"context": context},
        **kwargs,
    )


def is_alive(pid):
    """Whether it runs, or was stopped."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


class FaultsTest(parameterized.TestCase, tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.log = pathlib.Path(tempfile.mkstemp(dir=self.get_temp_dir())[1])
        self.log.write_text("")

    def make(self, **kwargs):
        kwargs = {"worker": 1, "at": 3, "log": str(self.log)} | kwargs
        env = make_workers(**kwargs)
        self.addCleanup(self.end, env)
        self.pids = [process.pid for process in env.processes]
        return env

    def end(self, env):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if not env.closed:
                env.close(terminate=True)

    def check_gap(self, agent, at_least):
        """Each transition stored is one step of one episode."""
        self.assertEqual(agent.env_steps, agent.replay.inserted)
        self.assertGreaterEqual(agent.env_steps, at_least)
        if agent.env_steps:
            rows = agent.replay.sample(1, 500)
            step = rows.next_observation[0] - rows.observation[0]
            self.assertAllEqual(step, np.tile([0, 0, 1, 0, 0], (500, 1)))

    @parameterized.parameters(*SOME)
    def test_the_promise(self, fault, worker, at):
        self.check_promise(fault, worker, at)

    @parameterized.parameters(*ALL)
    @pytest.mark.slow
    def test_the_promise_anywhere(self, fault, worker, at):
        self.check_promise(fault, worker, at)

    @parameterized.parameters("raise", "sigkill", "sigstop")
    def test_the_promise_in_the_default_context(self, fault):
        """As `gymnasium.make_vec` starts processes if nobody says how."""
        self.check_promise(fault, 0, 3, context=None)

    def check_promise(self, fault, worker, at, **kwargs):
        """Named within the time, fresh ones once, then an error; no gap."""
        env = self.make(fault=fault, worker=worker, at=at, times=2, **kwargs)
        agent = small_agent.make(env)
        said = f"(?s)'Failing-v0', in step .*{FAULTS[fault][1]}"
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with self.assertRaisesRegex(tfsac.EnvError, said) as raised:
                fit(agent, 99, env_timeout=TIMEOUT, max_env_restarts=1)
        # The environment writes there when it fails.
        seconds = time.time() - self.log.stat().st_mtime
        self.assertLess(seconds, TIMEOUT + BUSY_SECONDS)
        self.assertIn("After 1 restarts", raised.exception.__notes__[0])
        [told] = [str(w.message) for w in caught if "fresh" in str(w.message)]
        self.assertRegex(told, f"{said}.*number 1 of at most 1")
        for message in (told, str(raised.exception)):
            self.assertIn(f"sub-environment {worker}", message)
        # What came before is there, and nothing of the steps that failed.
        self.check_gap(agent, 2 * (at - 1))
        self.assertFalse(any(map(is_alive, self.pids)))
        agent._stream.close()
        self.assertEmpty(multiprocessing.active_children())

    def test_it_goes_on_and_counts(self):
        agent = small_agent.make(self.make(fault="sigkill"))
        with self.assertWarnsRegex(UserWarning, "fresh environments, number 1"):
            history = fit(agent, 60, max_env_restarts=1, epochs=2).history
        self.assertEqual(history["env_restarts"], [1, 0])
        self.assertEqual(agent.pending_steps, 0)
        self.check_gap(agent, 119)
        agent._stream.close()

    @parameterized.parameters("sigkill", "hang", "nan")
    def test_the_agent_is_saved(self, fault):
        folder = tempfile.mkdtemp(dir=self.get_temp_dir())
        agent = small_agent.make(self.make(fault=fault, at=9))
        with self.assertRaises(tfsac.EnvError):
            fit(agent, 99, checkpoint_dir=folder, env_timeout=TIMEOUT)
        self.assertGreater(agent.env_steps, 10)
        loaded = tfsac.load(folder)
        self.assertEqual(loaded.env_steps, agent.env_steps)
        self.check_gap(loaded, agent.env_steps)
        states = map(small_agent.state, (agent, loaded))
        self.assertEmpty(small_agent.changed(*states))

    @parameterized.product(fault=IN_PROCESS, num_envs=[1, 3])
    def test_in_this_process(self, fault, num_envs):
        spec = gymnasium.make(
            ID, fault=fault, worker=0, at=5, log=str(self.log)
        ).spec
        agent = small_agent.make(spec, num_envs=num_envs)
        with self.assertWarnsRegex(UserWarning, "fresh environments, number 1"):
            history = fit(agent, 60, max_env_restarts=1).history
        self.assertEqual(history["env_restarts"], [1])
        self.assertEqual(agent.env_steps, 60)
        self.check_gap(agent, 60)

    def test_a_budget_ends(self):
        spec = gymnasium.make(
            ID, fault="raise", worker=0, at=5, log=str(self.log), times=9
        ).spec
        agent = small_agent.make(spec)
        with (
            self.assertWarns(UserWarning),
            self.assertRaisesRegex(tfsac.EnvError, "ZeroDivision") as caught,
        ):
            fit(agent, 60, max_env_restarts=3)
        self.assertIn("After 3 restarts", caught.exception.__notes__[0])
        self.assertEqual(agent.env_steps, 4 * 4)
        self.assertEqual(self.log.read_text(), "xxxx")

    def test_a_checkpoint_keeps_the_count(self):
        spec = gymnasium.make(
            ID, fault="raise", worker=0, at=5, log=str(self.log)
        ).spec
        run = {"checkpoint_dir": self.get_temp_dir(), "checkpoint_every": 10}
        run |= {"max_env_restarts": 1}
        agent = small_agent.make(spec)
        insert = agent.replay.insert

        def insert_or_end(transitions):
            insert(transitions)
            if agent.env_steps == 15:
                raise KeyboardInterrupt

        with (
            mock.patch.object(agent.replay, "insert", insert_or_end),
            self.assertWarnsRegex(UserWarning, "number 1 of at most 1"),
            self.assertRaises(KeyboardInterrupt),
        ):
            fit(agent, 30, **run)
        agent = small_agent.make(spec)
        self.assertEqual(fit(agent, 30, **run).history["env_restarts"], [1])
        self.check_gap(agent, 30)

    @contextlib.contextmanager
    def failing_reset(self, number):
        """Has that reset fail, and nothing else."""
        reset, count = CountingEnv.reset, itertools.count(1)

        def fail_once(*args, **kwargs):
            if next(count) == number:
                raise OSError("the cable is loose")
            return reset(*args, **kwargs)

        with (
            mock.patch.object(CountingEnv, "reset", fail_once),
            self.assertWarnsRegex(UserWarning, "cable.*number 1 of at most 1"),
        ):
            yield

    @parameterized.parameters(1, 2)  # the first one, that of a checkpoint
    def test_a_reset_that_fails(self, number):
        agent = small_agent.make(counting_env.ID)
        with self.failing_reset(number):
            history = fit(
                agent,
                30,
                checkpoint_dir=tempfile.mkdtemp(dir=self.get_temp_dir()),
                checkpoint_every=5,
                max_env_restarts=1,
            ).history
        self.assertEqual(history["env_restarts"], [1])
        self.check_gap(agent, 30)

    def test_a_reset_that_fails_when_the_run_goes_on(self):
        run = {"checkpoint_dir": tempfile.mkdtemp(dir=self.get_temp_dir())}
        run |= {"max_env_restarts": 1}
        fit(small_agent.make(counting_env.ID), 30, **run)
        agent = small_agent.make(counting_env.ID)
        with self.failing_reset(1):
            history = fit(agent, 30, epochs=2, **run).history
        self.assertEqual(history["env_restarts"], [0, 1])
        self.check_gap(agent, 60)

    @parameterized.parameters(None, 7, 9)  # before the second, between the two
    def test_killed_amid_failures_it_is_the_same_run(self, kill):
        whole = self.failing_run([4, 8, 8], [])
        killed = self.failing_run([4, 8, 8], [kill] if kill else [])
        self.assertLen(set(whole[1]), 3)
        self.assertEqual(killed[1][-2:], whole[1][-2:])
        self.assertEmpty(small_agent.changed(whole[0], killed[0]))

    def failing_run(self, failures, kills):
        """Fails before these steps; returns the weights, and the new seeds."""
        folder = tempfile.mkdtemp(dir=self.get_temp_dir())
        failures, kills, seeds = [*failures], [*kills], []
        step, restart = EnvStream.step, EnvStream.restart

        def fail(stream, action):
            if failures and agent.env_steps == failures[0]:
                failures.pop(0)
                raise tfsac.EnvError("the cable is loose")
            if kills and agent.env_steps == kills[0]:
                kills.pop(0)
                failures[:0] = [8, 8][len(failures) :]  # they come again
                raise KeyboardInterrupt
            return step(stream, action)

        def note(stream, seed):
            seeds.append(seed)
            restart(stream, seed)

        with (
            mock.patch.object(EnvStream, "step", fail),
            mock.patch.object(EnvStream, "restart", note),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore", UserWarning)
            while True:
                agent = small_agent.make(wandering_env.ID)
                try:
                    fit(
                        agent,
                        20,
                        checkpoint_dir=folder,
                        checkpoint_every=6,
                        max_env_restarts=3,
                    )
                except KeyboardInterrupt:
                    continue
                return small_agent.state(agent), seeds

    def test_the_same_seed_goes_on_in_the_same_way(self):
        weights = []
        for _ in range(2):
            self.log.write_text("")
            spec = gymnasium.make(
                ID, fault="raise", worker=0, at=9, log=str(self.log)
            ).spec
            agent = small_agent.make(spec)
            with self.assertWarns(UserWarning):
                fit(agent, 30, max_env_restarts=1)
            weights.append(small_agent.state(agent))
        self.assertEmpty(small_agent.changed(*weights))

    def test_what_cannot_be_made_again_is_refused_before_training(self):
        for env in (CountingEnv(), SyncVectorEnv([CountingEnv] * 2)):
            agent = small_agent.make(env)
            with self.assertRaisesRegex(ValueError, "made again.*max_env_res"):
                fit(agent, max_env_restarts=1)
            self.assertEqual(agent.env_steps, 0)

    def test_what_cannot_be_stopped_is_refused_before_training(self):
        for env in (counting_env.ID, SyncVectorEnv([CountingEnv] * 2)):
            agent = small_agent.make(env)
            with self.assertRaisesRegex(ValueError, "processes.*env_timeout="):
                fit(agent, env_timeout=1.0)
            self.assertEqual(agent.env_steps, 0)

    def test_an_interrupted_step_can_be_begun_anew(self):
        env = AsyncVectorEnv([CountingEnv] * 2, context="forkserver")
        self.addCleanup(self.end, env)
        agent = small_agent.make(env)
        wait, count = AsyncVectorEnv.step_wait, []

        def interrupt(*args):
            count.append(args)
            if len(count) == 4:
                raise KeyboardInterrupt
            return wait(*args)

        with (
            mock.patch.object(AsyncVectorEnv, "step_wait", interrupt),
            self.assertRaises(KeyboardInterrupt),
        ):
            fit(agent, 20)
        fit(agent, 20)
        self.check_gap(agent, 20)

    def test_no_worker_outlives_this_process(self):
        program = """
import sys, time
sys.path[:0] = sys.argv[1:]
import gymnasium
if __name__ == "__main__":
    env = gymnasium.make_vec("Pendulum-v1", 3, vectorization_mode="async",
                             vector_kwargs={"context": "forkserver"})
    import tfsac.env
    stream = tfsac.env.EnvStream(env)
    stream.reset(0)
    print(*(process.pid for process in env.processes), flush=True)
    time.sleep(100)
"""
        root = pathlib.Path(tfsac.__file__).parent.parent
        file = self.log.with_suffix(".py")
        file.write_text(program)
        parent = subprocess.Popen(
            [sys.executable, file, root], stdout=subprocess.PIPE, text=True
        )
        pids = [*map(int, parent.stdout.readline().split())]
        self.assertLen(pids, 3)
        parent.kill()
        parent.communicate()
        deadline = time.monotonic() + 30
        while any(map(is_alive, pids)) and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assertFalse(any(map(is_alive, pids)))


if __name__ == "__main__":
    tf.test.main()
