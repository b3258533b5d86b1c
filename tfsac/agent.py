"""The Soft Actor-Critic agent: a Keras model that trains on environments."""

import math
import os
import secrets
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfsac import checkpoint, export, networks, step
from tfsac.acting import Policy, Snapshot
from tfsac.config import SACConfig
from tfsac.env import EnvLike, EnvStream
from tfsac.metrics import Metrics
from tfsac.noise import NoiseStream, Seeds
from tfsac.optimizers import Optimizers, resolve
from tfsac.policy import ActionScale
from tfsac.replay import ReplayBuffer
from tfsac.spaces import Flattener, check_action_space
from tfsac.trainer import EnvTrainer, Progress

__all__ = ["SAC"]


@keras.saving.register_keras_serializable("tfsac")
class SAC(EnvTrainer):
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
            1 with finite bounds.
        config: The hyperparameters. Defaults to `SACConfig()`.
        seed: Seed of everything random here: weights, exploration, replay,
            environments. Equal seeds give equal runs on one machine, whatever
            else the process draws. `None` takes one from the system. Defaults
            to `None`.
        num_envs: E, environments to train on at once, for an `env` given by
            id. Defaults to `1`.
        actor: A Keras model of one's own, observations `[B, O]` to `(mean,
            log_std)`, each `[B, A]`. Defaults to `tfsac.Actor`.
        critic: A Keras model of one's own, `(observations [B, O], actions in
            [-1, 1] [B, A])` to values `[N, B]`. Defaults to `tfsac.Critic`.
        name: Name of the Keras model. Defaults to `"sac"`.

    Raises:
        ValueError: If spaces or models do not fit.
    """

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
        super().__init__(name=name)
        self.config = config or SACConfig()
        self.seed = secrets.randbits(31) if seed is None else seed
        self.num_envs = num_envs
        self.env: EnvLike | None = None
        self._stream: EnvStream | None = None
        if isinstance(env, tuple):
            self.observation_space, self.action_space = env
            check_action_space(self.action_space, "the agent")
        else:
            self.env, self._stream = env, EnvStream(env, num_envs)
            self.num_envs = self._stream.num_envs
            self.observation_space = self._stream.observation_space
            self.action_space = self._stream.action_space
        self.scale = ActionScale(self.action_space.low, self.action_space.high)
        seeds = Seeds.derive(self.seed)
        flatten = Flattener(self.observation_space)
        self.actor, self.critic, self.target_critic = networks.make(
            flatten, len(self.scale.low), self.config, seeds, actor, critic
        )
        self.policy = Policy(
            self.actor, flatten, self.scale, self.config, seeds.predict
        )
        self.snapshot = Snapshot(self.policy) if self.config.overlap else None
        self._make_temperature()
        self._make_data(seeds)
        self.compile()
        self.built = True

    def _make_temperature(self) -> None:
        config = self.config
        alpha = config.temperature or config.initial_temperature
        self.log_alpha = self.add_weight(
            initializer=keras.initializers.Constant(math.log(alpha)),
            trainable=config.temperature is None,
            name="log_alpha",
        )
        entropy = config.target_entropy
        action_size = len(self.scale.low)
        self.target_entropy = -action_size if entropy is None else entropy

    def _make_data(self, seeds: Seeds) -> None:
        self.replay = ReplayBuffer(
            self.config.replay_capacity,
            self.policy.flatten.size,
            self.action_space.shape[0],
            self.policy.flatten.dtype.name,
            seeds.replay,
        )
        self.learning_noise = NoiseStream(seeds.learning)
        self._acting_seed = seeds.acting
        self._random_actions = np.random.default_rng(seeds.random_actions)
        self.progress = Progress()

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
        rate = self.config.learning_rate
        optimizers = {
            name: resolve(
                name, *each, rate, getattr(self, f"{name}_optimizer", None)
            )
            for name, each in wanted.items()
        }
        self.critic_optimizer = optimizers["critic"]
        self.actor_optimizer = optimizers["actor"]
        self.temperature_optimizer = optimizers.get("temperature")
        self.optimizer = Optimizers(*optimizers.values())
        self.jit_compile = jit_compile
        self.compiled = True

        self.policy.compile(jit_compile)
        if self.snapshot is not None:
            self.snapshot.compile(jit_compile)
        self._steps: dict[int, Callable[..., tf.Tensor]] = {}

    def call(self, observations: tf.Tensor) -> tf.Tensor:
        """The deterministic actions of rows `[B, O]`, in the env's units."""
        return self.policy.deterministic(observations)

    def explore(
        self, observation: np.ndarray, policy: Policy | None = None
    ) -> np.ndarray:
        """Actions to learn from: random at first, then from the policy.

        Args:
            observation: Rows, `[E, O]`.
            policy: Which one. Defaults to `self.policy`, with the weights of
                now.

        Returns:
            `[E, A]`, in the env's units.
        """
        if self.env_steps < self.config.random_steps:
            shape = (len(observation), len(self.scale.low))
            uniform = self._random_actions.uniform(-1, 1, shape)
            return self.scale.to_env(uniform.astype(np.float32))
        self.progress.explored += 1
        seed = self._acting_seed, self.progress.explored
        return (policy or self.policy).explore(observation, seed)

    def prepare_update(
        self, updates: int | None = None
    ) -> Callable[[], Mapping[str, float]]:
        """Draws the batches of an update, and leaves learning from them.

        Args:
            updates: As for `update`.

        Returns:
            What runs the update. It no longer needs the replay buffer and may
            be called on another thread, once.

        Raises:
            ValueError: If `updates` is below 1.
            tf.errors.InvalidArgumentError: If the replay buffer is empty.
        """
        if updates is None:
            updates = self.config.updates_per_call
        batches = self.replay.sample(updates, self.config.batch_size)
        if updates not in self._steps:
            # Here, since Keras and TensorFlow keep much of what is set, such
            # as the device, for each thread by itself.
            self._steps[updates] = step.compile_step(self, batches)
        run = self._steps[updates]
        return lambda: Metrics(step.METRICS, run(batches))

    @property
    def updates(self) -> int:
        """Updates so far."""
        return int(self.critic_optimizer.iterations)

    def predict(
        self, observations: Any, deterministic: bool = True
    ) -> np.ndarray:
        """Returns actions, in the environment's own units.

        Args:
            observations: One observation of the environment, or a batch.
            deterministic: Whether to act by tanh of the mean, or sample.
                Defaults to `True`.

        Returns:
            `[A]` for one observation, `[B, A]` for a batch.

        Raises:
            ValueError: If the observations do not fit the space, or hold NaN.
        """
        return self.policy.predict(observations, deterministic)

    def log_prob(self, observations: Any, actions: Any) -> np.ndarray:
        """Returns the log density of actions, per volume of the env's units.

        An action outside the bounds has the density 0, hence -inf. At a bound
        itself the density has no limit that all policies share; there the
        nearest action 2**-24 of the half range inside is scored, so that the
        result is finite for every action the policy can return. It is
        computed in float64, since near a bound the last digits decide.

        Args:
            observations: One observation of the environment, or a batch.
            actions: `[A]` or `[B, A]`, in the environment's own units.

        Returns:
            Nats, `[]` or `[B]`, float64.

        Raises:
            ValueError: If shapes do not fit.
        """
        return self.policy.log_prob(observations, actions)

    def save(
        self,
        path: str | os.PathLike[str],
        overwrite: bool = True,
        include_replay: bool = False,
        **kwargs: Any,
    ) -> None:
        """Saves the agent for `tfsac.load`, to go on with later.

        Args:
            path: A `.keras` file, or a directory.
            overwrite: Whether what is there may be replaced. Defaults to
                `True`.
            include_replay: Whether the replay buffer is saved too, which
                needs a directory. Defaults to `False`.
            **kwargs: As for `keras.Model.save`.

        Raises:
            FileExistsError: If `path` exists and `overwrite` is false.
            ValueError: If the replay buffer should go into a `.keras` file.
        """
        checkpoint.save(self, str(path), overwrite, include_replay, **kwargs)

    def export(self, directory: str) -> str:
        """Writes the policy as a SavedModel for serving.

        Args:
            directory: The servable's folder; the model becomes its version
                `<highest so far + 1>`.

        Returns:
            The folder of the version written; `tfsac.export` describes it.
        """
        return export.export(self, directory)

    def save_own_variables(self, store: dict[str, Any]) -> None:
        """Keras' hook: counters go beside the weights."""
        super().save_own_variables(store)
        for name, value in self._counters().items():
            store[name] = np.asarray(value)

    def load_own_variables(self, store: dict[str, Any]) -> None:
        """Keras' hook, the inverse of `save_own_variables`."""
        counters = {name: store[name][()] for name in self._counters()}
        # Keras' store has keys, but does not iterate over them.
        own = {name: store[name] for name in {*store.keys()} - {*counters}}
        super().load_own_variables(own)
        self.progress.env_steps = int(counters["env_steps"])
        self.progress.pending_steps = int(counters["pending_steps"])
        self.progress.explored = int(counters["acting_noise"])
        self.learning_noise.counter.assign(counters["learning_noise"])

    def _counters(self) -> dict[str, Any]:
        return {
            "env_steps": self.env_steps,
            "pending_steps": self.progress.pending_steps,
            "learning_noise": self.learning_noise.counter.numpy(),
            "acting_noise": self.progress.explored,
        }

    def get_config(self) -> dict[str, Any]:
        """Returns what `from_config` makes an equal, untrained agent of."""
        return checkpoint.agent_config(self)

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Any = None
    ) -> "SAC":
        """Makes an agent of what `get_config` returned."""
        return checkpoint.agent_from_config(cls, config, custom_objects)

    def get_compile_config(self) -> dict[str, Any]:
        """Keras' hook: the optimizers, for `compile_from_config`."""
        serialize = keras.saving.serialize_keras_object
        return {
            "actor_optimizer": serialize(self.actor_optimizer),
            "critic_optimizer": serialize(self.critic_optimizer),
            "temperature_optimizer": serialize(self.temperature_optimizer),
            "jit_compile": self.jit_compile,
        }

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Keras' hook, the inverse of `get_compile_config`."""
        self.compile(**keras.saving.deserialize_keras_object(config))
