"""The soft Q-learning agent."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from gymnasium import spaces

from tfsac import networks, sampler, sql_update
from tfsac.agent import Agent
from tfsac.config import SQLConfig
from tfsac.policy import ActionScale
from tfsac.sampler_policy import SamplerPolicy
from tfsac.transition import Transition

__all__ = ["SoftQLearning"]


@keras.saving.register_keras_serializable("tfsac")
class SoftQLearning(Agent):
    """Soft Q-learning: energy-based policies of any shape.

    It learns Q of the best policy at a fixed temperature, and beside it a
    network that samples from that policy, exp((Q - V) / alpha). Where several
    actions are good it keeps them all, which the Gaussian of `SAC` cannot; an
    update takes several times as long, and proposals that are uniform limit it
    to few action dimensions.

    All else is as for `SAC`.

    Example:

    ```python
    config = tfsac.SQLConfig(temperature=0.2)
    agent = tfsac.SoftQLearning("Pendulum-v1", config, seed=0)
    agent.fit(epochs=5, steps_per_epoch=1_000)
    print(agent.evaluate(episodes=50))
    ```

    Args:
        env: What to learn, as for `SAC`. Actions must be a `Box` of rank 1 with
            finite bounds.
        config: The hyperparameters. Defaults to `SQLConfig()`.
        seed: Seed of everything random here, as for `SAC`. Defaults to `None`.
        num_envs: E, environments to train on at once, for an `env` given by
            id. Defaults to `1`.
        actor: A Keras model of one's own, `(observations [B, O], noise [B,
            A])` to actions before tanh `[B, A]`. Defaults to `tfsac.Sampler`.
        critic: A Keras model of one's own, `(observations [B, O], actions in
            [-1, 1] [B, A])` to values `[N, B]`. Defaults to `tfsac.Critic`.
        name: Name of the Keras model. Defaults to `"soft_q_learning"`.

    Raises:
        ValueError: If spaces or models do not fit.

    References:
        - [SQL](https://arxiv.org/abs/1702.08165)
    """

    CONFIG = SQLConfig
    METRICS = sql_update.METRICS

    action_space: spaces.Box
    config: SQLConfig
    policy: SamplerPolicy

    def __init__(
        self,
        env: Any,
        config: SQLConfig | None = None,
        seed: int | None = None,
        num_envs: int = 1,
        actor: keras.Model | None = None,
        critic: keras.Model | None = None,
        name: str = "soft_q_learning",
    ):
        super().__init__(env, config or SQLConfig(), seed, num_envs, name)
        scale = ActionScale(self.action_space.low, self.action_space.high)
        sizes = self.flatten, len(scale.low), self.config
        self.actor = sampler.make(*sizes, self._seeds.actor, actor)
        self.critic, self.target_critic = networks.make_critics(
            *sizes, self._seeds.critic, critic
        )
        self._set_temperature(self.config.temperature, is_learned=False)
        self._complete(
            SamplerPolicy(
                self.actor,
                self.critic,
                self.log_alpha,
                self.flatten,
                scale,
                self._seeds.predict,
            )
        )

    def compile(
        self,
        actor_optimizer: Any = None,
        critic_optimizer: Any = None,
        jit_compile: bool = True,
    ) -> None:
        """Sets the optimizers and compiles anew; it begins compiled.

        Args:
            actor_optimizer: A Keras optimizer, or its name. Defaults to Adam
                with `config.learning_rate` and epsilon 1e-8, as for the other.
            critic_optimizer: The same for the critics.
            jit_compile: Whether XLA compiles the train step. Defaults to
                `True`.

        Raises:
            ValueError: If an optimizer has been used for something else.
        """
        wanted = {
            "critic": (critic_optimizer, self.critic.trainable_variables),
            "actor": (actor_optimizer, self.actor.trainable_variables),
        }
        self._set_optimizers(wanted, jit_compile)

    def learn(self, batch: Transition) -> tf.Tensor:
        """One update of critics, sampling network and target critics.

        Args:
            batch: Fields `[B, ...]`.

        Returns:
            The metrics in the order of `METRICS`, `[M]`.
        """
        draws = self.config.num_particles + self.config.num_proposals
        batch_size, action_size = batch.action.shape
        noise = self.learning_noise.draw((batch_size, draws, action_size))
        return sql_update.update(self, batch, noise)

    def log_prob(self, observations: Any, actions: Any) -> np.ndarray:
        """Returns the log density of actions, per volume of the env's units.

        It is that of the energy-based policy, `(Q(s, a) - V(s)) / alpha` by the
        critics of now, which the sampling network approximates; the network
        itself has no density. V is estimated from 256 actions, enough in one
        or two dimensions. An action outside the bounds has the density 0, hence
        -inf.

        Args:
            observations: One observation of the environment, or a batch.
            actions: `[A]` or `[B, A]`, in the environment's own units.

        Returns:
            Nats, `[]` or `[B]`, float64.

        Raises:
            ValueError: If shapes do not fit.
        """
        return self.policy.log_prob(observations, actions)
