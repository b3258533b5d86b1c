"""The sampling network of soft Q-learning: noise to actions.

Any Keras model of the user's can stand in for it that maps `(observations
[B, O], noise [B, A])` to actions before tanh, `[B, A]`.
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfsac import networks
from tfsac.config import AgentConfig
from tfsac.layers import apply_layers, build_layers, dense_layers
from tfsac.spaces import Flattener

__all__ = ["Sampler", "each_action", "each_q", "make"]


@keras.saving.register_keras_serializable("tfsac")
class Sampler(keras.Model):
    """Maps an observation and noise to an action, before tanh.

    It has no density of its own: what the noise becomes may be of any shape,
    with several modes.

    Example:

    ```python
    sampler = Sampler(action_size=6)
    pre_tanh = sampler((tf.zeros([32, 17]), tf.random.normal([32, 6])))
    ```

    Args:
        action_size: A.
        hidden_units: Widths of the hidden layers. Defaults to `(256, 256)`.
        activation: Their Keras activation. Defaults to `"relu"`.
        seed: Seed of the initial weights. Defaults to `None`.
        **kwargs: As for `keras.Model`.

    Call arguments:
        inputs: `(observation, noise)`, `[B, O]` and `[B, A]`, the noise
            standard normal.

    Returns of a call:
        The action before tanh, `[B, A]`.
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
        self.dense_layers = dense_layers(
            self.hidden_units, action_size, activation, seed
        )

    def build(self, input_shape: Sequence[Sequence[int]]) -> None:
        """Creates the weights for `([B, O], [B, A])`."""
        (batch, observation_size), (_, noise_size) = input_shape
        build_layers(self.dense_layers, (batch, observation_size + noise_size))
        self.built = True

    def call(self, inputs: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        """Returns the action before tanh."""
        observation, noise = inputs
        x = [tf.cast(observation, noise.dtype), noise]
        return apply_layers(self.dense_layers, x, self.activation)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "action_size": self.action_size,
            "hidden_units": self.hidden_units,
            "activation": self.activation,
            "seed": self.seed,
        }


def make(
    flatten: Flattener,
    action_size: int,
    config: AgentConfig,
    seed: int,
    actor: keras.Model | None = None,
) -> keras.Model:
    """Makes a sampling network, or checks the user's own.

    Args:
        flatten: Tells the size and type of observations.
        action_size: A.
        config: For the built-in network.
        seed: For the built-in network.
        actor: One of the user's instead. Defaults to `None`.

    Raises:
        ValueError: If a network of the user's returns another shape than it
            should.
    """
    hidden = config.hidden_units, config.activation
    actor = actor or Sampler(action_size, *hidden, seed)
    rows, noise = networks.example_inputs(flatten, action_size)
    outputs = actor((rows, noise))
    if not tf.is_tensor(outputs) or outputs.shape != noise.shape:
        raise ValueError(
            "Expected an actor that maps observations and noise of the shapes "
            f"{tuple(rows.shape)} and {tuple(noise.shape)} to actions before "
            f"tanh, of the shape {tuple(noise.shape)}. Received: "
            f"{networks.shapes(outputs)} from {actor.name!r}."
        )
    return actor


def each_action(
    actor: keras.Model,
    observation: tf.Tensor,
    noise: tf.Tensor,
    training: bool = False,
) -> tf.Tensor:
    """Several actions in each state, before tanh.

    Args:
        actor: The sampling network.
        observation: `[B, O]`.
        noise: `[B, M, A]`, standard normal.
        training: As Keras passes it to layers. Defaults to `False`.

    Returns:
        `[B, M, A]`.
    """
    pairs = _pairs(observation, noise)
    _, count, size = noise.shape
    return tf.reshape(actor(pairs, training=training), [-1, count, size])


def each_q(
    critic: keras.Model, observation: tf.Tensor, action: tf.Tensor
) -> tf.Tensor:
    """The values of several actions in each state.

    Args:
        critic: An ensemble.
        observation: `[B, O]`.
        action: `[B, M, A]`, in [-1, 1].

    Returns:
        Q, `[N, B, M]`.
    """
    q = critic(_pairs(observation, action))
    return tf.reshape(q, [q.shape[0], -1, action.shape[1]])


def _pairs(
    observation: tf.Tensor, several: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Rows `[B M, O]` and `[B M, A]` of all pairs."""
    _, count, size = several.shape
    rows = tf.repeat(observation, count, axis=0)
    return rows, tf.reshape(several, [-1, size])
