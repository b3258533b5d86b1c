"""What happens to episodes at a checkpoint."""

from unittest import mock

import numpy as np
import small_agent
import tensorflow as tf
from small_agent import fit
from wandering_env import WanderingEnv


class CutTest(tf.test.TestCase):
    """What happens to episodes at a checkpoint."""

    def test_episodes_are_cut_and_begin_from_the_seed(self):
        seeds = []

        class Env(WanderingEnv):
            def reset(self, *, seed=None, options=None):
                if seed is not None:
                    seeds.append(seed)
                return super().reset(seed=seed, options=options)

        agent = small_agent.make(Env(), seed=6, random_steps=100)
        stored = []
        insert = agent.replay.insert

        def note(transitions):
            stored.append(transitions)
            insert(transitions)

        with mock.patch.object(agent.replay, "insert", note):
            fit(
                agent,
                50,
                checkpoint_dir=self.get_temp_dir(),
                checkpoint_every=20,
            )
        expected = []
        for step in (0, 20, 40, 50):
            [word] = np.random.SeedSequence([6, step]).generate_state(1)
            sequence = np.random.SeedSequence(int(word), spawn_key=(0,))
            expected.append(int(sequence.generate_state(1)[0] >> 1))
        self.assertEqual(seeds, expected)
        for i, transition in enumerate(stored, 1):
            ends = transition.terminated[0] or transition.truncated[0]
            if i < len(stored):
                follows = np.array_equal(
                    transition.next_observation, stored[i].observation
                )
                self.assertEqual(follows, not ends)
            if i % 20 == 0:
                self.assertTrue(ends)


if __name__ == "__main__":
    tf.test.main()
