"""The compiled step of soft Q-learning, the same however it is run."""

import numpy as np
import small_agent
import sql_reference
import tensorflow as tf
from absl.testing import parameterized
from gymnasium.spaces import Box
from modes import MODES

import tfsac
from tfsac import mlp, ops, sql_update

B, A, M, K = 8, 2, 9, 7
SPACES = (
    Box(-np.inf, np.inf, (3,)),
    Box(np.float32([-2, 0]), 4, (A,)),
)
CONFIG = {
    "hidden_units": (16, 16),
    "batch_size": B,
    "num_particles": M,
    "num_proposals": K,
    "temperature": 0.5,
    "random_steps": 0,
}


def make_agent(jit_compile=False, **config):
    return small_agent.make(
        SPACES,
        jit_compile,
        algorithm=tfsac.SoftQLearning,
        **CONFIG | config,
    )


def filled_agent(jit_compile=False, **config):
    agent = make_agent(jit_compile, **config)
    agent.replay.insert(small_agent.transitions(agent, 200))
    return agent


def weights(agent):
    models = (agent.actor, agent.critic, agent.target_critic)
    arrays = [w for model in models for w in model.get_weights()]
    return np.concatenate([w.ravel() for w in arrays])


class ReferenceTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        *[(2, mode) for _, mode in MODES], (1, tf.function)
    )
    def test_updates_equal_the_float64_reference(self, num_critics, mode):
        agent = make_agent(
            num_critics=num_critics,
            discount=0.9,
            tau=0.05,
            learning_rate=1e-2,
            reward_scale=0.5,
        )
        oracle = _oracle(agent)
        rng = np.random.default_rng(1)
        update = mode(lambda *args: sql_update.update(agent, *args))
        for i in range(5):
            batch = small_agent.transitions(agent, B, seed=i)
            noise = rng.normal(size=(B, M + K, A)).astype(np.float32)
            metrics = update(tfsac.Transition(*map(tf.constant, batch)), noise)
            expected = oracle.update(
                batch.observation,
                (batch.action - [1, 2]) / [3, 2],  # bounds [-2, 4], [0, 4]
                0.5 * batch.reward,
                batch.next_observation,
                batch.terminated.astype(float),
                noise.astype(np.float64),
            )
            self.assertSameElements(expected, sql_update.METRICS)
            expected = [expected[name] for name in sql_update.METRICS]
            self.assertAllClose(metrics, expected, rtol=2e-4, atol=2e-5)
        for model, members in (
            (agent.actor, [oracle.sampler]),
            (agent.critic, oracle.critics),
            (agent.target_critic, oracle.targets),
        ):
            flat = [[w for pair in member for w in pair] for member in members]
            for got, *each in zip(model.get_weights(), *flat, strict=True):
                value = np.reshape(each, got.shape)
                self.assertAllClose(got, value, rtol=1e-3, atol=1e-4)


def _oracle(agent):
    def pairs(w):
        return list(zip(w[::2], w[1::2], strict=True))

    actor = [w.astype(np.float64) for w in agent.actor.get_weights()]
    critic = [w.astype(np.float64) for w in agent.critic.get_weights()]
    return sql_reference.SQLReference(
        pairs(actor),
        [pairs([w[i] for w in critic]) for i in range(len(critic[0]))],
        alpha=agent.config.temperature,
        discount=agent.config.discount,
        tau=agent.config.tau,
        rate=agent.config.learning_rate,
        num_particles=M,
    )


class ModesTest(tf.test.TestCase):
    def _assert_alike(self, one, other, start):
        one, other = weights(one), weights(other)
        self.assertLessEqual(
            np.linalg.norm(one - other), 1e-3 * np.linalg.norm(other - start)
        )

    def test_xla_and_graph_agree_over_20_updates(self):
        xla, graph = filled_agent(jit_compile=True), filled_agent()
        start = weights(xla)
        for _ in range(20):
            logs = xla.update(), graph.update()
            self.assertAllClose(*map(dict, logs), rtol=1e-4, atol=1e-5)
        self._assert_alike(xla, graph, start)

    def test_kernels_and_tensorflow_agree_over_20_updates(self):
        if not ops.loaded():
            self.skipTest(ops.status())
        kernels, plain = filled_agent(True), filled_agent(True)
        start = weights(kernels)
        for _ in range(20):
            ours = kernels.update()
            with mlp.tensorflow_only():  # which counts when it is traced
                theirs = plain.update()
            self.assertAllClose(dict(ours), dict(theirs), rtol=1e-4, atol=1e-5)
        self._assert_alike(kernels, plain, start)
        self.assertFalse(np.array_equal(weights(kernels), weights(plain)))

    def test_several_updates_are_the_same_in_one_call(self):
        together, apart = filled_agent(), filled_agent()
        start = weights(apart)
        together.update(updates=5)
        for _ in range(5):
            apart.update(updates=1)
        self._assert_alike(together, apart, start)
        self.assertEqual((together.updates, apart.updates), (5, 5))


class OptionsTest(tf.test.TestCase):
    def test_the_live_temperature_is_in_the_update(self):
        agent = filled_agent(jit_compile=True, learning_rate=1e-9)
        values = []
        for alpha in (0.1, 1.0):
            agent.log_alpha.assign(np.log(alpha))
            logs = agent.update()
            self.assertAllClose(logs["alpha"], alpha, rtol=1e-5)
            values.append(logs["value_mean"])
        # At least by the share of alpha in A log 2, the uniform entropy.
        self.assertGreater(values[1] - values[0], 0.5)
        self.assertLen(agent._steps, 1)

    def test_the_temperature_is_no_weight_to_learn(self):
        agent = filled_agent()
        agent.update(3)
        self.assertAllClose(agent.alpha, 0.5)
        learned = [id(variable) for variable in agent.trainable_variables]
        self.assertNotIn(id(agent.log_alpha), learned)

    def test_an_update_changes_all_that_is_learned(self):
        agent = filled_agent()
        before = small_agent.state(agent)
        agent.update()
        self.assertEqual(
            small_agent.changed(before, small_agent.state(agent)),
            {
                "actor",
                "actor_optimizer",
                "critic",
                "critic_optimizer",
                "target_critic",
            },
        )


if __name__ == "__main__":
    tf.test.main()
