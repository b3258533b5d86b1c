"""Stacks of dense layers through the C++ kernels, and when they serve."""

import contextlib
import functools
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from tfsac import ops

__all__ = ["dense_stack", "serves", "tensorflow_only"]

_ACTIVATIONS = ("relu", "tanh")
# Beyond it XLA's products of whole batches are as fast, or faster: see
# kernels/README.md.
_WIDEST = 512
_scope = threading.local()


def serves(activation: str, dtype: str, widest: int = 0) -> bool:
    """Whether the kernels compute a stack of dense layers, here and now.

    This is the one switch: where it says no, the networks run on TensorFlow's
    own ops, with the same results but for rounding. `tfsac info` shows it.

    Args:
        activation: Name of the hidden layers' activation.
        dtype: That of inputs and weights.
        widest: Width of the widest hidden layer, where whole batches pass it.
            Defaults to `0`.

    Returns:
        `True` with kernels that were built and loaded, relu or tanh, float32,
        layers at most 512 wide, no GPU to run on instead, and outside
        `tensorflow_only`.
    """
    return (
        activation in _ACTIVATIONS
        and dtype == "float32"
        and widest <= _WIDEST
        and not getattr(_scope, "tensorflow_only", False)
        and ops.loaded()
        and not _has_gpu()
    )


@functools.cache
def _has_gpu() -> bool:
    return bool(tf.config.list_physical_devices("GPU"))


@contextlib.contextmanager
def tensorflow_only() -> Iterator[None]:
    """Keeps the kernels out of what is traced inside.

    For models that must load where tfsac is not installed.
    """
    before = getattr(_scope, "tensorflow_only", False)
    _scope.tensorflow_only = True
    try:
        yield
    finally:
        _scope.tensorflow_only = before


def dense_stack(
    inputs: Sequence[tf.Tensor],
    kernels: Sequence[tf.Tensor],
    biases: Sequence[tf.Tensor],
    activation: str,
) -> tf.Tensor:
    """Applies N stacks of dense layers, an ensemble, to the same rows.

    The activation follows every layer but the last. Of the gradients, only
    those that the tape asks for are computed, and rows whose output gradient
    is zero cost nothing where it asks for none of the weights'.

    Args:
        inputs: `[B, I_m]` each; the first layer sees them side by side.
        kernels: `[N, in, width]` each.
        biases: `[N, width]` each.
        activation: `"relu"` or `"tanh"`.

    Returns:
        What the last layer returns, `[N, B, width]`.
    """
    module: Any = ops.kernels()
    outputs = module.tfsac_mlp(
        inputs=inputs, kernels=kernels, biases=biases, activation=activation
    )
    return outputs[-1]


@tf.RegisterGradient("Tfsac>Mlp")
def _mlp_gradient(op: Any, *gradients: tf.Tensor) -> list[tf.Tensor | None]:
    num_inputs, num_layers = op.get_attr("M"), op.get_attr("L")
    operands = list(op.inputs)
    inputs = operands[:num_inputs]
    kernels = operands[num_inputs : num_inputs + num_layers]
    # What a tape does not watch; tf.gradients, which has none, wants all.
    skipped = getattr(op, "skip_input_indices", None) or ()
    wanted = [i not in skipped for i in range(len(operands))]
    wants_weights = any(wanted[num_inputs:])
    module: Any = ops.kernels()
    input_gradients, weight_gradients = module.tfsac_mlp_gradient(
        inputs=inputs,
        kernels=kernels,
        hidden=op.outputs[:-1],
        output_gradient=gradients[-1],
        activation=op.get_attr("activation"),
        wanted_inputs=wanted[:num_inputs],
        wants_weights=wants_weights,
        W=sum(wanted[:num_inputs]),
        G=2 * num_layers if wants_weights else 0,
    )
    remaining = iter(input_gradients)
    return [
        *(next(remaining) if each else None for each in wanted[:num_inputs]),
        *(weight_gradients if wants_weights else [None] * (2 * num_layers)),
    ]


@tf.RegisterGradient("Tfsac>MlpGradient")
def _second_gradient(op: Any, *gradients: tf.Tensor) -> None:
    del op, gradients
    raise NotImplementedError(
        "Expected first derivatives of tfsac's dense layers, since the kernels "
        "have no second ones. Received: a tape that differentiates a gradient. "
        "Call the networks inside `with tfsac.mlp.tensorflow_only():`."
    )
