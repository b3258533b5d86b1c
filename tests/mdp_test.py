"""What a finite MDP may be."""

import dataclasses

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from tfsac.mdp import MDP


class MDPTest(parameterized.TestCase, tf.test.TestCase):
    def fields(self, **changes):
        return {
            "transition": np.full((2, 3, 2), 0.5),
            "reward": np.zeros((2, 3)),
            "terminal": np.zeros(2, bool),
            "discount": 0.9,
        } | changes

    @parameterized.named_parameters(
        ("rank", {"transition": np.eye(2)}, r"\[S, A, S\].*\[2, 2\]"),
        ("next_states", {"transition": np.ones((2, 3, 1))}, r"\[S, A, S\]"),
        ("sum", {"transition": np.ones((2, 3, 2))}, "differ from 1 by up to 1"),
        ("negative", {"transition": [[[2.0, -1.0]] * 3] * 2}, "value of -1"),
        ("empty", {"transition": np.ones((2, 0, 2))}, "at least one action"),
        ("nan", {"reward": np.full((2, 3), np.nan)}, "must be finite"),
        ("reward", {"reward": np.zeros((3, 2))}, r"= \[2, 3\].*\[3, 2\]"),
        ("terminal", {"terminal": [0, 1]}, "booleans.*int64"),
        ("terminals", {"terminal": [True]}, r"\[2\] booleans.*\[1\]"),
        ("discount", {"discount": 1.0}, "close to 1.*discount=1.0"),
        ("nan_discount", {"discount": np.nan}, "discount=nan"),
    )
    def test_what_does_not_fit_is_refused(self, changes, message):
        MDP(**self.fields())
        with self.assertRaisesRegex(ValueError, message):
            MDP(**self.fields(**changes))

    def test_it_cannot_be_changed(self):
        fields = self.fields()
        mdp = MDP(**fields)
        fields["reward"][:] = 1.0
        self.assertAllEqual(mdp.reward, np.zeros((2, 3)))
        with self.assertRaisesRegex(ValueError, "read-only"):
            mdp.transition[0] = 0.0
        with self.assertRaises(dataclasses.FrozenInstanceError):
            mdp.discount = 0.5


if __name__ == "__main__":
    tf.test.main()
