"""Agents that are made, trained and compiled in little time."""

from unittest import mock

import gymnasium
import keras
import numpy as np

import tfsac
from tfsac import trainer
from tfsac.evaluation import Evaluation

SMALL = {
    "hidden_units": (16,),
    "batch_size": 8,
    "replay_capacity": 1_000,
    "random_steps": 5,
}
# What each epoch reports, in the order of the documentation.
LOGS = (
    "loss",
    "critic_loss",
    "actor_loss",
    "temperature_loss",
    "alpha",
    "entropy",
    "q_mean",
    "episode_return",
    "episode_length",
    "env_steps",
    "steps_per_second",
    "env_restarts",
)
LEARNED = LOGS[:7]


def make(
    env,
    jit_compile=False,
    seed=0,
    num_envs=1,
    models=None,
    algorithm=tfsac.SAC,
    **config,
):
    """An agent with a small config; XLA compiles it only where that counts."""
    config = algorithm.CONFIG(**SMALL | config)
    agent = algorithm(env, config, seed, num_envs, **(models or {}))
    if not jit_compile:
        agent.compile(jit_compile=False)
    return agent


def fit(agent, steps_per_epoch=10, **kwargs):
    """Fits in silence and, unless told otherwise, without validation."""
    kwargs = {"validation_episodes": 0, "verbose": 0} | kwargs
    return agent.fit(steps_per_epoch=steps_per_epoch, **kwargs)


def validating(*returns):
    """Has each validation of `fit` find the next of these returns, unplayed."""
    found = [Evaluation(np.array([float(r)]), np.ones(1, int)) for r in returns]
    return mock.patch.object(trainer, "evaluate", side_effect=found)


def transitions(agent, count, seed=0):
    """Random transitions within the agent's spaces."""
    rng = np.random.default_rng(seed)
    size, dtype = agent.policy.flatten.size, agent.policy.flatten.dtype
    observation = rng.uniform(0, 2, (2, count, size)).astype(dtype)
    space = agent.action_space
    if isinstance(space, gymnasium.spaces.Box):
        action = rng.uniform(space.low, space.high, (count, len(space.low)))
    else:
        action = agent.policy.random(rng, count).reshape(count, -1)
    return tfsac.Transition(
        observation[0],
        action.astype(np.float32),
        rng.normal(size=count).astype(np.float32),
        observation[1],
        rng.random(count) < 0.1,
        np.zeros(count, bool),
        np.zeros(count, np.int32),
    )


def state(agent):
    """All that an update changes, as NumPy arrays: `"actor/0"` and so on."""
    parts = {"log_alpha": [agent.log_alpha]}
    for name in ("actor", "critic", "target_critic"):
        parts[name] = getattr(agent, name).variables
    for name in ("actor", "critic", "temperature"):
        optimizer = getattr(agent, f"{name}_optimizer", None)
        if optimizer is not None:
            parts[f"{name}_optimizer"] = optimizer.variables
    return {
        f"{part}/{i}": variable.numpy()
        for part, variables in parts.items()
        for i, variable in enumerate(variables)
    }


def changed(before, after):
    """The parts of `state` that changed."""
    return {
        name.split("/")[0]
        for name in before
        if (before[name] != after[name]).any()
    }


class SampledEnv(gymnasium.Env):
    """Any observation space: observations are samples of it.

    The reward is minus the square of the action; an episode has 7 steps.
    """

    action_space = gymnasium.spaces.Box(
        np.float32([-2, 0]), np.float32([2, 10])
    )

    def __init__(self, observation_space):
        self.observation_space = observation_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self._t = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self._t += 1
        reward = -float(np.square(action).sum())
        observation = self.observation_space.sample()
        return observation, reward, False, self._t == 7, {}


@keras.saving.register_keras_serializable("tests")
class ConstantActor(keras.Model):
    """A Gaussian that does not depend on the observation.

    Args:
        mean: `[A]`.
        log_std: `[A]`.
    """

    def __init__(self, mean, log_std, **kwargs):
        super().__init__(**kwargs)
        self.mean, self.log_std = list(mean), list(log_std)
        self.parameters = self.add_weight(
            shape=(2, len(self.mean)),
            initializer=lambda *_, **__: np.float32([mean, log_std]),
        )

    def call(self, observation):
        zeros = keras.ops.zeros_like(observation[:, :1])
        return self.parameters[0] + zeros, self.parameters[1] + zeros

    def get_config(self):
        return {"mean": self.mean, "log_std": self.log_std}
