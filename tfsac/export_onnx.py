"""The policy for ONNX runtimes."""

import importlib.util
import pathlib
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from tfsac import endpoints, parity

if TYPE_CHECKING:
    from tfsac.agent import Agent

__all__ = ["write"]

_PACKAGES = ("onnx", "onnxruntime", "tf2onnx")


def write(agent: "Agent", folder: pathlib.Path, **options: Any) -> parity.Act:
    """Writes the policy through Keras' exporter.

    | file          | inputs                                     | outputs |
    |---------------|--------------------------------------------|---------|
    | `model.onnx`  | `observations` `[B, O]`                    | `actions` `[B, A]`, deterministic |
    | `sample.onnx` | `observations`, `noise` `[B, A]`, standard normal | `actions`, `log_prob` `[B]` |

    The second is left out where actions are not a `Box`.

    Args:
        agent: Whose policy.
        folder: Where to write.
        **options: As for `keras.Model.export(format="onnx")`, for example
            `opset_version=18`.

    Returns:
        What runs the model.

    Raises:
        ImportError: If a package for it is missing.
    """  # noqa: E501
    missing = [p for p in _PACKAGES if importlib.util.find_spec(p) is None]
    if missing:
        raise ImportError(
            f"Expected the packages {', '.join(_PACKAGES)}. Received: no "
            f"{', no '.join(missing)}. Run `pip install 'tfsac[onnx]'`."
        )
    for name, model in endpoints.keras_models(agent).items():
        with warnings.catch_warnings():
            # Keras looks for `np.object`, which NumPy warns of.
            warnings.simplefilter("ignore", FutureWarning)
            model.write(str(folder / f"{name}.onnx"), "onnx", **options)

    def act(rows: np.ndarray) -> np.ndarray:
        import onnxruntime

        session = onnxruntime.InferenceSession(folder / "model.onnx")
        return session.run(["actions"], {"observations": rows})[0]

    return act
