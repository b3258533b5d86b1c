"""What every agent is: a Keras model that trains on environments."""

import collections
import inspect
import math
import os
import pathlib
import secrets
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import keras
import numpy as np
import tensorflow as tf
from gymnasium import spaces

from tfsac import export, keras_file, saving, step
from tfsac.acting import Policy, Snapshot
from tfsac.action_spaces import action_size, check_action_space
from tfsac.config import AgentConfig
from tfsac.env import EnvLike, EnvStream
from tfsac.metrics import Metrics
from tfsac.noise import (
    NoiseStream,
    Seeds,
    generator_state,
    set_generator_state,
)
from tfsac.optimizers import Optimizers, resolve
from tfsac.progress import Progress
from tfsac.replay import ReplayBuffer
from tfsac.spaces import Flattener
from tfsac.trainer import EnvTrainer
from tfsac.transition import Transition

__all__ = ["Agent"]


class Agent(EnvTrainer):
    """An off-policy agent: a policy, a replay buffer, and an algorithm.

    Subclasses are the algorithms. Their constructor makes the networks and
    hands them to `_complete`; `learn` is one update, which `step` compiles.

    Args:
        env: As for `SAC`.
        config: The hyperparameters.
        seed: As for `SAC`.
        num_envs: As for `SAC`.
        name: Name of the Keras model.

    Attributes:
        CONFIG: Class of the hyperparameters.
        ACTION_SPACES: Types of the action spaces that it can act in.
        METRICS: Names of what `learn` returns.
        actor: Keras model, the policy's.
        critic: Keras model, the action values.
        target_critic: Its slowly following copy.
        actor_optimizer: Keras optimizer of the actor.
        critic_optimizer: The critic's.
        log_alpha: Variable of the temperature.
    """

    CONFIG: ClassVar[type[AgentConfig]]
    ACTION_SPACES: ClassVar[tuple[type[Any], ...]] = (spaces.Box,)
    METRICS: ClassVar[tuple[str, ...]]

    actor: keras.Model
    critic: keras.Model
    target_critic: keras.Model
    actor_optimizer: keras.optimizers.Optimizer
    critic_optimizer: keras.optimizers.Optimizer
    log_alpha: keras.Variable

    def __init__(
        self,
        env: Any,
        config: AgentConfig,
        seed: int | None,
        num_envs: int,
        name: str,
    ):
        super().__init__(name=name)
        self.config = config
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
        self._check_action_space()
        self.flatten = Flattener(self.observation_space)
        self._seeds = Seeds.derive(self.seed)
        self.replay = ReplayBuffer(
            config.replay_capacity,
            self.flatten.size,
            action_size(self.action_space),
            self.flatten.dtype.name,
            self._seeds.replay,
        )
        self.learning_noise = NoiseStream(self._seeds.learning)
        self._random_actions = np.random.default_rng(self._seeds.random_actions)
        self.progress = Progress()
        self.last_batches = collections.deque(maxlen=2 if config.overlap else 1)

    def _set_temperature(self, alpha: float, is_learned: bool) -> None:
        self.log_alpha = self.add_weight(
            initializer=keras.initializers.Constant(math.log(alpha)),
            trainable=is_learned,
            name="log_alpha",
        )

    def _check_action_space(self) -> None:
        if not isinstance(self.action_space, self.ACTION_SPACES):
            names = " or ".join(space.__name__ for space in self.ACTION_SPACES)
            raise ValueError(
                f"Expected actions of a {names} space, for a "
                f"{type(self).__name__}. Received: {self.action_space}."
            )

    def _complete(self, policy: Policy) -> None:
        """Ends a constructor: the networks are made."""
        self.policy = policy
        self.snapshot = Snapshot(policy) if self.config.overlap else None
        self.compile()
        self.built = True

    def _set_optimizers(
        self,
        wanted: Mapping[str, tuple[Any, list[keras.Variable]]],
        jit_compile: bool,
    ) -> None:
        """What `compile` does.

        Args:
            wanted: Optimizers by the name of what they optimize, as they were
                given, and its variables. The first counts the updates.
            jit_compile: Whether XLA compiles the train step.
        """
        rate = self.config.learning_rate
        optimizers = {
            name: resolve(
                name, *each, rate, getattr(self, f"{name}_optimizer", None)
            )
            for name, each in wanted.items()
        }
        for name, optimizer in optimizers.items():
            setattr(self, f"{name}_optimizer", optimizer)
        self.optimizer = Optimizers(*optimizers.values())
        self.jit_compile = jit_compile
        self.compiled = True

        self.policy.compile(jit_compile)
        if self.snapshot is not None:
            self.snapshot.policy.compile(jit_compile)
        self._steps: dict[int, Callable[..., tf.Tensor]] = {}

    def learn(self, batch: Transition) -> tf.Tensor:
        """One update, in TensorFlow operations.

        Args:
            batch: Fields `[B, ...]`.

        Returns:
            The metrics in the order of `METRICS`, `[M]`.
        """
        raise NotImplementedError

    @property
    def alpha(self) -> float:
        """The temperature, in reward units per nat."""
        return float(tf.exp(self.log_alpha))

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
            `[E, A]`, in the env's units; `[E]` where they are `Discrete`.
        """
        if self.env_steps < self.config.random_steps:
            return self.policy.random(self._random_actions, len(observation))
        self.progress.explored += 1
        seed = self._seeds.acting, self.progress.explored
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
        self.last_batches.append(batches)
        if updates not in self._steps:
            # Here, since Keras and TensorFlow keep much of what is set, such
            # as the device, for each thread by itself.
            self._steps[updates] = step.compile_step(self, batches)
        run = self._steps[updates]
        return lambda: Metrics(self.METRICS, run(batches))

    @property
    def updates(self) -> int:
        """Updates so far."""
        return int(self.optimizer.iterations)

    def predict(
        self, observations: Any, deterministic: bool = True
    ) -> np.ndarray:
        """Returns actions, in the environment's own units.

        Args:
            observations: One observation of the environment, or a batch.
            deterministic: Whether to act deterministically, or sample.
                Defaults to `True`.

        Returns:
            `[A]` for one observation, `[B, A]` for a batch. Where actions are
            `Discrete`, an integer or `[B]`.

        Raises:
            ValueError: If the observations do not fit the space, or hold NaN.
        """
        return self.policy.predict(observations, deterministic)

    def save(
        self,
        path: str | os.PathLike[str],
        overwrite: bool = True,
        include_replay: bool = False,
        **kwargs: Any,
    ) -> None:
        """Saves the agent for `tfsac.load`, to go on with later.

        A crash at any time leaves what was saved there before, or this, whole.

        Args:
            path: A `.keras` file, or a directory.
            overwrite: Whether what is there may be replaced. Defaults to
                `True`.
            include_replay: Whether the replay buffer is saved too, which
                needs a directory. Defaults to `False`.
            **kwargs: As for `keras.Model.save`.

        Raises:
            FileExistsError: If `path` exists and `overwrite` is false.
            ValueError: If the replay buffer should go into a `.keras` file, or
                the directory holds the checkpoints of a run.
            OSError, tf.errors.OpError: If the system refuses.
        """
        saving.save(self, str(path), overwrite, include_replay, **kwargs)

    def load_weights(
        self, filepath: str | os.PathLike[str], *args: Any, **kwargs: Any
    ) -> None:
        """Loads what `save`, `save_weights` or a checkpoint wrote.

        A `.keras` file is checked first: it may come from anybody.

        Args:
            filepath: The file.
            *args: As for `keras.Model.load_weights`.
            **kwargs: The same.

        Raises:
            ValueError: If the file is damaged or malicious, or of another
                agent.
        """
        path = pathlib.Path(filepath)
        if path.suffix == ".keras" and path.is_file():
            keras_file.check_weights(path)
        super().load_weights(filepath, *args, **kwargs)

    def export(
        self, directory: str, format: str = "tf_saved_model", **options: Any
    ) -> str:
        """Writes the policy for where there is no tfsac.

        | `format`         | what is written                                  |
        |------------------|--------------------------------------------------|
        | `tf_saved_model` | a SavedModel for TensorFlow Serving, Python, C++ |
        | `litert`         | files for LiteRT, as on phones                   |
        | `onnx`           | files for ONNX runtimes                          |
        | `native`         | objects and a C header, with nothing to install  |
        | `trainable`      | a SavedModel that learns too, without Python     |

        All take observations and return actions in the environment's own
        units, and act as `predict` does.

        Args:
            directory: The model's folder; what is written becomes its version
                `<highest so far + 1>`.
            format: One of the table, in Keras' words where it has them.
                Defaults to `"tf_saved_model"`.
            **options: For `litert` and `onnx` those of `keras.Model.export`;
                for `native` `target_triple` and `target_cpu`, in LLVM's words,
                by default any 64-bit PC.

        Returns:
            The folder of the version written; docs/serving.md describes it.

        Raises:
            ValueError: If there is no such format, or it cannot hold the
                policy.
            ImportError: If the format needs a package that is missing.
        """
        return export.export(self, directory, format, **options)

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
        env_steps = int(counters["env_steps"])
        self.progress.env_steps = env_steps
        self.progress.answered_steps = env_steps - int(
            counters["pending_steps"]
        )
        self.progress.explored = int(counters["acting_noise"])
        self.policy.predicted = int(counters["predict_noise"])
        self.learning_noise.counter.assign(counters["learning_noise"])
        set_generator_state(self._random_actions, counters["random_actions"])
        states = self._layer_seeds()
        for state, value in zip(states, counters["layer_seeds"], strict=True):
            state.assign(value)

    def _counters(self) -> dict[str, Any]:
        return {
            "env_steps": self.env_steps,
            "pending_steps": self.progress.pending_steps,
            "learning_noise": self.learning_noise.counter.numpy(),
            "acting_noise": self.progress.explored,
            "predict_noise": self.policy.predicted,
            "random_actions": generator_state(self._random_actions),
            "layer_seeds": [seed.numpy() for seed in self._layer_seeds()],
        }

    def _layer_seeds(self) -> list[keras.Variable]:
        """States of the random layers of one's own models, such as dropout.

        Keras does not save them: they are variables, but no weights.
        """
        weights = {id(weight) for weight in self.weights}
        return [v for v in self.variables if id(v) not in weights]

    def get_compile_config(self) -> dict[str, Any]:
        """Keras' hook: what `compile` was given, or chose."""
        serialize = keras.saving.serialize_keras_object
        names = inspect.signature(self.compile).parameters
        return {name: serialize(getattr(self, name)) for name in names}

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Keras' hook, the inverse of `get_compile_config`."""
        self.compile(**keras.saving.deserialize_keras_object(config))

    def get_config(self) -> dict[str, Any]:
        """Returns what `from_config` makes an equal, untrained agent of."""
        return saving.agent_config(self)

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Any = None
    ) -> Self:
        """Makes an agent of what `get_config` returned."""
        return saving.agent_from_config(cls, config, custom_objects)
