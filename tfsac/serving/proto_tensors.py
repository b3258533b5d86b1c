"""TensorProtos to arrays and back, without a tensor in between."""

import math
from collections.abc import Iterable, Mapping

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2

from tfsac.serving.errors import ServingError
from tfsac.serving.intake import check_rows

__all__ = ["from_protos", "to_proto"]

# `TensorProto`'s comments tell which field is whose.
_FIELDS = (
    {tf.float32: "float_val", tf.float64: "double_val", tf.bool: "bool_val"}
    | {tf.int64: "int64_val", tf.uint64: "uint64_val", tf.uint32: "uint32_val"}
    | {
        dtype: "int_val"
        for dtype in (tf.int32, tf.int16, tf.int8, tf.uint8, tf.uint16)
    }
    | {tf.float16: "half_val", tf.bfloat16: "half_val"}
)
# The largest tensor that one value may fill.
_MAX_FILL = 2**20


def from_protos(
    protos: Mapping[str, tensor_pb2.TensorProto],
    inputs: Mapping[str, tf.TensorSpec],
    max_rows: float,
) -> list[np.ndarray]:
    """Reads the tensors of a request.

    Args:
        protos: By name.
        inputs: What the signature wants.
        max_rows: What an input of any number of rows may have.

    Returns:
        One array for each of `inputs`, in that order.

    Raises:
        ServingError: If names, types or sizes do not fit.
    """
    if protos.keys() != inputs.keys():
        sent, wanted = set(protos), set(inputs)
        raise ServingError(
            f"input size does not match signature: {len(sent)}!={len(wanted)} "
            f"len({_braces(sent)}) != len({_braces(wanted)}). "
            f"Sent extra: {_braces(sent - wanted)}. "
            f"Missing but required: {_braces(wanted - sent)}."
        )
    for name, spec in inputs.items():
        dims = protos[name].tensor_shape.dim
        if dims:
            check_rows(spec, dims[0].size, max_rows)
    return [_to_array(protos[name], spec) for name, spec in inputs.items()]


def to_proto(array: np.ndarray) -> tensor_pb2.TensorProto:
    """Writes an array into the field of its type, as TensorFlow Serving does.

    Clients that know no `tensor_content` read it too.

    Args:
        array: Any.

    Returns:
        The proto.
    """
    if array.dtype == object:
        proto = tensor_pb2.TensorProto(dtype=tf.string.as_datatype_enum)
        proto.string_val.extend(array.ravel().tolist())
    else:
        dtype = tf.as_dtype(array.dtype)
        if _FIELDS.get(dtype, "half_val") == "half_val":
            return tf.make_tensor_proto(array)
        proto = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum)
        getattr(proto, _FIELDS[dtype]).extend(array.ravel().tolist())
    proto.tensor_shape.dim.extend(
        [tensor_shape_pb2.TensorShapeProto.Dim(size=n) for n in array.shape]
    )
    return proto


def _to_array(proto: tensor_pb2.TensorProto, spec: tf.TensorSpec) -> np.ndarray:
    if proto.dtype != spec.dtype.as_datatype_enum:
        raise ServingError(
            f"Type mismatch: actual {_type_name(proto.dtype)} vs. expect "
            f"{_type_name(spec.dtype.as_datatype_enum)}"
        )
    shape = [dim.size for dim in proto.tensor_shape.dim]
    values = _values(proto, spec)
    size = math.prod(shape)
    # A proto may hold fewer values, the last of which counts for the rest.
    # Then a few bytes ask for any amount of memory; so one value or all.
    if min(shape, default=0) < 0 or (len(values) != size and len(values) != 1):
        raise ServingError(f"tensor parsing error: {spec.name}")
    if len(values) != size or not size:
        # Of an empty tensor too the kernels may make a large one.
        _check_fill(math.prod(n for n in shape if n), spec.name)
    if len(values) != size:
        values = np.full(size, values[0], values.dtype)
    try:
        return values.reshape(shape)
    except ValueError:  # NumPy has fewer dimensions than TensorFlow
        raise ServingError(f"tensor parsing error: {spec.name}") from None


def _check_fill(size: int, name: str) -> None:
    if size > _MAX_FILL:
        raise ServingError(
            f"tensor parsing error: {name}. Expected at most {_MAX_FILL} "
            f"elements of one value. Received: {size}"
        )


def _values(proto: tensor_pb2.TensorProto, spec: tf.TensorSpec) -> np.ndarray:
    """Its values, `[N]`."""
    dtype = spec.dtype
    if dtype is tf.string:
        return np.array(list(proto.string_val), object)
    as_numpy = np.dtype(dtype.as_numpy_dtype)
    if proto.tensor_content:
        if len(proto.tensor_content) % as_numpy.itemsize:
            raise ServingError(f"tensor parsing error: {spec.name}")
        return np.frombuffer(proto.tensor_content, as_numpy)
    if dtype not in _FIELDS:
        raise ServingError(
            f"tensor parsing error: {spec.name}. Type {dtype.name} needs "
            "tensor_content",
            grpc.StatusCode.UNIMPLEMENTED,
        )
    values = getattr(proto, _FIELDS[dtype])
    try:
        if _FIELDS[dtype] == "half_val":  # the bits
            return np.array(values, np.uint16).view(as_numpy)
        return np.array(values, as_numpy)
    except OverflowError:
        raise ServingError(f"tensor parsing error: {spec.name}") from None


def _type_name(datatype: int) -> str:
    names = {1: "float", 2: "double"}
    try:
        return names.get(datatype) or tf.as_dtype(datatype).name
    except TypeError:
        return f"unknown dtype {datatype}"


def _braces(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"
