"""The policy as a SavedModel that needs nothing but TensorFlow."""

import pathlib
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from tfsac import endpoints, parity

if TYPE_CHECKING:
    from tfsac.agent import Agent

__all__ = ["write"]

_WARMUP = "assets.extra/tf_serving_warmup_requests"


def write(agent: "Agent", folder: pathlib.Path) -> parity.Act:
    """Writes a SavedModel as TensorFlow Serving takes it.

    Signatures, for any batch size B:

    | name              | inputs                              | outputs |
    |-------------------|-------------------------------------|---------|
    | `serving_default` | `observations` `[B, O]`             | `actions` `[B, A]`, deterministic |
    | `sample`          | `observations`, `seed` `[2]` int64  | `actions`, `log_prob` `[B]` |

    Actions are in the env's own units, and `log_prob` is their density in
    these units. Nothing in it needs tfsac, Python or XLA. A request of each
    signature is in `assets.extra`, which TensorFlow Serving answers before it
    serves, so that no client waits for the first ones.

    Args:
        agent: Whose policy.
        folder: The model's folder.

    Returns:
        What runs the model.
    """  # noqa: E501
    module = endpoints.module(agent.policy)
    signatures = {"serving_default": module.act, "sample": module.sample}
    tf.saved_model.save(module, str(folder), signatures)
    _write_warmup(agent, folder)

    def act(rows: np.ndarray) -> np.ndarray:
        model = tf.saved_model.load(str(folder))
        serve = model.signatures["serving_default"]
        return serve(observations=tf.constant(rows))["actions"].numpy()

    return act


def _write_warmup(agent: "Agent", folder: pathlib.Path) -> None:
    """Writes `PredictionLog` records, as TensorFlow Serving reads them.

    Its protos are in a package that nothing else here needs; every field used
    is a message, a string or bytes, and so is written in a line.
    """
    flatten = agent.policy.flatten
    observations = np.zeros([1, flatten.size], flatten.dtype)
    seed = np.zeros([2], np.int64)
    path = folder / _WARMUP
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, inputs in (
            ("serving_default", {"observations": observations}),
            ("sample", {"observations": observations, "seed": seed}),
        ):
            # PredictionLog.predict_log.request
            writer.write(_field(6, _field(1, _predict(signature, inputs))))


def _predict(signature: str, inputs: dict[str, np.ndarray]) -> bytes:
    """A `PredictRequest`."""
    model_spec = _field(1, b"policy") + _field(3, signature.encode())
    request = _field(1, model_spec)
    for name, value in inputs.items():
        tensor = tf.make_tensor_proto(value).SerializeToString()
        request += _field(2, _field(1, name.encode()) + _field(2, tensor))
    return request


def _field(number: int, content: bytes) -> bytes:
    """A field of protobuf's wire format that holds a message or bytes."""
    size = len(content)
    varint = b""
    while size >= 0x80:
        varint += bytes([size & 0x7F | 0x80])
        size >>= 7
    return bytes([number << 3 | 2]) + varint + bytes([size]) + content
