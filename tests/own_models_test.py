"""Keras models of the user's own, in place of actor and critic."""

import keras
import numpy as np
import small_agent
import tensorflow as tf
from absl.testing import parameterized
from gymnasium import spaces
from keras import layers, ops
from small_agent import changed, state

SPACES = spaces.Box(-9, 9, (4,)), spaces.Box(-2, 2, (3,))


def functional_actor(size=3, activation=None):
    observation = keras.Input((4,))
    x = layers.Dense(8, "tanh")(observation)
    log_std = layers.Dense(size, activation)(x)
    return keras.Model(observation, (layers.Dense(size)(x), log_std))


def functional_critic(join, units=1):
    inputs = keras.Input((4,)), keras.Input((3,))
    x = layers.Dense(8, "relu")(ops.concatenate(inputs, axis=-1))
    members = [layers.Dense(units)(x), layers.Dense(units)(x)]
    return keras.Model(inputs, join(members))


def concatenated(members):
    return ops.transpose(ops.concatenate(members, axis=1))


def stacked(members):
    return ops.stack([ops.squeeze(q, axis=1) for q in members])


@keras.saving.register_keras_serializable("tests")
class OwnActor(keras.Model):
    def __init__(self, size=3, **kwargs):
        super().__init__(**kwargs)
        self.size = size
        self.norm = layers.BatchNormalization()
        self.mean, self.log_std = layers.Dense(size), layers.Dense(size)

    def call(self, observation, training=False):
        x = self.norm(observation, training=training)
        return self.mean(x), self.log_std(x)

    def get_config(self):
        return {**super().get_config(), "size": self.size}


@keras.saving.register_keras_serializable("tests")
class OwnCritic(keras.Model):
    """One critic with what behaves otherwise in training."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.norm = layers.BatchNormalization(momentum=0.9)
        self.hidden = layers.Dense(8, "relu")
        self.dropout = layers.Dropout(0.5, seed=1)
        self.head = layers.Dense(1)

    def call(self, inputs, training=False):
        x = self.norm(ops.concatenate(inputs, axis=-1), training=training)
        x = self.dropout(self.hidden(x), training=training)
        return ops.transpose(self.head(x))


class OwnModelsTest(parameterized.TestCase, tf.test.TestCase):
    def make(self, actor=None, critic=None, **kwargs):
        models = {"actor": actor, "critic": critic}
        agent = small_agent.make(SPACES, models=models, **kwargs)
        agent.replay.insert(small_agent.transitions(agent, 20))
        return agent

    @parameterized.parameters(concatenated, stacked)
    def test_functional(self, join):
        actor, critic = functional_actor(), functional_critic(join)
        agent = self.make(actor, critic)
        self.assertIs(agent.actor, actor)
        self.assertIs(agent.critic, critic)
        before = state(agent)
        agent.update(updates=2)
        parts = changed(before, state(agent))
        self.assertContainsSubset(["actor", "critic", "target_critic"], parts)
        rows = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
        self.assertAllClose(agent.predict(rows), 2 * np.tanh(actor(rows)[0]))

    def test_subclassed_with_batch_normalization_and_dropout_under_xla(self):
        agent = self.make(OwnActor(), OwnCritic(), jit_compile=True)
        before = state(agent)
        logs = agent.update(updates=2)
        self.assertTrue(np.isfinite(list(logs.values())).all())
        self.assertContainsSubset(
            ["actor", "critic", "target_critic"], changed(before, state(agent))
        )
        with self.subTest("acting is inference: rows do not mix"):
            rows = np.random.default_rng(0).normal(size=(5, 4))
            batch = agent.predict(rows)
            self.assertAllClose(agent.predict(rows[1]), batch[1], rtol=1e-5)
            self.assertAllEqual(agent.predict(rows), batch)

    def test_statistics_of_batch_normalization(self):
        """The critic's see each batch once, in [-1, 1]; targets follow."""
        agent = small_agent.make(
            SPACES, models={"critic": OwnCritic()}, tau=0.25
        )
        one = small_agent.transitions(agent, 1)
        agent.replay.insert(one)  # so that each batch holds nothing else
        agent.update()
        row = np.concatenate([one.observation[0], one.action[0] / 2])
        mean = agent.critic.norm.moving_mean
        self.assertAllClose(mean, 0.1 * row)
        self.assertAllClose(agent.critic.norm.moving_variance, [0.9] * 7)
        target = agent.target_critic.norm
        self.assertAllClose(target.moving_mean, 0.25 * 0.1 * row)
        self.assertAllClose(target.moving_variance, [1 - 0.25 * 0.1] * 7)

    def test_target_critic_is_a_copy(self):
        for critic in (functional_critic(stacked), OwnCritic()):
            agent = self.make(critic=critic, tau=0.25)
            target, source = agent.target_critic, agent.critic
            self.assertAllEqual(*(m.get_weights()[0] for m in (target, source)))
            old = target.get_weights()
            agent.update()
            for before, after, new in zip(
                old, target.get_weights(), source.get_weights(), strict=True
            ):
                self.assertAllClose(after, 0.25 * new + 0.75 * before)
            self.assertEmpty(target.trainable_variables)

    def test_observations_of_bytes(self):
        space = spaces.Box(0, 255, (4,), np.uint8)
        agent = small_agent.make(
            (space, SPACES[1]),
            models={
                "actor": functional_actor(),
                "critic": functional_critic(stacked),
            },
        )
        agent.replay.insert(small_agent.transitions(agent, 9))
        agent.update()
        self.assertEqual(
            agent.predict(np.zeros((2, 4), np.uint8)).shape, (2, 3)
        )

    @parameterized.named_parameters(
        ("of other actions", functional_actor(2), r"\(5, 3\)\. Received.*5, 2"),
        (
            "one output",
            keras.Sequential([layers.Dense(6)]),
            r"a pair \(mean, log_std\).*Received: \(5, 6\)",
        ),
    )
    def test_actor_of_wrong_shape(self, actor, message):
        with self.assertRaisesRegex(
            ValueError, f"Expected an actor.*{message}"
        ):
            self.make(actor=actor)

    @parameterized.named_parameters(
        ("members last", lambda q: ops.concatenate(q, 1), r"\(5, 2\)"),
        ("not joined", lambda q: q, r"\[\(5, 1\), \(5, 1\)\]"),
        ("a column each", lambda q: ops.stack(q), r"\(2, 5, 1\)"),
    )
    def test_critic_of_wrong_shape(self, join, received):
        with self.assertRaisesRegex(
            ValueError,
            rf"Expected a critic.*\(N, 5\).*Received: {received}.*transpose",
        ):
            self.make(critic=functional_critic(join))

    def test_model_for_other_observations(self):
        with self.assertRaisesRegex(ValueError, "(?s)4.*5|5.*4"):
            small_agent.make(
                (spaces.Box(-1, 1, (5,)), SPACES[1]),
                models={"actor": functional_actor()},
            )


if __name__ == "__main__":
    tf.test.main()
