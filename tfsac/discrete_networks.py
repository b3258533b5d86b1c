"""The Keras networks for discrete actions: of n actions each has an output.

Any Keras model of the user's can stand in for either:

- an actor maps observations `[B, O]` to logits `[B, n]`;
- a critic maps observations `[B, O]` to values `[N, B, n]`.
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfsac.config import SACConfig
from tfsac.layers import apply_layers, build_layers, dense_layers
from tfsac.networks import clone, shapes
from tfsac.noise import Seeds
from tfsac.spaces import Flattener

__all__ = ["DiscreteActor", "DiscreteCritic", "make"]


@keras.saving.register_keras_serializable("tfsac")
class DiscreteActor(keras.Model):
    """Maps an observation to the logits of a categorical distribution.

    Example:

    ```python
    actor = DiscreteActor(num_actions=2)
    logits = actor(tf.zeros([32, 4]))  # [32, 2]
    ```

    Args:
        num_actions: n.
        hidden_units: Widths of the hidden layers. Defaults to `(256, 256)`.
        activation: Their Keras activation. Defaults to `"relu"`.
        seed: Seed of the initial weights. Defaults to `None`.
        **kwargs: As for `keras.Model`.

    Call arguments:
        observation: `[B, O]`, of any numeric dtype.

    Returns of a call:
        Logits, `[B, n]`.
    """

    def __init__(
        self,
        num_actions: int,
        hidden_units: Sequence[int] = (256, 256),
        activation: str = "relu",
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_actions = num_actions
        self.hidden_units = tuple(hidden_units)
        self.activation = activation
        self.seed = seed
        self.dense_layers = dense_layers(
            self.hidden_units, num_actions, activation, seed
        )

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Creates the weights for observations `[B, O]`."""
        build_layers(self.dense_layers, input_shape)
        self.built = True

    def call(self, observation: tf.Tensor) -> tf.Tensor:
        """Returns the logits of each action, `[B, n]`."""
        x = tf.cast(observation, self.compute_dtype)
        return apply_layers(self.dense_layers, [x], self.activation)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "num_actions": self.num_actions,
            "hidden_units": self.hidden_units,
            "activation": self.activation,
            "seed": self.seed,
        }


@keras.saving.register_keras_serializable("tfsac")
class DiscreteCritic(keras.Model):
    """An ensemble of N action-value functions, of all n actions at once.

    Example:

    ```python
    critic = DiscreteCritic(num_actions=3, num_critics=2)
    q = critic(tf.zeros([32, 4]))  # [2, 32, 3]
    ```

    Args:
        num_actions: n.
        num_critics: N. Defaults to `2`.
        hidden_units: Widths of the hidden layers. Defaults to `(256, 256)`.
        activation: Their Keras activation. Defaults to `"relu"`.
        seed: Seed of the initial weights. Defaults to `None`.
        **kwargs: As for `keras.Model`.

    Call arguments:
        observation: `[B, O]`, of any numeric dtype.

    Returns of a call:
        Q, `[N, B, n]`.
    """

    def __init__(
        self,
        num_actions: int,
        num_critics: int = 2,
        hidden_units: Sequence[int] = (256, 256),
        activation: str = "relu",
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_actions = num_actions
        self.num_critics = num_critics
        self.hidden_units = tuple(hidden_units)
        self.activation = activation
        self.seed = seed
        self.ensemble_layers = dense_layers(
            self.hidden_units, num_actions, activation, seed, num_critics
        )

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Creates the weights for observations `[B, O]`."""
        build_layers(self.ensemble_layers, input_shape)
        self.built = True

    def call(self, observation: tf.Tensor) -> tf.Tensor:
        """Returns Q(s, a) of each member and each action, `[N, B, n]`."""
        x = tf.cast(observation, self.compute_dtype)
        return apply_layers(self.ensemble_layers, [x], self.activation)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "num_actions": self.num_actions,
            "num_critics": self.num_critics,
            "hidden_units": self.hidden_units,
            "activation": self.activation,
            "seed": self.seed,
        }


def make(
    flatten: Flattener,
    num_actions: int,
    config: SACConfig,
    seeds: Seeds,
    actor: keras.Model | None = None,
    critic: keras.Model | None = None,
) -> tuple[keras.Model, keras.Model, keras.Model]:
    """Makes and checks the networks of an agent with discrete actions.

    Args:
        flatten: Tells the size and type of observations.
        num_actions: n.
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
    # So many that they are not taken for the actions.
    rows = tf.zeros([6 if num_actions == 5 else 5, flatten.size], flatten.dtype)
    hidden = config.hidden_units, config.activation
    actor = actor or DiscreteActor(num_actions, *hidden, seeds.actor)
    critic = critic or DiscreteCritic(
        num_actions, config.num_critics, *hidden, seeds.critic
    )
    per_row = (len(rows), num_actions)
    logits, q = actor(rows), critic(rows)
    if not tf.is_tensor(logits) or logits.shape != per_row:
        raise ValueError(
            "Expected an actor that maps observations of the shape "
            f"{tuple(rows.shape)} to logits of the shape {per_row}, one for "
            f"each action. Received: {shapes(logits)} from {actor.name!r}."
        )
    if not tf.is_tensor(q) or q.shape.rank != 3 or q.shape[1:] != per_row:
        raise ValueError(
            "Expected a critic that maps observations of the shape "
            f"{tuple(rows.shape)} to values of the shape (N, {len(rows)}, "
            f"{num_actions}), of each member of the ensemble and each action. "
            f"Received: {shapes(q)} from {critic.name!r}. Members of the shape "
            f"{per_row} are joined by keras.ops.stack(members)."
        )
    return actor, critic, clone(critic, rows)
