"""The compiled step: Algorithm 1, the same however it is run."""

import keras
import numpy as np
import reference
import tensorflow as tf
from absl.testing import parameterized
from gymnasium.spaces import Box

import tfsac
from tfsac import mlp, ops, sac_update, step

B, A = 16, 2
OBSERVATION_SIZE = 3
SPACES = (
    Box(-np.inf, np.inf, (OBSERVATION_SIZE,)),
    Box(np.float32([-2, 0]), 4, (A,)),
)
CONFIG = {"hidden_units": (16, 16), "batch_size": B, "random_steps": 0}


def make_agent(jit_compile=False, seed=0, **config):
    agent = tfsac.SAC(SPACES, tfsac.SACConfig(**CONFIG | config), seed=seed)
    agent.compile(jit_compile=jit_compile)
    return agent


def transitions(n, seed=0):
    rng = np.random.default_rng(seed)
    normal = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    low, high = SPACES[1].low, SPACES[1].high
    return tfsac.Transition(
        observation=normal(n, OBSERVATION_SIZE),
        action=rng.uniform(low, high, (n, A)).astype(np.float32),
        reward=normal(n),
        next_observation=normal(n, OBSERVATION_SIZE),
        terminated=rng.random(n) < 0.3,
        truncated=rng.random(n) < 0.3,
        env_index=np.zeros(n, np.int32),
    )


def weights(agent):
    models = (agent.actor, agent.critic, agent.target_critic)
    arrays = [w for model in models for w in model.get_weights()]
    arrays.append(agent.log_alpha.numpy())
    return np.concatenate([np.ravel(w) for w in arrays])


def tensors(batch):
    return tfsac.Transition(*map(tf.constant, batch))


class ReferenceTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(1, 2, 3)
    def test_updates_equal_the_float64_reference(self, num_critics):
        agent = make_agent(
            num_critics=num_critics,
            discount=0.9,
            tau=0.05,
            learning_rate=1e-2,
            reward_scale=0.5,
            log_std_min=-1.0,  # so that some are clipped
            log_std_max=0.3,
        )
        oracle = _oracle(agent, discount=0.9, tau=0.05, rate=1e-2)
        rng = np.random.default_rng(1)
        update = tf.function(lambda *args: sac_update.update(agent, *args))
        for i in range(10):
            batch = transitions(B, seed=i)
            noise = rng.normal(size=(2, B, A)).astype(np.float32)
            metrics = dict(
                zip(
                    sac_update.METRICS,
                    update(tensors(batch), noise),
                    strict=True,
                )
            )
            expected = oracle.update(
                batch.observation,
                (batch.action - [1, 2]) / [3, 2],  # bounds [-2, 4], [0, 4]
                0.5 * batch.reward,
                batch.next_observation,
                batch.terminated.astype(float),
                *noise.astype(np.float64),
            )
            for name, value in expected.items():
                self.assertAllClose(
                    metrics[name], value, rtol=2e-4, atol=2e-5, msg=name
                )
            self.assertAllClose(
                metrics["loss"], sum(expected.values()), rtol=2e-4, atol=1e-4
            )
        self.assertAllClose(agent.log_alpha, oracle.log_alpha, rtol=1e-4)
        for model, layers in (
            (agent.actor, [oracle.actor]),
            (agent.critic, oracle.critics),
            (agent.target_critic, oracle.targets),
        ):
            expected = _stacked(layers, model.get_weights())
            for got, value in zip(model.get_weights(), expected, strict=True):
                self.assertAllClose(got, value, rtol=1e-3, atol=1e-4)


def _oracle(agent, **options):
    actor = [w.astype(np.float64) for w in agent.actor.get_weights()]
    critic = [w.astype(np.float64) for w in agent.critic.get_weights()]
    pairs = lambda w: list(zip(w[::2], w[1::2], strict=True))  # noqa: E731
    return reference.Reference(
        pairs(actor),
        [pairs([w[i] for w in critic]) for i in range(len(critic[0]))],
        target_entropy=-A,
        log_std_bounds=(-1.0, 0.3),
        **options,
    )


def _stacked(members, like):
    flat = [[array for pair in member for array in pair] for member in members]
    arrays = [np.stack(each) for each in zip(*flat, strict=True)]
    return [a.reshape(w.shape) for a, w in zip(arrays, like, strict=True)]


class ModesTest(tf.test.TestCase, parameterized.TestCase):
    def test_xla_and_graph_agree_over_20_updates(self):
        agents = [make_agent(jit_compile=jit) for jit in (True, False)]
        start = weights(agents[0])
        for agent in agents:
            agent.replay.insert(transitions(200))
        for _ in range(20):
            xla, graph = (agent.update() for agent in agents)
            for name in sac_update.METRICS:
                self.assertAllClose(
                    xla[name], graph[name], rtol=1e-4, atol=1e-6
                )
        xla, graph = map(weights, agents)
        self.assertLessEqual(
            np.linalg.norm(xla - graph), 1e-3 * np.linalg.norm(graph - start)
        )

    @parameterized.named_parameters(
        ("small", {}),
        ("of_the_paper", {"hidden_units": (256, 256), "batch_size": 256}),
    )
    def test_kernels_and_tensorflow_agree_over_50_updates(self, config):
        if not ops.loaded():
            self.skipTest(ops.status())
        kernels, plain = (make_agent(True, **config) for _ in range(2))
        start = weights(kernels)
        for agent in (kernels, plain):
            agent.replay.insert(transitions(1_000))
        for _ in range(50):
            ours = kernels.update()
            with mlp.tensorflow_only():  # which counts when it is traced
                theirs = plain.update()
            for name in sac_update.METRICS:
                self.assertAllClose(
                    ours[name], theirs[name], rtol=1e-4, atol=1e-6
                )
        ours, theirs = weights(kernels), weights(plain)
        self.assertLessEqual(
            np.linalg.norm(ours - theirs), 1e-3 * np.linalg.norm(ours - start)
        )
        self.assertFalse(np.array_equal(ours, theirs))  # each had its own path

    def test_it_asks_the_kernels_for_what_it_needs_alone(self):
        if not ops.loaded():
            self.skipTest(ops.status())
        agent = make_agent()
        batch = tensors(transitions(B))
        graph = tf.function(agent.learn).get_concrete_function(batch).graph
        wanted = [
            (list(op.get_attr("wanted_inputs")), op.get_attr("wants_weights"))
            for op in graph.get_operations()
            if op.type == "Tfsac>MlpGradient"
        ]
        self.assertCountEqual(
            wanted,
            [
                ([False, False], True),  # the critics' loss: their weights
                ([False, True], False),  # the actor's, of the critics: actions
                ([False], True),  # and from these on its own weights
            ],
        )

    def test_twenty_updates_are_the_same_in_one_call_or_in_twenty(self):
        together, apart = make_agent(), make_agent()
        for agent in (together, apart):
            agent.replay.insert(transitions(200))
        batches = together.replay.sample(20, B)
        run = step.compile_step(together, batches)
        mean = run(batches)
        single = None
        total = np.zeros(len(sac_update.METRICS))
        for k in range(20):
            batch = tfsac.Transition(*(field[k : k + 1] for field in batches))
            single = single or step.compile_step(apart, batch)
            total += single(batch)
        self.assertAllClose(mean, total / 20, rtol=1e-4)
        self.assertAllClose(weights(together), weights(apart), rtol=1e-4)
        self.assertEqual((together.updates, apart.updates), (20, 20))

    def test_it_compiles_once_for_each_number_of_updates(self):
        agent = make_agent(jit_compile=True)
        agent.replay.insert(transitions(50))
        traces = []
        original = sac_update.update
        with tf.compat.v1.test.mock.patch.object(
            sac_update,
            "update",
            lambda *args: traces.append(1) or original(*args),
        ):
            for _ in range(3):
                agent.update()
                agent.update(updates=2)
            agent.optimizer.optimizers[0].learning_rate = 1e-5
            agent.log_alpha.assign(-3.0)
            agent.update()
        self.assertLen(traces, 2)


class OptionsTest(tf.test.TestCase, parameterized.TestCase):
    def test_the_live_temperature_is_in_the_loss(self):
        agent = make_agent(jit_compile=True, learning_rate=1e-9)
        agent.replay.insert(transitions(1))  # so that all batches are equal
        losses = {}
        for alpha in (1.0, 0.1, 1.0):
            agent.log_alpha.assign(np.log(alpha))
            logs = agent.update()
            self.assertAllClose(logs["alpha"], alpha, rtol=1e-5)
            losses.setdefault(alpha, []).append(logs)
        # J_pi = -alpha H - mean min Q, with the noise of each call.
        for key in ("critic_loss", "actor_loss"):
            values = {alpha: logs[0][key] for alpha, logs in losses.items()}
            self.assertGreater(abs(values[1.0] - values[0.1]), 0.1)
        self.assertLen(agent._steps, 1)

    def test_a_learned_temperature_moves_and_a_fixed_one_stays(self):
        for temperature in (None, 0.2):
            agent = make_agent(temperature=temperature)
            agent.replay.insert(transitions(50))
            before = float(agent.log_alpha)
            logs = agent.update()
            if temperature is None:
                self.assertNotAllClose(agent.log_alpha, before)
                self.assertLen(agent.optimizer.optimizers, 3)
            else:
                self.assertAllClose(np.exp(agent.log_alpha), 0.2)
                self.assertEqual(logs["temperature_loss"], 0.0)
                self.assertLen(agent.optimizer.optimizers, 2)

    @parameterized.parameters(True, False)
    def test_policy_delay_delays_actor_and_temperature(self, jit_compile):
        agent = make_agent(jit_compile, policy_delay=3)
        agent.replay.insert(transitions(50))
        moved = []
        for _ in range(6):
            before = agent.actor.get_weights()[0], float(agent.log_alpha)
            critic = agent.critic.get_weights()[0]
            agent.update()
            after = agent.actor.get_weights()[0], float(agent.log_alpha)
            self.assertNotAllClose(critic, agent.critic.get_weights()[0])
            moved.append(
                [
                    bool(np.any(a != b))
                    for a, b in zip(after, before, strict=True)
                ]
            )
        self.assertEqual(moved, [[False] * 2, [False] * 2, [True] * 2] * 2)

    def test_backup_entropy_counts(self):
        losses = []
        for backup_entropy in (True, False):
            agent = make_agent(backup_entropy=backup_entropy)
            agent.replay.insert(transitions(50))
            losses.append(agent.update()["critic_loss"])
        self.assertNotAllClose(*losses)

    def test_a_time_limit_still_bootstraps(self):
        targets = []
        for truncated in (False, True):
            agent = make_agent()
            batch = transitions(B)._replace(truncated=np.full(B, truncated))
            noise = tf.zeros([2, B, A])
            targets.append(sac_update.update(agent, tensors(batch), noise)[1])
        self.assertAllEqual(*targets)

    def test_the_target_critic_is_not_trained(self):
        agent = make_agent(tau=1e-9)
        agent.replay.insert(transitions(50))
        before = agent.target_critic.get_weights()
        agent.update(5)
        for old, new in zip(
            before, agent.target_critic.get_weights(), strict=True
        ):
            self.assertAllClose(old, new, atol=1e-6)

    def test_normalisation_and_dropout_of_the_users_work(self):
        observation = keras.Input((OBSERVATION_SIZE,))
        action = keras.Input((A,))
        x = keras.layers.Concatenate()([observation, action])
        x = keras.layers.BatchNormalization()(keras.layers.Dense(16)(x))
        x = keras.layers.Dropout(0.1)(keras.layers.ReLU()(x))
        q = keras.ops.transpose(keras.layers.Dense(2)(x))
        critic = keras.Model([observation, action], q)
        agent = tfsac.SAC(SPACES, tfsac.SACConfig(**CONFIG), 0, critic=critic)
        agent.replay.insert(transitions(50))
        moving = agent.target_critic.layers[4].moving_mean.numpy()
        agent.update(2)
        self.assertNotAllClose(
            moving, agent.target_critic.layers[4].moving_mean
        )


if __name__ == "__main__":
    tf.test.main()
