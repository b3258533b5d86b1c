import contextlib
import random
from unittest import mock

import counting_env
import gymnasium
import hypothesis
import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from counting_env import CountingEnv
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from hypothesis import strategies as st

from tfsac.env import EnvStream
from tfsac.env_batch import derive_seeds
from tfsac.transition import Transition

NEXT_STEP, SAME_STEP, DISABLED = AutoresetMode


def vector(
    num_envs,
    mode,
    reuse=False,
    env=CountingEnv,
    vectorize=SyncVectorEnv,
    **kwargs,
):
    makers = [lambda i=i: env(i, reuse) for i in range(num_envs)]
    return vectorize(makers, autoreset_mode=mode, **kwargs)


def random_action(stream, rng):
    """`[E, A]`, uniform in the envs' bounds."""
    low, high = stream.action_space.low, stream.action_space.high
    return rng.uniform(low, high, (stream.num_envs, len(low))).astype(
        np.float32
    )


def run(stream, steps, seed=0):
    """Random actions; returns all transitions and all finished episodes."""
    rng = np.random.default_rng(seed)
    stream.reset(seed)
    parts, episodes = [], []
    for _ in range(steps):
        parts.append(stream.step(random_action(stream, rng)))
        episodes += stream.episodes
    fields = zip(*parts, strict=True)
    return Transition(*map(np.concatenate, fields)), episodes


def equal(a, b):
    return all(
        x.dtype == y.dtype and x.tobytes() == y.tobytes()
        for x, y in zip(a, b, strict=True)
    )


class TransitionsTest(parameterized.TestCase, tf.test.TestCase):
    """Every transition is stored, and none that did not happen."""

    def check(self, transitions, episodes, num_envs):
        finished = []
        for i in range(num_envs):
            rows = transitions.env_index == i
            t = Transition(*(field[rows] for field in transitions))
            _, episode, time, length, end = t.observation.T
            # One step further in the same episode, the last one included.
            step = t.next_observation - t.observation
            self.assertAllEqual(step, [[0, 0, 1, 0, 0]] * len(step))
            # Flags that belong to this step.
            last = time + 1 == length
            self.assertAllEqual(t.terminated, last & (end != 1))
            self.assertAllEqual(t.truncated, last & (end != 0))
            self.assertAllClose(t.reward, time + t.action.sum(1))
            # Nothing left out, nothing twice.
            if len(time):
                self.assertEqual(time[0], 0)
            self.assertAllEqual(time[1:], np.where(last, 0, time + 1)[:-1])
            self.assertAllEqual(episode[1:], (episode + last)[:-1])
            for number in episode[last]:
                rows = episode == number
                total = t.reward[rows].sum()
                finished.append((i, total, rows.sum()))
        self.assertLen(episodes, len(finished))
        # As finished, and each environment's in its order.
        in_order = sorted(episodes, key=lambda episode: episode.env_index)
        self.assertAllClose(in_order, finished)

    @hypothesis.given(
        num_envs=st.integers(1, 4),
        mode=st.sampled_from(AutoresetMode),
        reuse=st.booleans(),
        steps=st.integers(1, 40),
        seed=st.integers(0, 2**40),
    )
    def test_sync_vector_env(self, num_envs, mode, reuse, steps, seed):
        # Gymnasium itself loses a reused final observation in this mode.
        env = vector(num_envs, mode, reuse and mode is not SAME_STEP)
        transitions, episodes = run(EnvStream(env), steps, seed)
        self.check(transitions, episodes, num_envs)
        stored = np.bincount(transitions.env_index, minlength=num_envs)
        self.assertAllEqual(stored, [each.steps for each in env.envs])

    @hypothesis.given(
        num_envs=st.integers(1, 4),
        reuse=st.booleans(),
        steps=st.integers(1, 40),
        seed=st.integers(0, 2**40),
    )
    def test_own_envs(self, num_envs, reuse, steps, seed):
        spec = gymnasium.make(
            counting_env.ID,
            reuse=reuse,
            disable_env_checker=True,  # which warns of reused arrays
        ).spec
        transitions, episodes = run(EnvStream(spec, num_envs), steps, seed)
        transitions.observation[:, 0] = transitions.env_index
        transitions.next_observation[:, 0] = transitions.env_index
        self.check(transitions, episodes, num_envs)
        self.assertLen(transitions.reward, steps * num_envs)

    @parameterized.parameters(*AutoresetMode)
    def test_reset_at_any_time(self, mode):
        stream = EnvStream(vector(3, mode))
        for steps in range(20):  # also right after an episode's end
            run(stream, 1 + steps)
            self.check(*run(stream, 20), 3)

    def test_one_env(self):
        env = CountingEnv(reuse=True)
        transitions, episodes = run(EnvStream(env), 100)
        self.check(transitions, episodes, 1)
        self.assertEqual(env.steps, 100)

    @parameterized.named_parameters(
        ("next_step", NEXT_STEP, True),
        ("same_step", SAME_STEP, True),
        ("disabled", DISABLED, True),
        ("disabled_through_pipes", DISABLED, False),
    )
    def test_async_vector_env(self, mode, shared_memory):
        env = vector(
            2,
            mode,
            vectorize=AsyncVectorEnv,
            context="forkserver",  # TensorFlow has threads by now
            shared_memory=shared_memory,
            copy=False,
        )
        with contextlib.closing(env):
            transitions, episodes = run(EnvStream(env), 60)
            self.check(transitions, episodes, 2)
            stored = np.bincount(transitions.env_index)
            self.assertAllEqual(stored, env.get_attr("steps"))

    @parameterized.parameters(*AutoresetMode)
    def test_dict_observations(self, mode):
        transitions, episodes = run(EnvStream(vector(3, mode, env=DictEnv)), 60)
        self.check(transitions, episodes, 3)

    def test_final_observations_as_one_array(self):
        env = BatchedFinalObs(vector(3, SAME_STEP))
        transitions, episodes = run(EnvStream(env), 60)
        self.check(transitions, episodes, 3)

    def test_types(self):
        stream = EnvStream(counting_env.ID, 2)
        transitions, _ = run(stream, 3)
        dtypes = [field.dtype.name for field in transitions]
        self.assertEqual(
            dtypes,
            ["float32"] * 4 + ["bool"] * 2 + ["int32"],
        )


class DictEnv(CountingEnv):
    observation_space = gymnasium.spaces.Dict(
        a=gymnasium.spaces.Box(-1, np.inf, (3,)),
        b=gymnasium.spaces.Tuple([gymnasium.spaces.Box(-1, np.inf, (2,))]),
    )

    def _observation(self):
        state = super()._observation().astype(np.float32)
        return {"a": state[:3], "b": (state[3:],)}


class BatchedFinalObs(gymnasium.vector.VectorWrapper):
    """As vector environments that are not Gymnasium's own do."""

    def step(self, actions):
        *answer, infos = super().step(actions)
        if "final_obs" in infos:
            rows = np.full_like(answer[0], np.nan)
            ended = infos["_final_obs"]
            rows[ended] = np.stack(infos["final_obs"][ended])
            infos["final_obs"] = rows
        return *answer, infos


class SeedsTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.parameters("own", *AutoresetMode)
    def test_same_seed_same_stream(self, mode):
        def stream():
            if mode == "own":
                return EnvStream(counting_env.ID, 3)
            return EnvStream(vector(3, mode))

        first, _ = run(stream(), 50, seed=7)
        random.seed(1)
        np.random.seed(1)
        again, _ = run(stream(), 50, seed=7)
        other, _ = run(stream(), 50, seed=8)
        self.assertTrue(equal(first, again))
        self.assertFalse(equal(first, other))

    def test_two_streams_in_turn(self):
        alone, _ = run(EnvStream(counting_env.ID), 30, seed=7)
        streams = [EnvStream(counting_env.ID) for _ in range(2)]
        rngs = [np.random.default_rng(7) for _ in range(2)]
        for stream in streams:
            stream.reset(7)
        parts = []
        for _ in range(30):
            for stream, rng in zip(streams, rngs, strict=True):
                parts.append(stream.step(random_action(stream, rng)))
        for part in (parts[::2], parts[1::2]):
            fields = map(np.concatenate, zip(*part, strict=True))
            self.assertTrue(equal(alone, fields))

    def test_global_random_state_is_left_alone(self):
        before = random.getstate(), np.random.get_state()[1].tobytes()
        run(EnvStream(counting_env.ID, 2), 20)
        after = random.getstate(), np.random.get_state()[1].tobytes()
        self.assertEqual(before, after)

    def test_no_seed_goes_on(self):
        env = CountingEnv()
        stream = EnvStream(env)
        stream.reset(3)
        state = env.np_random.bit_generator.state
        stream.reset()
        env.np_random.bit_generator.state, after = state, env.state.copy()
        env.reset()
        self.assertAllEqual(env.state[3:], after[3:])

    def test_environments_and_seeds_share_no_starts(self):
        starts = [
            seed
            for purpose in ("training", "evaluation")
            for agent in range(50)
            for seed in derive_seeds(agent, purpose, 20)
        ]
        self.assertLen(set(starts), 2 * 50 * 20)
        self.assertEqual(
            derive_seeds(5, "training", 3), derive_seeds(5, "training", 9)[:3]
        )


class ActionsTest(tf.test.TestCase):
    def test_environment_gets_its_own_type_within_its_bounds(self):
        env = CountingEnv()
        env.action_space = gymnasium.spaces.Box(-0.1, 0.1, (2,), np.float64)
        stream = EnvStream(env)
        stream.reset(0)
        with mock.patch.object(env, "step", wraps=env.step) as step:
            # The nearest float32 is larger than the bound, 0.1.
            stored = stream.step(np.array([[0.1, -0.1]], np.float32)).action
        (given,) = step.call_args.args
        self.assertIn(given, env.action_space)
        self.assertAllEqual(given, [0.1, -0.1])
        self.assertAllEqual(stored, np.float32([[0.1, -0.1]]))

    def test_stored_action_is_a_copy(self):
        class Greedy(CountingEnv):
            def step(self, action):
                answer = super().step(action)
                action[:] = np.nan
                return answer

        stream = EnvStream(Greedy())
        stream.reset(0)
        action = np.ones((1, 2), np.float32)
        stored = stream.step(action).action
        self.assertAllEqual(action, [[1, 1]])
        action[:] = 2
        self.assertAllEqual(stored, [[1, 1]])

    def test_bad_action_does_not_reach_the_environment(self):
        env = CountingEnv()
        stream = EnvStream(env)
        stream.reset(0)
        for action, message in [
            (np.zeros((2, 2)), r"shape \(1, 2\).*shape \(2, 2\)"),
            (np.zeros(2), r"shape \(1, 2\).*shape \(2,\)"),
            (np.array([[np.nan, 0]]), "finite actions.*nan.*diverged"),
        ]:
            with self.assertRaisesRegex(ValueError, f"(?s){message}"):
                stream.step(action)
        self.assertEqual(env.steps, 0)
        stream.step(np.zeros((1, 2)))
        self.assertEqual(env.steps, 1)


class PassedTest(parameterized.TestCase, tf.test.TestCase):
    """What a user may pass, and whose it is."""

    def test_closes_what_it_made_and_nothing_else(self):
        with mock.patch.object(CountingEnv, "close") as close:
            EnvStream(CountingEnv()).close()
            EnvStream(vector(2, NEXT_STEP)).close()
            self.assertEqual(close.call_count, 0)
            EnvStream(counting_env.ID, 3).close()
            self.assertEqual(close.call_count, 3)

    def test_closes_what_it_made_if_it_does_not_fit(self):
        with mock.patch.object(CountingEnv, "close") as close:
            with mock.patch.object(
                CountingEnv, "action_space", gymnasium.spaces.MultiBinary(2)
            ):
                with self.assertRaisesRegex(
                    ValueError, "(?s)a Box.*MultiBinary.*'Counting-v0'"
                ):
                    EnvStream(counting_env.ID, 3)
            self.assertEqual(close.call_count, 3)

    def test_number_of_environments(self):
        self.assertEqual(EnvStream(vector(3, NEXT_STEP)).num_envs, 3)
        self.assertEqual(EnvStream(vector(3, NEXT_STEP), 3).num_envs, 3)
        with self.assertRaisesRegex(ValueError, "Expected num_envs=3.*=2"):
            EnvStream(vector(3, NEXT_STEP), 2)
        with self.assertRaisesRegex(ValueError, "(?s)=1.*'CountingEnv'.*=2"):
            EnvStream(CountingEnv(), 2)
        with self.assertRaisesRegex(ValueError, ">= 1. Received: 0"):
            EnvStream(counting_env.ID, 0)

    def test_something_else(self):
        with self.assertRaisesRegex(TypeError, "environment id.*3.*int"):
            EnvStream(3)
        with self.assertRaisesRegex(gymnasium.error.Error, "Nowhere"):
            EnvStream("Nowhere-v0")

    @parameterized.parameters({}, {"autoreset_mode": "Sometimes"})
    def test_unknown_autoreset_mode(self, **metadata):
        env = vector(2, NEXT_STEP)
        env.metadata = metadata
        with self.assertRaisesRegex(
            ValueError, "(?s)autoreset_mode.*'SyncVectorEnv'.*guess"
        ):
            EnvStream(env)


if __name__ == "__main__":
    tf.test.main()
