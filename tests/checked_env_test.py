import warnings
from unittest import mock

import counting_env
import gymnasium
import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from counting_env import CountingEnv
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorWrapper

from tfsac.env import EnvError, EnvStream

STILL = np.zeros((1, 2), np.float32)


class LongEnv(CountingEnv):
    """Counts to a hundred; answers something else at a given step."""

    def __init__(self, breakage=None, at=3):
        super().__init__()
        self.breakage = breakage
        self.at = at

    def reset(self, **kwargs):
        answer = super().reset(**kwargs)
        self.state[3] = 100
        return answer

    def step(self, action):
        answer = super().step(action)
        broken = self.breakage is not None and self.steps == self.at
        return self.breakage(*answer) if broken else answer


class StuckEnv(CountingEnv):
    """Fails in its second reset."""

    def reset(self, **kwargs):
        if self.resets == 1:
            self.resets = 2
            raise OSError("the robot is stuck")
        return super().reset(**kwargs)


def observation(new):
    return lambda o, r, te, tr, info: (new, r, te, tr, info)


def reward(new):
    return lambda o, r, te, tr, info: (o, new, te, tr, info)


def explode(*answer):
    raise ZeroDivisionError("boom")


BREAKAGES = {
    "raises": (explode, "ZeroDivisionError: boom"),
    "old_api": (lambda o, r, te, tr, i: (o, r, te, i), "to return .obs.*info"),
    "nan": (observation(np.array([0, 0, np.nan, 0, 0])), "finite obs.* nan "),
    "infinite": (observation(np.array([0, 0, 0, np.inf, 0])), "finite.* inf "),
    "too_large": (observation(np.full(5, 1e300)), "finite.*as float32.*inf"),
    "short": (observation(np.zeros(4)), r"shape \(5,\).*shape \(4,\)"),
    "batch_of_one": (observation(np.zeros((1, 5))), r"\('O',\).*\(1, 5\)"),
    "no_numbers": (observation(["a"] * 5), "a number type.*<U1"),
    "none": (observation(None), "a number type.*object, None"),
    "nan_reward": (reward(np.nan), "finite rewards.*nan"),
    "infinite_reward": (reward(-np.inf), "finite rewards.*-inf"),
    "large_reward": (reward(1e39), "finite rewards.*float32.*1e.39"),
    "reward_array": (reward(np.ones(1)), r"a number as reward.*\[1\.\]"),
    "no_reward": (reward(None), "a number as reward.*None"),
    "terminated": (
        lambda o, r, te, tr, info: (o, r, 0, tr, info),
        "terminated to be a bool.*0",
    ),
    "swapped": (
        lambda o, r, te, tr, info: (o, r, te, info, tr),
        "truncated to be a bool.*{}",
    ),
}


class ErrorsTest(parameterized.TestCase, tf.test.TestCase):
    """Broken environments are named, and nothing before is lost."""

    @parameterized.parameters(*BREAKAGES)
    def test_single(self, name):
        breakage, message = BREAKAGES[name]
        stream = EnvStream(LongEnv(breakage))
        stream.reset(0)
        times = [stream.step(STILL).observation[0, 2] for _ in range(2)]
        self.assertEqual(times, [0, 1])
        with self.assertRaisesRegex(
            EnvError, f"(?s)'LongEnv'.*in step 3.*{message}"
        ) as caught:
            stream.step(STILL)
        if name == "raises":
            cause = caught.exception.__cause__
            self.assertIsInstance(cause, ZeroDivisionError)
        # What comes after is not one step away from what came before.
        with self.assertRaisesRegex(EnvError, r"'LongEnv'.*Call reset\(\)"):
            stream.step(STILL)
        stream.reset(0)
        self.assertEqual(stream.step(STILL).observation[0, 2], 0)

    def test_number_like_answers_are_fine(self):
        def unusual(o, r, te, tr, info):
            return list(o), np.float32(2), np.bool_(te), np.array(tr), info

        stream = EnvStream(LongEnv(unusual))
        stream.reset(0)
        for _ in range(3):
            transitions = stream.step(STILL)
        self.assertAllEqual(transitions.next_observation[0, :3], [0, 0, 3])
        self.assertAllEqual(transitions.reward, [2])
        self.assertAllEqual(transitions.truncated, [False])
        self.assertEqual(transitions.truncated.dtype, bool)

    @parameterized.parameters(
        (lambda self, **_: np.zeros(5), "to return .observation, info"),
        (lambda self, **_: (np.full(5, np.nan), {}), "finite observations"),
        (explode, "TypeError.*'seed'"),
    )
    def test_first_reset(self, reset, message):
        env = type("ResetEnv", (CountingEnv,), {"reset": reset})()
        with self.assertRaisesRegex(
            EnvError, f"'ResetEnv', in the reset after 0 steps.*{message}"
        ):
            EnvStream(env).reset(0)

    def test_failing_reset_loses_no_transition(self):
        stream = EnvStream(StuckEnv())
        stream.reset(0)
        times = []
        with self.assertRaisesRegex(EnvError, "after . steps.*OSError.*stuck"):
            while True:
                times.append(stream.step(STILL).observation[0, 2])
        self.assertLen(times, stream.env.lengths[0])
        self.check_needs_reset(stream)

    def test_failing_reset_amid_an_episode(self):
        stream = EnvStream(StuckEnv())
        stream.reset(0)
        with self.assertRaisesRegex(EnvError, "after 0 steps.*OSError.*stuck"):
            stream.reset()
        self.check_needs_reset(stream)

    def check_needs_reset(self, stream):
        self.assertFalse(stream.is_running)
        with self.assertRaisesRegex(EnvError, r"Call reset\(\)"):
            stream.step(STILL)
        stream.reset()
        self.assertTrue(stream.is_running)
        self.assertAllEqual(stream.observation[0, 1:3], [1, 0])

    def test_interrupted_step_is_no_transition(self):
        def interrupt(*answer):
            raise KeyboardInterrupt

        stream = EnvStream(LongEnv(interrupt, at=1))
        stream.reset(0)
        with self.assertRaises(KeyboardInterrupt):
            stream.step(STILL)
        self.check_needs_reset(stream)

    def test_never_reset(self):
        stream = EnvStream(CountingEnv())
        self.assertFalse(stream.is_running)
        with self.assertRaisesRegex(EnvError, r"Call reset\(\)"):
            stream.step(STILL)

    def test_which_of_several(self):
        stream = EnvStream(counting_env.ID, 3)
        stream.reset(0)
        fine = np.zeros(5), 0.0, False, False, {}
        with mock.patch.object(CountingEnv, "step") as step:
            step.side_effect = [fine, ZeroDivisionError]
            with self.assertRaisesRegex(EnvError, r"'Counting-v0'\[1\], in"):
                stream.step(np.zeros((3, 2)))


class Altered(VectorWrapper):
    def __init__(self, mode, alter):
        super().__init__(SyncVectorEnv([CountingEnv] * 2, autoreset_mode=mode))
        self.alter = alter

    def step(self, actions):
        return self.alter(*super().step(actions))


def poison(o, *rest):
    o[1, 2] = np.nan
    return o, *rest


class VectorErrorsTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.parameters(
        (poison, r"finite.*nan.*from sub-environment 1"),
        (explode, "ZeroDivisionError: boom"),
        (
            lambda o, r, te, tr, info: (o[:1], r, te, tr, info),
            r"flatten to the shape \(2, 'O'\).*shape \(1, 5\)",
        ),
        (
            lambda o, r, te, tr, info: (o, r[:, None], te, tr, info),
            r"rewards of shape \(2,\)",
        ),
        (
            lambda o, r, te, tr, info: (o, r, te.astype(float), tr, info),
            r"terminated to be bools of shape \(2,\)",
        ),
    )
    def test_step(self, alter, message):
        for mode in AutoresetMode:
            stream = EnvStream(Altered(mode, alter))
            stream.reset(0)
            with self.assertRaisesRegex(
                EnvError, f"(?s)'SyncVectorEnv', in step 1: .*{message}"
            ):
                stream.step(np.zeros((2, 2)))

    @parameterized.parameters(
        (lambda *answer: (*answer[:4], {}), "infos..final_obs.*SAME_STEP"),
        (
            lambda *answer: (*answer[:4], {"final_obs": np.array([None] * 2)}),
            "a number type.*None",
        ),
    )
    def test_lost_final_observation(self, alter, message):
        stream = EnvStream(Altered(AutoresetMode.SAME_STEP, alter))
        stream.reset(0)
        with self.assertRaisesRegex(EnvError, message):
            for _ in range(counting_env.LONGEST):
                stream.step(np.zeros((2, 2)))

    def test_worker_that_died(self):
        env = gymnasium.vector.AsyncVectorEnv(
            [CountingEnv] * 2, context="forkserver"
        )
        stream = EnvStream(env)
        stream.reset(0)
        stream.step(np.zeros((2, 2)))
        env.processes[1].kill()
        with self.assertRaisesRegex(EnvError, "'AsyncVectorEnv', in step 2"):
            stream.step(np.zeros((2, 2)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a step is not over, it says
            env.close(terminate=True)


if __name__ == "__main__":
    tf.test.main()
