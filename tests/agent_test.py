"""The agent as its users meet it: environments, own loops, failures, seeds."""

import contextlib
import os
import pathlib
import random
import subprocess
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
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from small_agent import LEARNED, SampledEnv, changed, fit, state

import tfsac
from tfsac import step

SPACES = CountingEnv.observation_space, CountingEnv.action_space


class CompiledStepTest(tf.test.TestCase):
    """One compilation serves for ever."""

    def test_two_fits_with_remainders_trace_once(self):
        with mock.patch.object(step, "update", wraps=step.update) as traced:
            agent = small_agent.make(
                counting_env.ID, num_envs=2, train_every=3, updates_per_step=2
            )
            fit(agent, 10, epochs=2)
            fit(agent, 7, epochs=2)
        self.assertEqual(traced.call_count, 1)
        self.assertEqual(agent.env_steps, 34)
        # Calls at 3, 6, ..., 33; the first two came before 5 transitions.
        self.assertEqual(agent.updates, 6 * (11 - 1))

    def test_xla_compiles_once(self):
        """Counts what XLA itself was given to compile."""
        dump = pathlib.Path(self.get_temp_dir(), "xla")
        script = (
            "import counting_env, small_agent\n"
            "agent = small_agent.make(\n"
            "    counting_env.ID, jit_compile=True, num_envs=2, train_every=3\n"
            ")\n"
            "for steps in (10, 7):\n"
            "    small_agent.fit(agent, steps, epochs=2)\n"
            "    agent.log_alpha.assign(1.0)\n"
            "    agent.actor_optimizer.learning_rate = 0.1\n"
            "print(agent.updates)\n"
        )
        flags = f"--xla_dump_to={dump} --xla_dump_hlo_pass_re=NONE"
        tests = pathlib.Path(__file__).parent
        process = subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": str(tests)},
            cwd=tests.parent,
            capture_output=True,
            text=True,
        )
        self.assertEqual(process.stdout, "30\n", msg=process.stderr[-2000:])
        compiled = [
            path.name.split("__XlaMustCompile")[0].split(".")[1]
            for path in dump.glob("*.before_optimizations.txt")
        ]
        kinds = [name.rstrip("_0123456789") for name in compiled]
        self.assertSameElements(
            kinds, ["a_inference_run", "a_inference__sample"]
        )
        self.assertLen(kinds, 2)

    def test_temperature_and_rates_are_live(self):
        with mock.patch.object(step, "update", wraps=step.update) as traced:
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
        (spaces.Discrete(2), "continuous"),
        (spaces.Box(-np.inf, 1, (2,)), "finite bounds"),
    )
    def test_actions_that_sac_cannot_take(self, space, message):
        with self.assertRaisesRegex(ValueError, message):
            tfsac.SAC((SPACES[0], space))


class EnvironmentsTest(parameterized.TestCase, tf.test.TestCase):
    """Whatever the environment is, it can be learned from."""

    def check(self, agent, rows=13):
        fit(agent, rows, validation_episodes=0)
        self.assertBetween(agent.env_steps, rows, rows + agent.num_envs)
        self.assertGreater(agent.updates, 0)
        self.assertAllInRange(
            np.concatenate([w.ravel() for w in agent.get_weights()]), -100, 100
        )

    @parameterized.parameters(*AutoresetMode)
    def test_sync_vector_env(self, mode):
        env = SyncVectorEnv([CountingEnv] * 3, autoreset_mode=mode)
        agent = small_agent.make(env)
        self.assertEqual(agent.num_envs, 3)
        self.check(agent)

    def test_async_vector_env(self):
        env = AsyncVectorEnv([CountingEnv] * 2, context="forkserver")
        with contextlib.closing(env):
            agent = small_agent.make(env)
            self.check(agent)
            # A fresh one for evaluation cannot be made of functions.
            with self.assertRaisesRegex(ValueError, "no spec"):
                agent.evaluate()

    def test_env_made_by_gymnasium(self):
        for env in (
            gymnasium.make(counting_env.ID),
            gymnasium.spec(counting_env.ID),
            gymnasium.make_vec(counting_env.ID, num_envs=2),
        ):
            agent = small_agent.make(env)
            self.check(agent)
            self.assertEqual(list(agent.evaluate(episodes=2)), [
                "episode_return", "episode_return_std", "episode_length"
            ])

    @parameterized.parameters(
        (spaces.Box(0, 255, (4,), np.uint8), 4, "uint8"),
        (
            spaces.Dict(
                arm=spaces.Box(-1, 1, (2, 2), np.float64),
                gear=spaces.Discrete(3),
            ),
            7,
            "float32",
        ),
    )
    def test_observations(self, space, size, dtype):
        agent = small_agent.make(SampledEnv(space))
        self.check(agent)
        rows = agent.replay.sample(1, 4).observation
        self.assertEqual(rows.shape, [1, 4, size])
        self.assertEqual(rows.dtype, dtype)
        self.assertNotAllEqual(rows[0, 0], rows[0, 1])

    def test_another_env_from_now_on(self):
        agent = small_agent.make(counting_env.ID, num_envs=2)
        fit(agent, 4)
        env = CountingEnv()
        with mock.patch.object(CountingEnv, "close") as close:
            fit(agent, 4, env=env)
        self.assertEqual(close.call_count, 2)  # those that the agent made
        self.assertEqual(env.steps, 4)
        self.assertIs(agent.env, env)
        fit(agent, 4)
        self.assertEqual(env.steps, 8)
        with self.assertRaisesRegex(ValueError, "(?s)5 numbers.*3 numbers"):
            fit(agent, 4, env="Pendulum-v1")
        self.assertIs(agent.env, env)


class EvaluationTest(tf.test.TestCase):
    def test_training_env_is_left_alone(self):
        env = gymnasium.make(counting_env.ID)
        counting = env.unwrapped
        agent = small_agent.make(env)
        seen = []

        def see(*_):
            seen.append((counting.steps, counting.resets))

        note = keras.callbacks.LambdaCallback(on_epoch_end=see)
        fit(agent, 20, epochs=2, callbacks=[note], validation_episodes=3)
        agent.evaluate(episodes=3)
        see()
        self.assertEqual([steps for steps, _ in seen], [20, 40, 40])
        self.assertEqual(seen[1], seen[2])
        self.assertLen(counting.lengths, counting.resets)

    def test_training_env_is_refused(self):
        env = CountingEnv()
        agent = small_agent.make(env)
        fit(agent, 3)
        wrapped = gymnasium.wrappers.RecordEpisodeStatistics(env)
        for training_env in (env, wrapped):
            with self.assertRaisesRegex(
                ValueError, "of its own.*'CountingEnv', which the agent trains"
            ):
                agent.evaluate(training_env)
            with self.assertRaisesRegex(ValueError, "which the agent trains"):
                fit(
                    agent,
                    validation_env=training_env,
                    validation_episodes=1,
                )
        self.assertEqual((env.steps, env.resets), (3, env.resets))

    def test_what_cannot_be_evaluated_fails_before_training(self):
        env = CountingEnv()
        agent = small_agent.make(env)
        begun = []
        note = keras.callbacks.LambdaCallback(on_train_begin=begun.append)
        for options, message in (
            ({}, "(?s)no spec.*validation_env="),
            ({"validation_env": "Pendulum-v1"}, "5 numbers.*3 numbers"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                agent.fit(callbacks=[note], verbose=0, **options)
        self.assertEmpty(begun)
        self.assertEqual(env.steps, 0)
        history = fit(agent, 3, validation_episodes=0, callbacks=[note])
        self.assertNotIn("val_episode_return", history.history)
        self.assertLen(begun, 1)

    def test_known_returns(self):
        """The policy that always takes the middle of the box."""
        actor = small_agent.ConstantActor([0.0, 0.0], [-1.0, -1.0])
        agent = small_agent.make(counting_env.ID, models={"actor": actor})
        env = CountingEnv()
        result = agent.evaluate(env, episodes=30, seed=3)
        lengths = np.array(env.lengths)
        returns = lengths * (lengths - 1) / 2 + lengths * 5
        self.assertAllClose(result["episode_return"], returns.mean())
        self.assertAllClose(result["episode_return_std"], returns.std())
        self.assertAllClose(result["episode_length"], lengths.mean())
        again = agent.evaluate(episodes=30, seed=3, return_dict=False)
        self.assertAllClose(again, list(result.values()))

        sampled = [
            agent.evaluate(episodes=30, seed=3, deterministic=False)
            for _ in range(2)
        ]
        self.assertEqual(*sampled)
        self.assertNotEqual(sampled[0], result)


class FailureTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.parameters(
        (ValueError("boom"), tfsac.EnvError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    )
    def test_env_that_fails_leaves_the_agent_usable(self, error, expected):
        env = CountingEnv()
        agent = small_agent.make(env)
        take, count = env.step, []

        def fail_once(action):
            count.append(action)
            if len(count) == 12:
                raise error
            return take(action)

        env.step = fail_once
        with self.assertRaises(expected):
            fit(agent, 20)
        self.assertEqual(agent.env_steps, 11)
        self.assertEqual(agent.replay.inserted, 11)
        self.assertEqual(agent.updates, 7)
        resets = env.resets
        fit(agent, 20)
        self.assertGreater(env.resets, resets)  # an episode was broken off
        self.assertEqual(agent.env_steps, 31)
        self.assertEqual(agent.replay.inserted, 31)
        self.assertEqual(agent.updates, 27)

    def test_diverged_policy_is_told_before_the_env_sees_it(self):
        actor = small_agent.ConstantActor([np.nan, 0.0], [0.0, 0.0])
        env = CountingEnv()
        agent = small_agent.make(env, models={"actor": actor}, random_steps=0)
        with self.assertRaisesRegex(ValueError, "(?s)finite actions.*diverged"):
            fit(agent)
        self.assertEqual(env.steps, 0)


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
            small_agent.make(
                counting_env.ID, jit_compile=True, seed=7, num_envs=2
            )
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
