"""The agent as its users meet it: compilation, own loops, seeds."""

import hashlib
import os
import pathlib
import random
import subprocess
import sys
from concurrent import futures
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
from small_agent import LEARNED, changed, fit, state

import tfsac
from tfsac import ops, sac_update

SPACES = CountingEnv.observation_space, CountingEnv.action_space


def run_under_xla():
    """Two fits with remainders; returns a digest of what was learned."""
    agent = small_agent.make(
        counting_env.ID, jit_compile=True, num_envs=2, train_every=3
    )
    for steps in (10, 7):
        fit(agent, steps, epochs=2)
        agent.log_alpha.assign(1.0)
        agent.actor_optimizer.learning_rate = 0.1
    arrays = [value.tobytes() for value in state(agent).values()]
    return f"{agent.updates} {hashlib.sha256(b''.join(arrays)).hexdigest()}"


class CompiledStepTest(tf.test.TestCase):
    """One compilation serves for ever."""

    def test_two_fits_with_remainders_trace_once(self):
        with mock.patch.object(
            sac_update, "update", wraps=sac_update.update
        ) as traced:
            agent = small_agent.make(
                counting_env.ID, num_envs=2, train_every=3, updates_per_step=2
            )
            fit(agent, 10, epochs=2)
            fit(agent, 7, epochs=2)
        self.assertEqual(traced.call_count, 1)
        self.assertEqual(agent.env_steps, 34)
        # Calls at 3, 6, ..., 33; the first two came before 5 transitions.
        self.assertEqual(agent.updates, 6 * (11 - 1))

    def test_xla_compiles_once_and_gives_the_same_in_each_process(self):
        """Counts what XLA itself was given to compile."""
        dump = pathlib.Path(self.get_temp_dir(), "xla")
        flags = f"--xla_dump_to={dump} --xla_dump_hlo_pass_re=NONE"
        tests = pathlib.Path(__file__).parent
        script = "import agent_test; print(agent_test.run_under_xla())"
        process = subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": str(tests)},
            cwd=tests.parent,
            capture_output=True,
            text=True,
        )
        self.assertEqual(process.returncode, 0, msg=process.stderr[-2000:])
        kinds = [
            path.name.split("__XlaMustCompile")[0].split(".")[1]
            for path in dump.glob("*.before_optimizations.txt")
        ]
        expected = ["a_inference_updates"]
        if not ops.loaded():  # which explore without TensorFlow
            expected.append("a_inference__sample")
        self.assertCountEqual(
            [kind.rstrip("_0123456789") for kind in kinds], expected
        )
        np.random.seed(1)
        keras.utils.set_random_seed(1)
        self.assertEqual(process.stdout.strip(), run_under_xla())

    def test_temperature_and_rates_are_live(self):
        with mock.patch.object(
            sac_update, "update", wraps=sac_update.update
        ) as traced:
            agent = small_agent.make(SPACES)
            agent.replay.insert(small_agent.transitions(agent, 20))
            agent.update()
            with self.subTest("temperature"):
                agent.log_alpha.assign(np.log(0.25))
                self.assertAllClose(agent.update()["alpha"], 0.25)
                agent.log_alpha.assign(np.log(4.0))
                self.assertAllClose(agent.update()["alpha"], 4.0)
            for name in ("actor", "critic", "temperature"):
                with self.subTest(f"{name}'s learning rate"):
                    optimizer = getattr(agent, f"{name}_optimizer")
                    part = {"temperature": "log_alpha"}.get(name, name)
                    optimizer.learning_rate = 0.0
                    before = state(agent)
                    agent.update()
                    after = state(agent)
                    self.assertNotIn(part, changed(before, after))
                    optimizer.learning_rate = 0.1
                    agent.update()
                    self.assertIn(part, changed(after, state(agent)))
        self.assertEqual(traced.call_count, 1)


class CompileTest(parameterized.TestCase, tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.agent = small_agent.make(SPACES)
        self.agent.replay.insert(small_agent.transitions(self.agent, 20))

    def test_defaults_are_those_of_sac(self):
        rate = self.agent.config.learning_rate
        self.assertLen(self.agent.optimizer.optimizers, 3)
        for optimizer in self.agent.optimizer.optimizers:
            self.assertIsInstance(optimizer, keras.optimizers.Adam)
            self.assertAllClose(optimizer.learning_rate, rate)
            self.assertEqual(optimizer.epsilon, 1e-8)

    def test_summary_counts_weights_and_optimizers(self):
        lines = []
        self.agent.summary(print_fn=lines.append)
        text = "\n".join(lines)
        weights = sum(value.size for value in self.agent.get_weights())
        slots = sum(
            variable.numpy().size
            for optimizer in self.agent.optimizer.optimizers
            for variable in optimizer.variables
        )
        self.assertIn(f" {weights + slots:,} ", text)
        self.assertIn(f" {slots:,} ", text)
        self.assertEqual(self.agent.count_params(), weights)

    def test_other_optimizers(self):
        self.agent.compile(
            actor_optimizer=keras.optimizers.SGD(0.5, momentum=0.9),
            critic_optimizer="rmsprop",
            temperature_optimizer=keras.optimizers.AdamW(
                keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5),
                clipnorm=1.0,
            ),
            jit_compile=False,
        )
        before = state(self.agent)
        self.agent.update()
        self.assertLen(changed(before, state(self.agent)), 7)
        self.assertLen(self.agent.critic_optimizer.variables, 2 + 4)
        self.assertAllClose(
            self.agent.temperature_optimizer.learning_rate, 0.1 * 0.5**0.5
        )

    def test_one_optimizer_cannot_serve_two(self):
        adam = keras.optimizers.Adam()
        before = self.agent.optimizer
        with self.assertRaisesRegex(
            ValueError, "of its own for the actor. Received: 'adam.*new one"
        ):
            self.agent.compile(actor_optimizer=adam, critic_optimizer=adam)
        self.assertIs(self.agent.optimizer, before)
        other = small_agent.make(SPACES)
        with self.assertRaisesRegex(ValueError, "of its own for the actor"):
            other.compile(actor_optimizer=self.agent.actor_optimizer)
        self.agent.update()

    def test_compiling_again_with_the_same_optimizer_keeps_its_state(self):
        self.agent.update()
        adam = self.agent.critic_optimizer
        self.agent.compile(critic_optimizer=adam, jit_compile=False)
        self.assertIs(self.agent.critic_optimizer, adam)
        self.agent.update()
        self.assertEqual(adam.iterations, 2)
        self.assertEqual(self.agent.actor_optimizer.iterations, 1)

    def test_fixed_temperature(self):
        agent = small_agent.make(SPACES, temperature=0.3)
        agent.replay.insert(small_agent.transitions(agent, 20))
        logs = agent.update()
        self.assertEqual(list(logs), list(LEARNED))
        self.assertAllClose(logs["alpha"], 0.3)
        self.assertEqual(logs["temperature_loss"], 0)
        self.assertAllClose(agent.update()["alpha"], 0.3)
        self.assertIsNone(agent.temperature_optimizer)
        self.assertLen(agent.optimizer.optimizers, 2)


class OwnLoopTest(parameterized.TestCase, tf.test.TestCase):
    def test_insert_and_update(self):
        agent = small_agent.make(SPACES)
        with self.assertRaisesRegex(
            tf.errors.InvalidArgumentError, "(?i)empty"
        ):
            agent.update()
        agent.replay.insert(small_agent.transitions(agent, 3))
        before = state(agent)
        logs = agent.update(updates=4)
        self.assertEqual(list(logs), list(LEARNED))
        self.assertEqual(agent.updates, 4)
        self.assertAllClose(
            logs["loss"],
            logs["critic_loss"] + logs["actor_loss"] + logs["temperature_loss"],
        )
        self.assertEqual(
            changed(before, state(agent)),
            {
                *("actor", "critic", "target_critic", "log_alpha"),
                *("actor_optimizer", "critic_optimizer"),
                "temperature_optimizer",
            },
        )
        with self.assertRaisesRegex(ValueError, "updates: .*Received: 0"):
            agent.update(updates=0)
        self.assertEqual(agent.updates, 4)

    def test_default_is_the_configured_number(self):
        agent = small_agent.make(SPACES, train_every=2, updates_per_step=1.5)
        agent.replay.insert(small_agent.transitions(agent, 3))
        agent.update()
        self.assertEqual(agent.updates, 3)

    def test_a_prepared_update_runs_anywhere_on_what_was_there(self):
        agents = small_agent.make(SPACES), small_agent.make(SPACES)
        for agent in agents:
            agent.replay.insert(small_agent.transitions(agent, 20))
        expected = agents[0].update(updates=3)
        run = agents[1].prepare_update(updates=3)
        self.assertEqual(agents[1].updates, 0)
        agents[1].replay.insert(small_agent.transitions(agents[1], 20, seed=1))
        with futures.ThreadPoolExecutor() as pool:
            self.assertEqual(pool.submit(run).result(), expected)
        self.assertEmpty(changed(*map(state, agents)))
        self.assertEqual(agents[1].updates, 3)

    def test_fit_and_evaluate_say_that_there_is_no_environment(self):
        agent = small_agent.make(SPACES)
        with self.assertRaisesRegex(
            ValueError, "(?s)to train on.*env=.*replay.insert.*update"
        ):
            agent.fit()
        with self.assertRaisesRegex(ValueError, "to evaluate on, as env="):
            agent.evaluate()
        with self.assertRaisesRegex(ValueError, "validation_env="):
            agent.fit(env=CountingEnv(), validation_env=None)
        self.assertEqual(agent.env_steps, 0)
        # With an environment, both work.
        fit(agent, 3, env=CountingEnv())
        self.assertEqual(agent.env_steps, 3)
        agent.evaluate(env=CountingEnv(), episodes=1)

    @parameterized.parameters(
        (spaces.MultiBinary(2), "of a Discrete"),
        (spaces.Box(-np.inf, 1, (2,)), "finite bounds"),
    )
    def test_actions_that_sac_cannot_take(self, space, message):
        with self.assertRaisesRegex(ValueError, message):
            tfsac.SAC((SPACES[0], space))


class SeedTest(tf.test.TestCase):
    """Equal seeds give equal runs, bit for bit, whatever else is drawn."""

    def run_epoch(self, agents):
        """One epoch of each agent; returns each one's history and state."""
        results = []
        for agent in agents:
            history = fit(agent, 12, validation_episodes=1).history
            del history["steps_per_second"]
            results.append((history, state(agent)))
        return results

    def test_interleaved_and_disturbed(self):
        first, second = (
            small_agent.make(counting_env.ID, seed=7, num_envs=2)
            for _ in range(2)
        )
        other = small_agent.make(counting_env.ID, seed=8, num_envs=2)
        for epoch in range(3):
            random.seed(epoch)
            np.random.seed(epoch)
            keras.utils.set_random_seed(epoch)
            [(history, variables)] = self.run_epoch([first])
            np.random.random(3)
            tf.random.normal([2])
            gymnasium.make(counting_env.ID).reset()
            _, (again, same) = self.run_epoch([other, second])
            np.testing.assert_equal(again, history)  # NaN equals NaN
            for name in variables:
                self.assertEqual(
                    variables[name].tobytes(), same[name].tobytes(), msg=name
                )
        self.assertGreater(first.updates, 20)
        rows = [agent.replay.sample(2, 8) for agent in (first, second, other)]
        self.assertAllEqual(rows[0].reward, rows[1].reward)
        self.assertNotAllEqual(rows[0].reward, rows[2].reward)

    def test_without_a_seed_runs_differ_and_tell_theirs(self):
        first, second = (tfsac.SAC(SPACES) for _ in range(2))
        self.assertNotEqual(first.seed, second.seed)
        again = tfsac.SAC(SPACES, seed=first.seed)
        self.assertEmpty(changed(state(first), state(again)))
        self.assertContainsSubset(
            ["actor", "critic"], changed(state(first), state(second))
        )


if __name__ == "__main__":
    tf.test.main()
