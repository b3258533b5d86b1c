"""Stacks of dense layers: one by itself, and ensembles side by side."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfsac import mlp
from tfsac.config import MOST_LAYERS

__all__ = ["EnsembleDense", "apply_layers", "build_layers", "dense_layers"]


def dense_layers(
    hidden_units: Sequence[int],
    outputs: int,
    activation: str,
    seed: int | None,
    num_members: int | None = None,
) -> list[keras.layers.Layer]:
    """Makes a stack of dense layers, the activation after each but the last.

    Args:
        hidden_units: Widths of the hidden layers.
        outputs: Width of the last one.
        activation: Keras activation of the hidden layers.
        seed: Seed of the initial weights; `None` is random.
        num_members: N, for an ensemble of stacks. Defaults to `None`, which
            makes one of Keras' own layers.

    Raises:
        ValueError: If there are more than 100 hidden layers.
    """
    if len(hidden_units) > MOST_LAYERS:
        raise ValueError(
            f"Expected at most {MOST_LAYERS} hidden layers. Received: "
            f"{len(hidden_units)}."
        )

    def make(
        units: int, function: str | None, layer_seed: int | None
    ) -> keras.layers.Layer:
        if num_members is not None:
            return EnsembleDense(num_members, units, function, layer_seed)
        initializer = _initializer(layer_seed)
        return keras.layers.Dense(
            units, function, kernel_initializer=initializer
        )

    widths = [*hidden_units, outputs]
    activations = [activation] * len(hidden_units) + [None]
    return list(map(make, widths, activations, _seeds(seed, len(widths))))


def build_layers(
    layers: Sequence[keras.layers.Layer], input_shape: Sequence[int | None]
) -> None:
    """Creates the weights of a stack of layers for inputs of that shape."""
    for layer in layers:
        layer.build(input_shape)
        input_shape = layer.compute_output_shape(input_shape)


def apply_layers(
    layers: Sequence[keras.layers.Layer],
    inputs: Sequence[tf.Tensor],
    activation: str,
) -> tf.Tensor:
    """Applies a stack of dense layers, by the kernels where they serve.

    Args:
        layers: Those of `dense_layers`.
        inputs: `[B, I_m]` each; the first layer sees them side by side.
        activation: Of the hidden layers.

    Returns:
        What the last layer returns, `[B, width]`; of an ensemble,
        `[N, B, width]`.
    """
    widest = max((layer.units for layer in layers[:-1]), default=0)
    if not mlp.serves(activation, layers[0].compute_dtype, widest):
        x = tf.concat(inputs, axis=-1)
        for layer in layers:
            x = layer(x)
        return x
    kernels = [layer.kernel for layer in layers]
    biases = [layer.bias for layer in layers]
    if isinstance(layers[0], EnsembleDense):
        return mlp.dense_stack(inputs, kernels, biases, activation)
    kernels = [kernel[tf.newaxis] for kernel in kernels]
    biases = [bias[tf.newaxis] for bias in biases]
    return mlp.dense_stack(inputs, kernels, biases, activation)[0]


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


def _initializer(seed: int | None) -> keras.initializers.Initializer:
    return keras.initializers.GlorotUniform(seed=seed)


def _seeds(seed: int | None, count: int) -> list[int | None]:
    """Derives `count` independent seeds; `None` stays random."""
    if seed is None:
        return [None] * count
    return [int(s) for s in np.random.SeedSequence(seed).generate_state(count)]
