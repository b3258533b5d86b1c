"""The Soft Actor-Critic agent: a Keras model that trains on environments."""

import math
import secrets
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfsac import checkpoint, export, loop, networks, step
from tfsac.acting import Policy
from tfsac.config import SACConfig
from tfsac.env import EnvLike, EnvStream, recipe
from tfsac.evaluation import evaluate
from tfsac.noise import NoiseStream, Seeds
from tfsac.optimizers import Optimizers, resolve
from tfsac.policy import ActionScale
from tfsac.replay import ReplayBuffer
from tfsac.spaces import Flattener, check_action_space, check_same_spaces

__all__ = ["SAC"]


@keras.saving.register_keras_serializable("tfsac")
class SAC(keras.Model):
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
        self.acting_noise = NoiseStream(seeds.acting)
        self._random_actions = np.random.default_rng(seeds.random_actions)
        self.env_steps = 0
        self.pending_steps = 0

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
            ValueError: If one optimizer is given twice.
        """
        rate = self.config.learning_rate
        self.actor_optimizer = resolve(actor_optimizer, rate, "actor")
        self.critic_optimizer = resolve(critic_optimizer, rate, "critic")
        built = [
            (self.critic_optimizer, self.critic.trainable_variables),
            (self.actor_optimizer, self.actor.trainable_variables),
        ]
        self.temperature_optimizer = None
        if self.config.temperature is None:
            self.temperature_optimizer = resolve(
                temperature_optimizer, rate, "temperature"
            )
            built.append((self.temperature_optimizer, [self.log_alpha]))
        for optimizer, variables in built:
            optimizer.build(variables)
        self.optimizer = Optimizers(*(optimizer for optimizer, _ in built))
        self.jit_compile = jit_compile
        self.compiled = True

        self._explore = tf.function(
            self.policy.sampler(self.acting_noise), jit_compile=jit_compile
        )
        self._steps: dict[int, Callable[..., tf.Tensor]] = {}

    def call(self, observations: tf.Tensor) -> tf.Tensor:
        """The deterministic actions of rows `[B, O]`, in the env's units."""
        return self.policy.deterministic(observations)

    def explore(self, observation: np.ndarray) -> np.ndarray:
        """Actions to learn from: random at first, then from the policy.

        Args:
            observation: Rows, `[E, O]`.

        Returns:
            `[E, A]`, in the env's units.
        """
        if self.env_steps < self.config.random_steps:
            shape = (len(observation), len(self.scale.low))
            uniform = self._random_actions.uniform(-1, 1, shape)
            return self.scale.to_env(uniform.astype(np.float32)).numpy()
        return self._explore(observation).numpy()

    def update(self, updates: int | None = None) -> dict[str, float]:
        """Runs K updates from the replay buffer, in one compiled call.

        `fit` calls it; with `replay.insert` it makes one's own loop, for a
        robot that `fit` cannot step.

        Example:

        ```python
        agent = tfsac.SAC((observation_space, action_space))
        agent.replay.insert(transitions)
        metrics = agent.update(updates=len(transitions.reward))
        ```

        Args:
            updates: K; each K that is new is compiled. Defaults to
                `config.updates_per_call`.

        Returns:
            The means of the losses, `alpha`, `entropy` and `q_mean` over the
            K updates.

        Raises:
            tf.errors.InvalidArgumentError: If the replay buffer is empty.
        """
        updates = updates or self.config.updates_per_call
        batches = self.replay.sample(updates, self.config.batch_size)
        if updates not in self._steps:
            self._steps[updates] = step.compile_step(self, batches)
        values = self._steps[updates](batches).numpy().tolist()
        return dict(zip(step.METRICS, values, strict=True))

    @property
    def can_learn(self) -> bool:
        """Whether the replay buffer holds the first transitions to learn from.

        An agent that was loaded without its replay buffer gathers them anew,
        with the policy that it has.
        """
        enough = max(1, self.config.random_steps)
        return len(self.replay) >= min(enough, self.config.replay_capacity)

    @property
    def updates(self) -> int:
        """Updates so far."""
        return int(self.critic_optimizer.iterations)

    def fit(
        self,
        epochs: int = 1,
        steps_per_epoch: int = 1_000,
        env: EnvLike | None = None,
        validation_env: EnvLike | None = None,
        validation_episodes: int = 10,
        callbacks: Sequence[keras.callbacks.Callback] | None = None,
        initial_epoch: int = 0,
        verbose: str | int = "auto",
    ) -> keras.callbacks.History:
        """Trains on the environment.

        A second call goes on: with the replay buffer, the counters, the
        running episode, and without a new random phase.

        Args:
            epochs: Number of the last epoch, as in Keras. Defaults to `1`.
            steps_per_epoch: Transitions in an epoch. Defaults to `1_000`.
            env: Environment to train on from now on, with the same spaces.
                Defaults to the agent's own.
            validation_env: Environment for `val_episode_return`. Defaults to
                fresh ones, made as the agent's own was.
            validation_episodes: Episodes of deterministic actions after each
                epoch, from the same starts each time; 0 turns it off.
                Defaults to `10`.
            callbacks: Keras callbacks; one batch is one call of the train
                step. Defaults to `None`.
            initial_epoch: Epoch to start at. Defaults to `0`.
            verbose: 0 is silent, 1 a progress bar, 2 a line an epoch. "auto"
                is 1 on a terminal, else 2. Defaults to `"auto"`.

        Returns:
            A `keras.callbacks.History`; docs/sac.md has each key's formula.

        Raises:
            ValueError: If there is no environment, or none to evaluate on.
            EnvError: If the environment breaks its promises.
        """
        if env is not None:
            self.attach(env)
        stream = self._running_stream()
        validate = None
        if validation_episodes:
            target = self._evaluation_env(validation_env)

            def validate() -> float:
                return self.evaluate(target, validation_episodes, self.seed)[
                    "episode_return"
                ]

        return loop.fit(
            self,
            stream,
            epochs=epochs,
            steps_per_epoch=steps_per_epoch,
            validate=validate,
            callbacks=callbacks,
            initial_epoch=initial_epoch,
            verbose=verbose,
        )

    def attach(self, env: EnvLike) -> EnvStream:
        """Sets the environment to train on from now on.

        Args:
            env: As for `SAC`, of the same spaces.

        Returns:
            The environment as a stream of transitions.

        Raises:
            ValueError: If its spaces are others.
        """
        stream = EnvStream(env, self.num_envs)
        received = stream.observation_space, stream.action_space
        expected = self.observation_space, self.action_space
        check_same_spaces(received, expected, stream.name)
        self.env, self._stream = env, stream
        return stream

    def _running_stream(self) -> EnvStream:
        if self.env is None:
            raise ValueError(
                "Expected an environment to train on. Received: none, as this "
                "agent was made without one. Pass it as env=, or use "
                "agent.replay.insert and agent.update."
            )
        stream = self._stream or self.attach(self.env)
        if not stream.is_running:
            # A run that goes on after loading does not see its starts again.
            words = np.random.SeedSequence([self.seed, self.env_steps])
            stream.reset(int(words.generate_state(1)[0]))
        return stream

    def evaluate(
        self,
        env: EnvLike | None = None,
        episodes: int = 50,
        seed: int = 0,
        deterministic: bool = True,
        return_dict: bool = True,
    ) -> Any:
        """Runs whole episodes from fixed starts; never on the training env.

        Args:
            env: Where to. Defaults to fresh environments, made as the agent's
                own was.
            episodes: Number of episodes. Defaults to `50`.
            seed: Decides the starts, and the noise of sampled actions.
                Defaults to `0`.
            deterministic: Whether to act by tanh of the mean, or sample.
                Defaults to `True`.
            return_dict: Whether to return a dict, or the list of its values.
                Defaults to `True`.

        Returns:
            `episode_return`, the mean over episodes, its standard deviation
            `episode_return_std`, and the mean `episode_length`.

        Raises:
            ValueError: If there is no spec to make an environment from.
        """
        act = self.policy.deterministic
        if not deterministic:
            act = tf.function(self.policy.sampler(NoiseStream(seed)))
        returns, lengths = evaluate(
            self._evaluation_env(env),
            lambda observations: act(observations).numpy(),
            episodes,
            seed,
            (self.observation_space, self.action_space),
        )
        result = {
            "episode_return": float(np.mean(returns)),
            "episode_return_std": float(np.std(returns)),
            "episode_length": float(np.mean(lengths)),
        }
        return result if return_dict else list(result.values())

    def _evaluation_env(self, env: EnvLike | None) -> EnvLike:
        if env is not None:
            return env
        if self.env is None:
            raise ValueError(
                "Expected an environment to evaluate on, as env= or "
                "validation_env=. Received: none, as this agent was made "
                "without one."
            )
        return recipe(self.env)

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
        path: str,
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
            **kwargs: For a `.keras` file, as for `keras.Model.save`.

        Raises:
            ValueError: If the replay buffer should go into a `.keras` file.
        """
        if not str(path).endswith(".keras"):
            checkpoint.save_directory(self, path, overwrite, include_replay)
        elif include_replay:
            raise ValueError(
                "Expected a directory to save the replay buffer in. Received: "
                f"path={path!r}, a single file, with include_replay=True."
            )
        else:
            super().save(path, overwrite=overwrite, **kwargs)

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
        own = {name: store[name] for name in store if name not in counters}
        super().load_own_variables(own)
        self.env_steps = int(counters["env_steps"])
        self.pending_steps = int(counters["pending_steps"])
        self.learning_noise.counter.assign(counters["learning_noise"])
        self.acting_noise.counter.assign(counters["acting_noise"])

    def _counters(self) -> dict[str, Any]:
        return {
            "env_steps": self.env_steps,
            "pending_steps": self.pending_steps,
            "learning_noise": self.learning_noise.counter.numpy(),
            "acting_noise": self.acting_noise.counter.numpy(),
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
