"""The Keras networks: a Gaussian actor and an ensemble of critics.

Any Keras model of the user's can stand in for either:

- an actor maps observations `[B, O]` to `(mean, log_std)`, each `[B, A]`;
- a critic maps `(observations [B, O], actions [B, A])` to values `[N, B]`,
  actions in [-1, 1].
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfsac import mlp
from tfsac.config import SACConfig
from tfsac.noise import Seeds
from tfsac.spaces import Flattener

__all__ = ["Actor", "Critic", "EnsembleDense", "averaged", "clone", "make"]


@keras.saving.register_keras_serializable("tfsac")
class Actor(keras.Model):
    """Maps an observation to the mean and log standard deviation of a Gaussian.

    Example:

    ```python
    actor = Actor(action_size=6)
    mean, log_std = actor(tf.zeros([32, 17]))  # each [32, 6]
    ```

    Args:
        action_size: A.
        hidden_units: Widths of the hidden layers. Defaults to `(256, 256)`.
        activation: Their Keras activation. Defaults to `"relu"`.
        seed: Seed of the initial weights. Defaults to `None`.
        **kwargs: As for `keras.Model`.

    Call arguments:
        observation: `[B, O]`, of any numeric dtype.

    Returns of a call:
        `(mean, log_std)`, each `[B, A]`, the latter not yet bounded.
    """

    def __init__(
        self,
        action_size: int,
        hidden_units: Sequence[int] = (256, 256),
        activation: str = "relu",
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.action_size = action_size
        self.hidden_units = tuple(hidden_units)
        self.activation = activation
        self.seed = seed
        seeds = _seeds(seed, len(self.hidden_units) + 1)
        self.hidden_layers = [
            keras.layers.Dense(
                units, activation, kernel_initializer=_initializer(layer_seed)
            )
            for units, layer_seed in zip(self.hidden_units, seeds, strict=False)
        ]
        self.head = keras.layers.Dense(
            2 * action_size, kernel_initializer=_initializer(seeds[-1])
        )

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Creates the weights for observations `[B, O]`."""
        for layer in [*self.hidden_layers, self.head]:
            layer.build(input_shape)
            input_shape = layer.compute_output_shape(input_shape)
        self.built = True

    def call(self, observation: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the Gaussian's mean and log standard deviation."""
        x = tf.cast(observation, self.compute_dtype)
        layers = [*self.hidden_layers, self.head]
        widest = max(self.hidden_units, default=0)
        if mlp.serves(self.activation, self.compute_dtype, widest):
            kernels = [layer.kernel[tf.newaxis] for layer in layers]
            biases = [layer.bias[tf.newaxis] for layer in layers]
            x = mlp.dense_stack([x], kernels, biases, self.activation)[0]
        else:
            for layer in layers:
                x = layer(x)
        mean, log_std = tf.split(x, 2, axis=-1)
        return mean, log_std

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "action_size": self.action_size,
            "hidden_units": self.hidden_units,
            "activation": self.activation,
            "seed": self.seed,
        }


@keras.saving.register_keras_serializable("tfsac")
class Critic(keras.Model):
    """An ensemble of N action-value functions, evaluated together.

    Example:

    ```python
    critic = Critic(num_critics=2)
    q = critic((tf.zeros([32, 17]), tf.zeros([32, 6])))  # [2, 32]
    ```

    Args:
        num_critics: N. Defaults to `2`.
        hidden_units: Widths of the hidden layers. Defaults to `(256, 256)`.
        activation: Their Keras activation. Defaults to `"relu"`.
        seed: Seed of the initial weights. Defaults to `None`.
        **kwargs: As for `keras.Model`.

    Call arguments:
        inputs: `(observation, action)`, `[B, O]` and `[B, A]`, the action in
            [-1, 1].

    Returns of a call:
        Q, `[N, B]`.
    """

    def __init__(
        self,
        num_critics: int = 2,
        hidden_units: Sequence[int] = (256, 256),
        activation: str = "relu",
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_critics = num_critics
        self.hidden_units = tuple(hidden_units)
        self.activation = activation
        self.seed = seed
        widths = [*self.hidden_units, 1]
        activations = [activation] * len(self.hidden_units) + [None]
        self.ensemble_layers = [
            EnsembleDense(num_critics, units, function, seed=layer_seed)
            for units, function, layer_seed in zip(
                widths, activations, _seeds(seed, len(widths)), strict=True
            )
        ]

    def build(self, input_shape: Sequence[Sequence[int]]) -> None:
        """Creates the weights for `([B, O], [B, A])`."""
        (batch, observation_size), (_, action_size) = input_shape
        shape: Sequence[int] = (batch, observation_size + action_size)
        for layer in self.ensemble_layers:
            layer.build(shape)
            shape = layer.compute_output_shape(shape)
        self.built = True

    def call(self, inputs: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        """Returns Q(s, a) of each member, `[N, B]`."""
        observation, action = inputs
        x = [tf.cast(observation, action.dtype), action]
        layers = self.ensemble_layers
        widest = max(self.hidden_units, default=0)
        if mlp.serves(self.activation, self.compute_dtype, widest):
            kernels = [layer.kernel for layer in layers]
            biases = [layer.bias for layer in layers]
            q = mlp.dense_stack(x, kernels, biases, self.activation)
        else:
            q = tf.concat(x, axis=-1)
            for layer in layers:
                q = layer(q)
        return tf.squeeze(q, axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "num_critics": self.num_critics,
            "hidden_units": self.hidden_units,
            "activation": self.activation,
            "seed": self.seed,
        }


@keras.saving.register_keras_serializable("tfsac")
class EnsembleDense(keras.layers.Layer):
    """N dense layers side by side, as one batched matrix product.

    Each member is initialised by itself: Glorot's rule on the whole
    `[N, in, out]` kernel would count the wrong fan.

    Args:
        num_members: N.
        units: Width of each member.
        activation: Keras activation. Defaults to `None`.
        seed: Seed of the initial weights. Defaults to `None`.
        **kwargs: As for `keras.layers.Layer`.

    Call arguments:
        inputs: `[B, in]`, the same for all members, or `[N, B, in]`.

    Returns of a call:
        `[N, B, units]`.
    """

    def __init__(
        self,
        num_members: int,
        units: int,
        activation: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_members = num_members
        self.units = units
        self.activation = keras.activations.get(activation)
        self.seed = seed

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Creates a kernel `[N, in, units]` and a bias `[N, units]`."""
        self.kernel = self.add_weight(
            shape=(self.num_members, input_shape[-1], self.units),
            initializer=self._initial_kernel,
            name="kernel",
        )
        self.bias = self.add_weight(
            shape=(self.num_members, self.units),
            initializer="zeros",
            name="bias",
        )

    def _initial_kernel(self, shape: Sequence[int], dtype: Any) -> tf.Tensor:
        members = [
            _initializer(member_seed)(shape[1:], dtype)
            for member_seed in _seeds(self.seed, self.num_members)
        ]
        return tf.stack(members)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Applies each member to its input."""
        # tf.matmul broadcasts a shared [B, in] over the members.
        outputs = tf.matmul(inputs, self.kernel) + self.bias[:, tf.newaxis]
        return self.activation(outputs)

    def compute_output_shape(
        self, input_shape: Sequence[int]
    ) -> tuple[int, ...]:
        """Returns `(N, B, units)`."""
        return (self.num_members, input_shape[-2], self.units)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "num_members": self.num_members,
            "units": self.units,
            "activation": keras.activations.serialize(self.activation),
            "seed": self.seed,
        }


def make(
    flatten: Flattener,
    action_size: int,
    config: SACConfig,
    seeds: Seeds,
    actor: keras.Model | None = None,
    critic: keras.Model | None = None,
) -> tuple[keras.Model, keras.Model, keras.Model]:
    """Makes and checks the networks of an agent.

    Args:
        flatten: Tells the size and type of observations.
        action_size: A.
        config: For the built-in networks.
        seeds: For the built-in networks.
        actor: One of the user's instead. Defaults to `None`.
        critic: One of the user's instead. Defaults to `None`.

    Returns:
        Actor, critic, and target critic, a copy of the critic.

    Raises:
        ValueError: If a network of the user's returns other shapes than it
            should.
    """
    # Five rows: a number that an ensemble's is not taken for.
    rows = tf.zeros([5, flatten.size], flatten.dtype)
    actions = tf.zeros([5, action_size])
    hidden = config.hidden_units, config.activation
    actor = actor or Actor(action_size, *hidden, seeds.actor)
    critic = critic or Critic(config.num_critics, *hidden, seeds.critic)
    _build_actor(actor, rows, actions)
    _build_critic(critic, rows, actions)
    target_critic = clone(critic, (rows, actions))
    return actor, critic, target_critic


def clone(model: keras.Model, inputs: Any) -> keras.Model:
    """Returns the same model with variables of its own, and not to be trained.

    Args:
        model: A built model, one of the user's perhaps.
        inputs: What it can be called with.
    """
    copy = keras.models.clone_model(model)
    copy(inputs)  # creates the weights
    copy.set_weights(model.get_weights())
    copy.trainable = False
    return copy


def averaged(model: keras.Model) -> list[tf.Variable]:
    """What a soft update averages: all floats, normalisation's state too."""
    return [v.value for v in model.variables if v.dtype.startswith("float")]


def _build_actor(
    actor: keras.Model, rows: tf.Tensor, actions: tf.Tensor
) -> None:
    """Creates an actor's weights and checks what it returns."""
    outputs = actor(rows)
    is_pair = isinstance(outputs, list | tuple) and len(outputs) == 2
    if not is_pair or any(each.shape != actions.shape for each in outputs):
        raise ValueError(
            "Expected an actor that maps observations of the shape "
            f"{tuple(rows.shape)} to a pair (mean, log_std), each of the shape "
            f"{tuple(actions.shape)}. Received: {_shapes(outputs)} from "
            f"{actor.name!r}."
        )


def _build_critic(
    critic: keras.Model, rows: tf.Tensor, actions: tf.Tensor
) -> None:
    """Creates a critic's weights and checks what it returns."""
    q = critic((rows, actions))
    batch = len(rows)
    if not tf.is_tensor(q) or q.shape.rank != 2 or q.shape[1] != batch:
        raise ValueError(
            "Expected a critic that maps observations and actions of the "
            f"shapes {tuple(rows.shape)} and {tuple(actions.shape)} to values "
            f"of the shape (N, {batch}), a row for each member of the "
            f"ensemble. Received: {_shapes(q)} from {critic.name!r}. Members "
            f"of the shape ({batch}, 1) are joined by keras.ops.transpose("
            "keras.ops.concatenate(members, axis=1))."
        )


def _shapes(outputs: Any) -> str:
    return str(
        keras.tree.map_structure(lambda each: tuple(each.shape), outputs)
    )


def _initializer(seed: int | None) -> keras.initializers.Initializer:
    return keras.initializers.GlorotUniform(seed=seed)


def _seeds(seed: int | None, count: int) -> list[int | None]:
    """Derives `count` independent seeds; `None` stays random."""
    if seed is None:
        return [None] * count
    return [int(s) for s in np.random.SeedSequence(seed).generate_state(count)]
