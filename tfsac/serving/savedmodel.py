"""One SavedModel, loaded as TensorFlow Serving loads it: into a session.

A session rather than `tf.saved_model.load`: it takes NumPy arrays and gives
them back without a tensor in Python, 30 us instead of 350 for one action; a
shape that does not fit gets the kernel's own words; closing it frees the model.
"""

import logging
import math
import pathlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from google.protobuf import message
from tensorflow.core.framework import graph_pb2
from tensorflow.core.protobuf import (
    config_pb2,
    meta_graph_pb2,
    saved_model_pb2,
)
from tensorflow_serving.apis import prediction_log_pb2

from tfsac import tensor_bundle
from tfsac.serving import proto_tensors, safety
from tfsac.serving.errors import ServingError

__all__ = ["SavedModel", "Signature"]

_log = logging.getLogger(__name__)

_WARMUP = "assets.extra/tf_serving_warmup_requests"
_MAX_WARMUP_REQUESTS = 1_000  # TensorFlow Serving's


class Signature:
    """One function of a model, from named arrays to named arrays.

    Args:
        name: Its name.
        definition: Its inputs and outputs.
        session: Where the model is.

    Attributes:
        inputs: The name, `tf.DType` and `tf.TensorShape` of each input, in
            the order of the names.
        outputs: The names of the outputs.
        batchable: Whether each input and output begins with a dimension of
            any size, so that the rows of several requests make one call.
            `sample` of a policy does not: its seed belongs to one request.
    """

    def __init__(
        self,
        name: str,
        definition: meta_graph_pb2.SignatureDef,
        session: tf.compat.v1.Session,
    ) -> None:
        self.name = name
        self.inputs = {
            key: tf.TensorSpec(
                tf.TensorShape(info.tensor_shape), tf.as_dtype(info.dtype), key
            )
            for key, info in sorted(definition.inputs.items())
        }
        outputs = sorted(definition.outputs.items())
        self.outputs = [key for key, _ in outputs]
        shapes = [spec.shape for spec in self.inputs.values()]
        shapes += [tf.TensorShape(info.tensor_shape) for _, info in outputs]
        self.batchable = bool(self.inputs and self.outputs) and all(
            shape.rank and shape[0] is None for shape in shapes
        )
        self._inner_shapes: list[list[int | None]] = []
        if self.batchable:
            specs = self.inputs.values()
            self._inner_shapes = [spec.shape[1:].as_list() for spec in specs]
        options = config_pb2.CallableOptions(
            feed=[definition.inputs[key].name for key in self.inputs],
            fetch=[info.name for _, info in outputs],
        )
        options.run_options.inter_op_thread_pool = -1  # the caller's thread
        # The public `make_callable` looks at each feed in Python and takes
        # five times as long; TensorFlow's version is pinned.
        self._call = session._make_callable_from_options(options)

    def fits(self, arrays: Sequence[np.ndarray]) -> bool:
        """Whether these may share a call with the rows of other requests.

        Args:
            arrays: One for each of `inputs`.

        Returns:
            Whether the signature is `batchable`, and their shapes are its.
        """
        return self.batchable and all(
            array.ndim == len(inner) + 1
            and all(
                expected in (None, actual)
                for expected, actual in zip(inner, array.shape[1:], strict=True)
            )
            for array, inner in zip(arrays, self._inner_shapes, strict=True)
        )

    def __call__(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Runs it; on any thread.

        Args:
            arrays: One for each of `inputs`, in that order.

        Returns:
            One array for each of `outputs`.

        Raises:
            tf.errors.OpError: What a kernel found wrong.
        """
        # Of rank 0 a session gives bytes, or NumPy's scalars.
        return [
            np.array(output, object)
            if isinstance(output, bytes)
            else np.asarray(output)
            for output in self._call(*arrays)
        ]


class SavedModel:
    """A model that is loaded, warmed up and ready.

    Signatures that do more than compute, as `train`, `save` and `restore` of a
    trainable model, are left out (`safety.py`).

    Args:
        folder: The version's folder.

    Attributes:
        signatures: Those that are served, by name.
        definitions: The same, as `GetModelMetadata` tells them.

    Raises:
        tf.errors.OpError: If it cannot be loaded or warmed up.
        ServingError: If loading it would do more than that.
        OSError: If there is none.
    """

    def __init__(self, folder: str) -> None:
        graph = tf.Graph()
        config = tf.compat.v1.ConfigProto()
        config.gpu_options.allow_growth = True
        self._session = tf.compat.v1.Session(graph=graph, config=config)
        try:
            with graph.as_default():
                meta_graph = _load(self._session, folder)
            self.definitions = {
                name: definition
                for name, definition in meta_graph.signature_def.items()
                if self._is_safe(name, definition, meta_graph.graph_def)
            }
            self.signatures = {
                name: Signature(name, definition, self._session)
                for name, definition in self.definitions.items()
                if not name.startswith("__")
            }
            self._warm_up(pathlib.Path(folder) / _WARMUP)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Frees it. No call may be under way."""
        self._session.close()

    def _is_safe(
        self,
        name: str,
        definition: meta_graph_pb2.SignatureDef,
        graph: graph_pb2.GraphDef,
    ) -> bool:
        if name.startswith("__"):  # the op that initialises it: for loading
            return True
        outputs = [info.name for info in definition.outputs.values()]
        unsafe = safety.unsafe_ops(graph, outputs)
        if unsafe:
            _log.warning("Not served, for it runs %s: %s", unsafe, name)
        return not unsafe

    def _warm_up(self, path: pathlib.Path) -> None:
        """Runs the requests that were exported with the model."""
        if not path.exists():
            return
        records = tf.data.TFRecordDataset(str(path)).take(_MAX_WARMUP_REQUESTS)
        for record in records.as_numpy_iterator():
            log = prediction_log_pb2.PredictionLog.FromString(record)
            request = log.predict_log.request
            name = request.model_spec.signature_name or "serving_default"
            if name not in self.signatures:
                raise ServingError(f"Warm-up asks for the signature {name!r}")
            signature = self.signatures[name]
            signature(
                proto_tensors.from_protos(
                    request.inputs, signature.inputs, max_rows=math.inf
                )
            )


def _load(
    session: tf.compat.v1.Session, folder: str
) -> meta_graph_pb2.MetaGraphDef:
    path = pathlib.Path(folder) / "saved_model.pb"
    try:
        model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    except message.DecodeError as error:
        raise ServingError(f"Cannot parse file {path}: {error}") from error
    for meta_graph in model.meta_graphs:
        # TensorFlow's error would hold the whole graph, in which its Python
        # then looks for names: for minutes.
        if missing := safety.missing_functions(meta_graph.graph_def):
            raise ServingError(
                "Expected a model with the functions that it calls. Received: "
                f"one without {missing}, in {folder}."
            )
        if unsafe := safety.unsafe_loading_ops(meta_graph):
            raise ServingError(
                "Expected a model that is loaded by setting its variables and "
                f"tables. Received: one that runs {unsafe}, in {folder}."
            )
    variables = pathlib.Path(folder) / "variables" / "variables"
    if variables.with_suffix(".index").exists():
        try:
            tensor_bundle.check(variables)
        except ValueError as error:
            raise ServingError(str(error)) from error
    # It tells at each call, at the level of warnings, of newer ways to load.
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        return tf.compat.v1.saved_model.load(session, ["serve"], folder)
    finally:
        logger.setLevel(level)
