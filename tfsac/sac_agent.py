"""The Soft Actor-Critic agent."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from gymnasium import spaces

from tfsac import discrete_networks, networks, sac_update
from tfsac.agent import Agent
from tfsac.categorical_policy import CategoricalPolicy, DiscreteActions
from tfsac.config import SACConfig
from tfsac.gaussian_policy import GaussianPolicy
from tfsac.policy import ActionScale
from tfsac.transition import Transition

__all__ = ["SAC"]


@keras.saving.register_keras_serializable("tfsac")
class SAC(Agent):
    """Soft Actor-Critic, maximum entropy reinforcement learning.

    One step is one transition: E environments that step once yield E.
    Observations are flattened to rows `[O]`; actions `[A]` are in the
    environment's own units everywhere but inside `policy`.

    Example:

    ```python
    agent = tfsac.SAC("Pendulum-v1", tfsac.SACConfig(discount=0.98), seed=0)
    agent.fit(epochs=5, steps_per_epoch=1_000)
    print(agent.evaluate(episodes=50))
    agent.export("saved_models/pendulum")
    ```

    Args:
        env: What to learn: an environment id, a `gymnasium.Env`, a
            `gymnasium.vector.VectorEnv`, or `(observation_space,
            action_space)` for one's own loop. Actions must be a `Box` of rank
            1 with finite bounds, or `Discrete`, or a `MultiDiscrete` of rank
            1, of which each combination is an action.
        config: The hyperparameters. Defaults to `SACConfig()`.
        seed: Seed of everything random here: weights, exploration, replay,
            environments. Equal seeds give equal runs on one machine, whatever
            else the process draws. `None` takes one from the system. Defaults
            to `None`.
        num_envs: E, environments to train on at once, for an `env` given by
            id. Defaults to `1`.
        actor: A Keras model of one's own, observations `[B, O]` to `(mean,
            log_std)`, each `[B, A]`; with n discrete actions, to their logits
            `[B, n]`. Defaults to `tfsac.Actor` or `tfsac.DiscreteActor`.
        critic: A Keras model of one's own, `(observations [B, O], actions in
            [-1, 1] [B, A])` to values `[N, B]`; with n discrete actions,
            observations to the values of all, `[N, B, n]`. Defaults to
            `tfsac.Critic` or `tfsac.DiscreteCritic`.
        name: Name of the Keras model. Defaults to `"sac"`.

    Raises:
        ValueError: If spaces or models do not fit.
    """

    CONFIG = SACConfig
    METRICS = sac_update.METRICS
    ACTION_SPACES = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete)

    config: SACConfig
    policy: GaussianPolicy | CategoricalPolicy
    temperature_optimizer: keras.optimizers.Optimizer | None

    def __init__(
        self,
        env: Any,
        config: SACConfig | None = None,
        seed: int | None = None,
        num_envs: int = 1,
        actor: keras.Model | None = None,
        critic: keras.Model | None = None,
        name: str = "sac",
    ):
        super().__init__(env, config or SACConfig(), seed, num_envs, name)
        space = self.action_space
        policy = (
            self._make_gaussian(space, actor, critic)
            if isinstance(space, spaces.Box)
            else self._make_categorical(space, actor, critic)
        )
        self._make_temperature(policy.target_entropy)
        self._complete(policy)

    def _make_gaussian(
        self,
        space: spaces.Box,
        actor: keras.Model | None,
        critic: keras.Model | None,
    ) -> GaussianPolicy:
        scale = ActionScale(space.low, space.high)
        sizes = self.flatten, len(scale.low), self.config
        self.actor = networks.make_actor(*sizes, self._seeds.actor, actor)
        self.critic, self.target_critic = networks.make_critics(
            *sizes, self._seeds.critic, critic
        )
        seed = self._seeds.predict
        return GaussianPolicy(
            self.actor, self.flatten, scale, self.config, seed
        )

    def _make_categorical(
        self,
        space: spaces.Discrete | spaces.MultiDiscrete,
        actor: keras.Model | None,
        critic: keras.Model | None,
    ) -> CategoricalPolicy:
        actions = DiscreteActions(space)
        self.actor, self.critic, self.target_critic = discrete_networks.make(
            self.flatten,
            actions.count,
            self.config,
            self._seeds,
            actor,
            critic,
        )
        seed = self._seeds.predict
        return CategoricalPolicy(self.actor, self.flatten, actions, seed)

    def _make_temperature(self, default_target_entropy: float) -> None:
        config = self.config
        self._set_temperature(
            config.temperature or config.initial_temperature,
            is_learned=config.temperature is None,
        )
        entropy = config.target_entropy
        self.target_entropy = (
            default_target_entropy if entropy is None else entropy
        )

    def compile(
        self,
        actor_optimizer: Any = None,
        critic_optimizer: Any = None,
        temperature_optimizer: Any = None,
        jit_compile: bool = True,
    ) -> None:
        """Sets the optimizers and compiles anew; `SAC` begins compiled.

        Args:
            actor_optimizer: A Keras optimizer, or its name. Defaults to Adam
                with `config.learning_rate` and epsilon 1e-8, as for the two
                others.
            critic_optimizer: The same for the critics.
            temperature_optimizer: The same for the temperature; unused if
                `config.temperature` fixes it.
            jit_compile: Whether XLA compiles the train step. Defaults to
                `True`.

        Raises:
            ValueError: If an optimizer has been used for something else.
        """
        wanted = {
            "critic": (critic_optimizer, self.critic.trainable_variables),
            "actor": (actor_optimizer, self.actor.trainable_variables),
        }
        if self.config.temperature is None:
            wanted["temperature"] = temperature_optimizer, [self.log_alpha]
        else:
            self.temperature_optimizer = None
        self._set_optimizers(wanted, jit_compile)

    def learn(self, batch: Transition) -> tf.Tensor:
        """One update of critics, actor, temperature and target critics.

        Args:
            batch: Fields `[B, ...]`.

        Returns:
            The metrics in the order of `METRICS`, `[M]`.
        """
        shape = 2, *batch.reward.shape, self.policy.noise_size
        noise = self.learning_noise.draw(shape)
        return sac_update.update(self, batch, noise)

    def log_prob(self, observations: Any, actions: Any) -> np.ndarray:
        """Returns the log density of actions, per volume of the env's units.

        Discrete actions have a log-probability; what is none of them, -inf.

        An action outside the bounds has the density 0, hence -inf. At a bound
        itself the density has no limit that all policies share; there the
        nearest action 2**-24 of the half range inside is scored, so that the
        result is finite for every action the policy can return. It is
        computed in float64, since near a bound the last digits decide.

        Args:
            observations: One observation of the environment, or a batch.
            actions: `[A]` or `[B, A]`, in the environment's own units. Where
                they are `Discrete`, an integer, or `[B]`.

        Returns:
            Nats, `[]` or `[B]`, float64.

        Raises:
            ValueError: If shapes do not fit.
        """
        return self.policy.log_prob(observations, actions)
