"""The policy of the built-in actor through the C++ kernels."""

from typing import Any

import keras
import numpy as np

from tfsac import mlp, ops
from tfsac.config import SACConfig
from tfsac.networks import Actor
from tfsac.policy import ActionScale

__all__ = ["KernelPolicy"]


class KernelPolicy:
    """Rows to actions by one call of C++, without TensorFlow's dispatch.

    The kernel holds the actor's variables, not their values: it reads them in
    each call, and so always acts with the weights that they have then. While
    it acts, it holds on to the values that it read; whoever assigns to a
    variable meanwhile, on another thread, writes elsewhere.

    Args:
        actor: A built `Actor` for which `serves` is true.
        rows: Their number of columns and type.
        scale: Maps [-1, 1] to the environment's units.
        config: For the bounds of the log standard deviation.
    """

    def __init__(
        self,
        actor: Actor,
        rows: tuple[int, np.dtype[Any]],
        scale: ActionScale,
        config: SACConfig,
    ):
        self._size, self._dtype = rows
        self._action_size = len(scale.low)
        layers = [*actor.hidden_layers, actor.head]
        kernels: Any = ops.kernels()
        # The kernel's policy lives as long as the handle does.
        self._handle, address = kernels.tfsac_policy_create(
            kernels=[layer.kernel.value.handle for layer in layers],
            biases=[layer.bias.value.handle for layer in layers],
            low=scale.low,
            high=scale.high,
            activation=actor.activation,
            log_std_min=config.log_std_min,
            log_std_max=config.log_std_max,
            observation_dtype=self._dtype.name,
        )
        self._address = int(address)
        self._act = ops.c_functions().tfsac_act

    @staticmethod
    def serves(actor: keras.Model) -> bool:
        """Whether the kernels can act for this actor; this is the one switch.

        They do for `Actor`, where they compute its layers; a subclass may
        compute something else.
        """
        return type(actor) is Actor and mlp.serves(
            actor.activation, actor.compute_dtype
        )

    def __call__(
        self, rows: np.ndarray, seed: tuple[int, int] | None
    ) -> np.ndarray:
        """Returns actions, as `Policy.act` does."""
        rows = np.asarray(rows, self._dtype)
        if rows.ndim != 2 or rows.shape[1] != self._size:
            raise ValueError(
                f"Expected rows of the shape [B, {self._size}]. "
                f"Received: shape {rows.shape}."
            )
        actions = np.empty((len(rows), self._action_size), np.float32)
        error = self._act(
            self._address,
            rows.tobytes(),  # takes 0.1 us; a pointer to the rows, 0.9 us
            len(rows),
            seed is not None,
            *(seed or (0, 0)),
            actions.ctypes.data,
        )
        if error is not None:
            raise RuntimeError(f"Cannot act: {error.decode()}.")
        return actions
