"""The Keras networks: a Gaussian actor and an ensemble of critics.

Any Keras model of the user's can stand in for either:

- an actor maps observations `[B, O]` to `(mean, log_std)`, each `[B, A]`;
- a critic maps `(observations [B, O], actions [B, A])` to values `[N, B]`,
  actions in [-1, 1].
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfsac.config import AgentConfig
from tfsac.layers import apply_layers, build_layers, dense_layers
from tfsac.spaces import Flattener

__all__ = [
    "Actor",
    "Critic",
    "averaged",
    "clone",
    "example_inputs",
    "make_actor",
    "make_critics",
    "shapes",
]


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
        *self.hidden_layers, self.head = dense_layers(
            self.hidden_units, 2 * action_size, activation, seed
        )

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Creates the weights for observations `[B, O]`."""
        build_layers([*self.hidden_layers, self.head], input_shape)
        self.built = True

    def call(self, observation: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the Gaussian's mean and log standard deviation."""
        x = tf.cast(observation, self.compute_dtype)
        layers = [*self.hidden_layers, self.head]
        mean_and_log_std = apply_layers(layers, [x], self.activation)
        mean, log_std = tf.split(mean_and_log_std, 2, axis=-1)
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
        self.ensemble_layers = dense_layers(
            self.hidden_units, 1, activation, seed, num_critics
        )

    def build(self, input_shape: Sequence[Sequence[int]]) -> None:
        """Creates the weights for `([B, O], [B, A])`."""
        (batch, observation_size), (_, action_size) = input_shape
        shape = batch, observation_size + action_size
        build_layers(self.ensemble_layers, shape)
        self.built = True

    def call(self, inputs: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        """Returns Q(s, a) of each member, `[N, B]`."""
        observation, action = inputs
        x = [tf.cast(observation, action.dtype), action]
        q = apply_layers(self.ensemble_layers, x, self.activation)
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


def make_actor(
    flatten: Flattener,
    action_size: int,
    config: AgentConfig,
    seed: int,
    actor: keras.Model | None = None,
) -> keras.Model:
    """Makes a Gaussian actor, or checks the user's own.

    Args:
        flatten: Tells the size and type of observations.
        action_size: A.
        config: For the built-in network.
        seed: For the built-in network.
        actor: One of the user's instead. Defaults to `None`.

    Raises:
        ValueError: If a network of the user's returns other shapes than it
            should.
    """
    hidden = config.hidden_units, config.activation
    actor = actor or Actor(action_size, *hidden, seed)
    _build_actor(actor, *example_inputs(flatten, action_size))
    return actor


def make_critics(
    flatten: Flattener,
    action_size: int,
    config: AgentConfig,
    seed: int,
    critic: keras.Model | None = None,
) -> tuple[keras.Model, keras.Model]:
    """Makes an ensemble of critics, or checks the user's own.

    Args:
        flatten: Tells the size and type of observations.
        action_size: A.
        config: For the built-in network.
        seed: For the built-in network.
        critic: One of the user's instead. Defaults to `None`.

    Returns:
        The critic, and the target critic, a copy of it.

    Raises:
        ValueError: If a network of the user's returns other shapes than it
            should.
    """
    hidden = config.hidden_units, config.activation
    critic = critic or Critic(config.num_critics, *hidden, seed)
    inputs = example_inputs(flatten, action_size)
    _build_critic(critic, *inputs)
    return critic, clone(critic, inputs)


def example_inputs(
    flatten: Flattener, action_size: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Five rows of observations and of actions.

    A number that an ensemble's is not taken for.
    """
    rows = tf.zeros([5, flatten.size], flatten.dtype)
    return rows, tf.zeros([5, action_size])


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
            f"{tuple(actions.shape)}. Received: {shapes(outputs)} from "
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
            f"ensemble. Received: {shapes(q)} from {critic.name!r}. Members "
            f"of the shape ({batch}, 1) are joined by keras.ops.transpose("
            "keras.ops.concatenate(members, axis=1))."
        )


def shapes(outputs: Any) -> str:
    """The shapes of what a network returned, for a message."""
    return str(
        keras.tree.map_structure(lambda each: tuple(each.shape), outputs)
    )
