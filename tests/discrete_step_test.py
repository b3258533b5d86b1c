"""The compiled step with discrete actions: no sample, hence no noise."""

import numpy as np
import reference
import small_agent
import tensorflow as tf
from absl.testing import parameterized
from gymnasium import spaces
from small_agent import changed, state

import tfsac
from tfsac import mlp, ops, sac_update

B, N_ACTIONS = 16, 6
ROWS = spaces.Box(-np.inf, np.inf, (3,))
# Of six actions in two numbers, the last of which changes fastest.
ACTIONS = spaces.MultiDiscrete([2, 3], start=[4, -1])
NO_NOISE = np.zeros((2, B, 0), np.float32)


def make(jit_compile=False, **config):
    config = {"hidden_units": (16, 16), "batch_size": B} | config
    return small_agent.make((ROWS, ACTIONS), jit_compile, **config)


def filled(**kwargs):
    agent = make(**kwargs)
    agent.replay.insert(small_agent.transitions(agent, 200))
    return agent


def weights(agent):
    models = (agent.actor, agent.critic, agent.target_critic)
    arrays = [w for model in models for w in model.get_weights()]
    return np.concatenate([w.ravel() for w in arrays])


class ReferenceTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(1, 2, 3)
    def test_updates_equal_the_float64_reference(self, num_critics):
        agent = make(
            num_critics=num_critics,
            discount=0.9,
            tau=0.05,
            learning_rate=1e-2,
            reward_scale=0.5,
        )
        actor = [w.astype(np.float64) for w in agent.actor.get_weights()]
        critic = [w.astype(np.float64) for w in agent.critic.get_weights()]
        oracle = reference.DiscreteReference(
            pairs(actor),
            [pairs([w[i] for w in critic]) for i in range(num_critics)],
            target_entropy=0.5 * np.log(N_ACTIONS),
            discount=0.9,
            tau=0.05,
            rate=1e-2,
        )
        update = tf.function(
            lambda batch: sac_update.update(agent, batch, NO_NOISE)
        )
        for i in range(10):
            batch = small_agent.transitions(agent, B, seed=i)
            metrics = dict(
                zip(
                    sac_update.METRICS,
                    update(tfsac.Transition(*map(tf.constant, batch))),
                    strict=True,
                )
            )
            first, second = batch.action.T.astype(int) - [[4], [-1]]
            expected = oracle.update(
                batch.observation,
                3 * first + second,
                0.5 * batch.reward,
                batch.next_observation,
                batch.terminated.astype(float),
            )
            for name, value in expected.items():
                self.assertAllClose(
                    metrics[name], value, rtol=2e-4, atol=2e-5, msg=name
                )
        self.assertAllClose(agent.log_alpha, oracle.log_alpha, rtol=1e-4)
        for model, members in (
            (agent.actor, [oracle.actor]),
            (agent.critic, oracle.critics),
            (agent.target_critic, oracle.targets),
        ):
            for i, weight in enumerate(model.get_weights()):
                expected = [member[i // 2][i % 2] for member in members]
                self.assertAllClose(
                    weight,
                    np.reshape(expected, weight.shape),
                    rtol=1e-3,
                    atol=1e-4,
                )


def pairs(arrays):
    return list(zip(arrays[::2], arrays[1::2], strict=True))


class ModesTest(tf.test.TestCase):
    def assertSameTraining(self, agent, other, updates):
        start = weights(agent)
        for _ in range(updates):
            logs, other_logs = agent.update(), other.update()
            for name in sac_update.METRICS:
                self.assertAllClose(
                    logs[name], other_logs[name], rtol=1e-4, atol=1e-6
                )
        distance = np.linalg.norm(weights(agent) - weights(other))
        moved = np.linalg.norm(weights(agent) - start)
        self.assertLessEqual(distance, 1e-3 * moved)

    def test_xla_and_graph_agree_over_20_updates(self):
        self.assertSameTraining(filled(jit_compile=True), filled(), 20)

    def test_kernels_and_tensorflow_agree_over_20_updates(self):
        if not ops.loaded():
            self.skipTest(ops.status())
        with mlp.tensorflow_only():  # which counts when it is traced
            plain = filled()
            plain.update()
        kernels = filled()
        kernels.update()
        self.assertSameTraining(kernels, plain, 20)
        self.assertFalse(np.array_equal(weights(kernels), weights(plain)))

    def test_many_updates_are_the_same_in_one_call_or_in_many(self):
        together, apart = filled(), filled()
        together.update(20)
        for _ in range(20):
            apart.update()
        self.assertAllClose(weights(together), weights(apart), rtol=1e-4)


class OptionsTest(tf.test.TestCase, parameterized.TestCase):
    def test_all_parts_learn(self):
        agent = filled()
        before = state(agent)
        logs = agent.update()
        self.assertTrue(np.isfinite(list(logs.values())).all())
        self.assertContainsSubset(
            ["actor", "critic", "target_critic", "log_alpha"],
            changed(before, state(agent)),
        )

    def test_a_fixed_temperature_stays(self):
        agent = filled(temperature=0.2)
        logs = agent.update()
        self.assertAllClose(agent.alpha, 0.2)
        self.assertEqual(logs["temperature_loss"], 0)

    def test_without_backup_entropy_the_target_holds_none(self):
        losses = []
        for backup_entropy in (True, False):
            agent = filled(backup_entropy=backup_entropy)
            losses.append(agent.update()["critic_loss"])
        self.assertNotAllClose(*losses)

    def test_the_critics_see_the_action_that_was_taken(self):
        """With discount 0 they learn its reward, and of no other action."""
        agent = make(discount=0.0)
        batch = small_agent.transitions(agent, 1)
        agent.replay.insert(batch)
        agent.update()
        with tf.GradientTape() as tape:
            q = agent.policy.action_values(
                agent.critic, batch.observation, batch.action
            )
        index = int(agent.policy.actions.from_env(batch.action)[0])
        head_bias = agent.critic.trainable_variables[-1]
        gradient = tape.gradient(q, head_bias.value)
        self.assertAllEqual(gradient, np.tile(np.arange(6) == index, (2, 1)))
        self.assertAllClose(
            q, agent.critic(batch.observation)[..., index], rtol=1e-6
        )


if __name__ == "__main__":
    tf.test.main()
