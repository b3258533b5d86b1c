"""An interrupt at any line of the loop leaves counts that are right."""

import pathlib
import sys

import numpy as np
import small_agent
import tensorflow as tf
from absl.testing import parameterized
from counting_env import CountingEnv
from small_agent import fit

from tfsac import batches, env, loop, overlap, replay

FILES = {module.__file__ for module in (batches, env, loop, overlap, replay)}


class InterruptAtLine:
    """Within it the n-th line of `FILES` raises `KeyboardInterrupt`.

    Attributes:
        where: The line, if there were that many.
    """

    def __init__(self, number):
        self.left = number
        self.where = None

    def __enter__(self):
        self.before = sys.gettrace()
        sys.settrace(self._call)
        return self

    def __exit__(self, *_):
        sys.settrace(self.before)

    def _call(self, frame, event, argument):
        is_ours = frame.f_code.co_filename in FILES
        return self._line if is_ours else None

    def _line(self, frame, event, argument):
        if event == "line":
            self.left -= 1
            if self.left == 0:
                file = pathlib.Path(frame.f_code.co_filename).name
                self.where = f"{file}:{frame.f_lineno}"
                raise KeyboardInterrupt
        return self._line


class InterruptTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.product(overlap=[False, True], train_every=[1, 2])
    def test_at_each_line(self, overlap, train_every):
        agent = small_agent.make(
            CountingEnv(),
            random_steps=0,
            train_every=train_every,
            overlap=overlap,
            replay_capacity=10_000,
        )
        fit(agent, 6)
        lines = set()
        for number in range(1, 10_000):
            before = agent.env_steps
            interrupt = InterruptAtLine(number)
            try:
                with interrupt:
                    fit(agent, 3)
            except KeyboardInterrupt:
                pass
            where = interrupt.where
            self.assertEqual(agent.env_steps, agent.replay.inserted, msg=where)
            answered = agent.env_steps - agent.pending_steps
            self.assertEqual(agent.updates, answered, msg=where)
            self.assertGreaterEqual(agent.pending_steps, 0, msg=where)
            self.assertBetween(agent.env_steps - before, 0, 3)
            if where is None:
                break
            lines.add(where)
        self.assertEqual(agent.env_steps - before, 3)
        self.assertLess(agent.pending_steps, 2 * train_every)  # it caught up
        self.assertGreater(len(lines), 60)
        self.check_rows(agent)

    def check_rows(self, agent):
        """Each transition stored is one step of one episode."""
        rows = agent.replay.sample(1, 500)
        step = rows.next_observation[0] - rows.observation[0]
        self.assertAllEqual(step[:, :3], np.tile([0, 0, 1], (500, 1)))


if __name__ == "__main__":
    tf.test.main()
