"""The policy for LiteRT, which runs on phones and small boards."""

import importlib.util
import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfsac import endpoints, parity

if TYPE_CHECKING:
    from tfsac.agent import Agent

__all__ = ["write"]


def write(agent: "Agent", folder: pathlib.Path, **options: Any) -> parity.Act:
    """Writes the policy through Keras' exporter, with built-in ops alone.

    | file            | inputs                                     | outputs |
    |-----------------|--------------------------------------------|---------|
    | `model.tflite`  | `observations` `[B, O]`                    | `actions` `[B, A]`, deterministic |
    | `sample.tflite` | `observations`, `noise` `[B, A]`, standard normal | `actions`, `log_prob` `[B]` |

    The second is left out where actions are not a `Box`.

    Args:
        agent: Whose policy.
        folder: Where to write.
        **options: As for `keras.Model.export(format="litert")`, for example
            `optimizations=[tf.lite.Optimize.DEFAULT]` for weights of 8 bits.

    Returns:
        What runs the model.

    Raises:
        ImportError: If `ai-edge-litert` is missing.
        ValueError: If Keras does not know an option.
    """  # noqa: E501
    if importlib.util.find_spec("ai_edge_litert") is None:
        raise ImportError(
            "Expected the package ai-edge-litert, with which the model is "
            "checked. Received: none. Run `pip install 'tfsac[litert]'`."
        )
    built_in = {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]}
    options = {"target_spec": built_in} | options
    for name, model in endpoints.keras_models(agent).items():
        model.write(str(folder / f"{name}.tflite"), "litert", **options)

    def act(rows: np.ndarray) -> np.ndarray:
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_path=str(folder / "model.tflite"))
        return interpreter.get_signature_runner()(observations=rows)["actions"]

    return act
