"""The worker of TF-Agents; run.py starts it with the number of threads."""

import os
import sys
from collections.abc import Callable

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # which TensorFlow reads once
import tensorflow as tf
from tf_agents.agents.ddpg.critic_network import CriticNetwork
from tf_agents.agents.sac.sac_agent import SacAgent
from tf_agents.agents.sac.tanh_normal_projection_network import (
    TanhNormalProjectionNetwork,
)
from tf_agents.networks.actor_distribution_network import (
    ActorDistributionNetwork,
)
from tf_agents.replay_buffers.tf_uniform_replay_buffer import (
    TFUniformReplayBuffer,
)
from tf_agents.specs.tensor_spec import BoundedTensorSpec, TensorSpec
from tf_agents.trajectories.time_step import StepType, time_step_spec
from tf_agents.trajectories.trajectory import Trajectory
from worker import ROWS, Call, random_transitions, serve

PACKAGES = ("tf-agents", "tensorflow-cpu", "tf-keras", "numpy")
LENGTH = 100  # steps that the replay buffer keeps of each environment


def main() -> None:
    threads = int(sys.argv[1])
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    serve(PACKAGES, {"update": update, "step": learn})


def update(case: dict) -> Call:
    """Samples from replay and learns, K times in one tf.function."""
    agent = _agent(case)
    iterator = iter(_batches(agent, case))
    return _call(agent, lambda k: next(iterator)[0], case["updates"])


def learn(case: dict) -> Call:
    """Learns from K batches that are there already."""
    agent, updates = _agent(case), case["updates"]
    dataset = _batches(agent, case)
    batches = [experience for experience, _ in dataset.take(updates)]
    stacked = tf.nest.map_structure(lambda *b: tf.stack(b), *batches)
    return _call(
        agent,
        lambda k: tf.nest.map_structure(lambda field: field[k], stacked),
        updates,
    )


def _call(agent: SacAgent, batch: Callable, updates: int) -> Call:
    """Compiles K updates into one call, as TF-Agents' `Learner` does."""

    @tf.function
    def train() -> tf.Tensor:
        loss = agent.train(batch(0)).loss
        for k in tf.range(1, updates):
            loss = agent.train(batch(k)).loss
        return loss

    def call() -> int:
        train().numpy()  # waits
        return updates

    return call


def _agent(case: dict) -> SacAgent:
    observation = TensorSpec([case["observation"]], tf.float32)
    action = BoundedTensorSpec([case["action"]], tf.float32, -1.0, 1.0)
    hidden = (case["hidden"], case["hidden"])
    adam = tf.compat.v1.train.AdamOptimizer  # as in TF-Agents' own SAC example
    agent = SacAgent(
        time_step_spec(observation),
        action,
        critic_network=CriticNetwork(
            (observation, action), joint_fc_layer_params=hidden
        ),
        actor_network=ActorDistributionNetwork(
            observation,
            action,
            fc_layer_params=hidden,
            continuous_projection_net=TanhNormalProjectionNetwork,
        ),
        actor_optimizer=adam(3e-4),
        critic_optimizer=adam(3e-4),
        alpha_optimizer=adam(3e-4),
        target_update_tau=0.005,
        gamma=0.99,
        train_step_counter=tf.Variable(0, dtype=tf.int64),
    )
    agent.initialize()
    return agent


def _batches(agent: SacAgent, case: dict) -> tf.data.Dataset:
    """Batches of two steps each from a replay buffer that is full."""
    envs = ROWS // LENGTH
    buffer = TFUniformReplayBuffer(agent.collect_data_spec, envs, LENGTH)
    arrays = random_transitions(case)
    for t in range(LENGTH):
        rows = slice(t * envs, (t + 1) * envs)
        buffer.add_batch(
            Trajectory(
                step_type=tf.fill([envs], StepType.MID),
                observation=arrays["observation"][rows],
                action=arrays["action"][rows],
                policy_info=(),
                next_step_type=tf.fill([envs], StepType.MID),
                reward=arrays["reward"][rows],
                discount=tf.ones([envs]),
            )
        )
    return buffer.as_dataset(sample_batch_size=case["batch"], num_steps=2)


if __name__ == "__main__":
    main()
