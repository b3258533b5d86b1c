"""The report that is written beside every exported policy."""

import json
import pathlib

import export_contract
import numpy as np
import small_agent
import tensorflow as tf
from gymnasium import spaces

from tfsac import parity


class ParityTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.agent = export_contract.agent()

    def _report(self, change):
        def act(rows):
            actions = self.agent.policy.act(rows)
            change(actions)
            return actions

        return parity.report(self.agent, act)

    def test_the_agent_itself(self):
        expected = {
            "observations": 10_000,
            "worst_difference": 0.0,
            "finite_and_in_bounds": True,
        }
        self.assertEqual(
            self._report(lambda actions: None),
            {"ordinary": expected, "extreme": expected},
        )

    def test_one_difference_is_found(self):
        """In units of half the range, 1.2 for the first action."""

        def change(actions):
            # A hundredth, away from the bound.
            actions[1234, 0] += 0.012 * np.sign(-0.7 - actions[1234, 0])

        report = self._report(change)
        worst = report["ordinary"]["worst_difference"]
        self.assertAllClose(worst, 0.01, atol=1e-6)
        self.assertTrue(report["ordinary"]["finite_and_in_bounds"])
        self.assertEqual(report["extreme"]["worst_difference"], 0)

    def test_one_invalid_action_is_found(self):
        for invalid in (np.nan, np.inf, 10.1, -0.1):

            def change(actions, invalid=invalid):
                actions[-1, 1] = invalid

            report = self._report(change)
            self.assertTrue(report["ordinary"]["finite_and_in_bounds"])
            self.assertFalse(report["extreme"]["finite_and_in_bounds"])

    def test_observations(self):
        ordinary, extreme = parity.observations(self.agent)
        self.assertEqual(ordinary.dtype, np.float32)
        self.assertAllInRange(ordinary, -10, 10)
        self.assertAllGreater(ordinary.std(axis=0), 0.5)
        self.assertEqual(extreme.shape, (10_000, 4))
        self.assertAllGreaterEqual(np.abs(extreme).max(axis=1), 1e6)
        self.assertEqual(
            set(np.unique(extreme[np.abs(extreme) > 10])),
            {*np.float32([1e6, 1e20, 3e38, np.inf])}
            | {*-np.float32([1e6, 1e20, 3e38, np.inf])},
        )
        again = parity.observations(self.agent)
        self.assertAllEqual(ordinary, again[0])
        self.assertAllEqual(extreme, again[1])

    def test_any_space_of_observations(self):
        space = spaces.Dict(
            position=spaces.Box(-1, 1, (2, 2)), gear=spaces.Discrete(3)
        )
        agent = small_agent.make((space, export_contract.SPACES[1]))
        ordinary, _ = parity.observations(agent)
        self.assertEqual(ordinary.shape, (10_000, 7))
        one_hot = ordinary[:, 4:]
        self.assertAllEqual(one_hot.sum(axis=1), np.ones(10_000))
        self.assertAllGreater(one_hot.sum(axis=0), 3_000)

        space = spaces.Box(0, 255, (4,), np.uint8)
        agent = small_agent.make((space, export_contract.SPACES[1]))
        ordinary, extreme = parity.observations(agent)
        self.assertEqual(ordinary.dtype, np.uint8)
        self.assertEqual(set(np.unique(extreme)), {0, 255})

    def test_what_cannot_run_here_says_so(self):
        def act(rows):
            raise parity.Unchecked("It is for another machine.")

        self.assertEqual(
            parity.report(self.agent, act),
            {"unchecked": "It is for another machine."},
        )

    def test_it_is_written_beside_a_saved_model(self):
        path = pathlib.Path(self.agent.export(self.get_temp_dir()))
        text = (path / "assets.extra" / "parity.json").read_text()
        report = json.loads(text)
        self.assertLess(report["ordinary"]["worst_difference"], 1e-5)
        self.assertTrue(report["extreme"]["finite_and_in_bounds"])


if __name__ == "__main__":
    tf.test.main()
