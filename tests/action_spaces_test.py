"""Which actions an agent can have, and what environments are given."""

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from gymnasium import spaces

from tfsac.action_spaces import check_action_space, to_env_actions


class ActionSpaceTest(parameterized.TestCase, tf.test.TestCase):
    def test_fits(self):
        for dtype in (np.float16, np.float32, np.float64):
            space = spaces.Box(
                np.array([-1, 0], dtype), np.array([1, 9], dtype), dtype=dtype
            )
            self.assertIs(check_action_space(space, "env"), space)
        for space in (
            spaces.Discrete(3, start=-2),
            spaces.Discrete(2**16),
            spaces.MultiDiscrete([3, 1, 2], start=[0, -5, 7]),
        ):
            self.assertIs(check_action_space(space, "env"), space)

    @parameterized.parameters(
        (spaces.MultiBinary(3), "Box of a floating.*TransformAction"),
        (spaces.Box(0, 9, (2,), np.int32), "Box of a floating type, of a Dis"),
        (spaces.Tuple([spaces.Box(-1, 1)]), "or of a MultiDiscrete"),
        (spaces.MultiDiscrete([[2, 2], [3, 3]]), "rank 1.*TransformAction"),
        (spaces.Discrete(2**16 + 1), "at most 65,536.*has 65,537"),
        (spaces.MultiDiscrete([10] * 10), "each combination.*10,000,000,000"),
        (spaces.Discrete(2, start=2**24), "exactly.*Number them from 0"),
        (spaces.MultiDiscrete([2, 2], start=[0, -(2**24) - 1]), "exactly"),
        (spaces.Box(-1, 1, (2, 2)), "rank 1.*TransformAction"),
        (spaces.Box(-1, 1, ()), "rank 1"),
        (spaces.Box(-1, 1, (0,)), "rank 1"),
        (spaces.Box(-np.inf, 1, (2,)), "finite bounds.*RescaleAction"),
        (spaces.Box(-3e38, 3e38, (2,)), "finite bounds"),
        (spaces.Box(-1e300, 1, (2,), np.float64), "finite bounds"),
        (spaces.Box(np.float32([0, 1]), np.float32([1, 1])), "low < high"),
        (spaces.Box(1, 1 + 1e-12, (2,), np.float64), "low < high"),
    )
    def test_does_not(self, space, message):
        with self.assertRaisesRegex(ValueError, f"(?s){message}") as caught:
            check_action_space(space, "environment 'Foo-v0'")
        self.assertIn("'Foo-v0'", str(caught.exception))
        self.assertIn(str(space), str(caught.exception))

    @parameterized.parameters(np.float16, np.float32, np.float64)
    def test_actions_in_bounds(self, dtype):
        low, high = np.array([-0.1, 0.7], dtype), np.array([0.3, 5], dtype)
        space = spaces.Box(low, high, dtype=dtype)
        actions = np.array([low, high, [0.1, 2], [-7, 7]]).astype(np.float32)
        given = to_env_actions(space, actions, 4)
        for action in given:
            self.assertIn(action, space)
        self.assertAllEqual(given[0], low)
        self.assertAllEqual(given[1], high)
        self.assertAllEqual(given[2], actions[2].astype(dtype))
        self.assertFalse(np.shares_memory(given, actions))

    @parameterized.parameters(
        (spaces.Discrete(3, start=4), [4, 6]),
        (spaces.Discrete(2, start=4, dtype=np.int32), [4, 5]),
        (spaces.MultiDiscrete([2, 3], start=[1, 0]), [[1, 2], [2, 0]]),
        (spaces.MultiDiscrete([2, 3], np.uint8), [[1, 2], [0, 0]]),
    )
    def test_integers(self, space, actions):
        actions = np.array(actions)
        given = to_env_actions(space, actions, 2)
        self.assertAllEqual(given, actions)
        self.assertEqual(given.dtype, space.dtype)
        self.assertFalse(np.shares_memory(given, actions))
        for action in given:
            self.assertIn(action, space)

    @parameterized.parameters(
        (spaces.Discrete(3, start=4), [3, 4], "integers, actions of Discrete"),
        (spaces.Discrete(3), [0, 3], "integers"),
        (spaces.Discrete(3), [0.0, 1.0], "integers"),
        (spaces.Discrete(3), [[0], [1]], r"shape \(2,\).*\(2, 1\)"),
        (spaces.MultiDiscrete([2, 3]), [[1, 2], [2, 0]], "integers"),
        (spaces.MultiDiscrete([2, 3]), [1, 2], r"shape \(2, 2\)"),
    )
    def test_what_is_no_action(self, space, actions, message):
        with self.assertRaisesRegex(ValueError, f"(?s){message}"):
            to_env_actions(space, np.array(actions), 2)


if __name__ == "__main__":
    tf.test.main()
