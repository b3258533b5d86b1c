"""JSON to arrays and back, as TensorFlow Serving's `json_tensor.cc` does it.

The messages are its own, since clients may look for them.
"""

import base64
import binascii
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import grpc
import numpy as np
import tensorflow as tf

from tfsac.serving.errors import ServingError
from tfsac.serving.intake import check_rows
from tfsac.serving.json_document import shown

__all__ = ["format_response", "signature_name", "to_arrays"]

Inputs = Mapping[str, tf.TensorSpec]

_MAX_RANK = 32
_PART = 1_000
_INTEGERS = (
    *(tf.int8, tf.int16, tf.int32, tf.int64),
    *(tf.uint8, tf.uint16, tf.uint32, tf.uint64),
)
_ACCEPTED = (
    {tf.float32: {int, float}, tf.float64: {int, float}}
    | {dtype: {int} for dtype in _INTEGERS}
    | {tf.bool: {bool}, tf.string: {str, dict}}
)
_TYPES = {
    type(None): "Null",
    dict: "Object",
    list: "Array",
    str: "String",
    int: "Number",
    float: "Number",
}


def signature_name(document: Mapping[str, Any]) -> str:
    """Reads which signature is asked for; `""` is the default one.

    Args:
        document: The request.

    Returns:
        The name.

    Raises:
        ServingError: If it is no string.
    """
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise ServingError(
            f"JSON Value: {shown(document)} not formatted correctly. "
            "'signature_name' key must be a string value."
        )
    return name


def to_arrays(
    document: Mapping[str, Any], inputs: Inputs, max_rows: float
) -> list[np.ndarray]:
    """Reads the tensors of a request, in rows or in columns.

    Args:
        document: The request; it has `instances` or `inputs`.
        inputs: What the signature wants.
        max_rows: What an input of any number of rows may have.

    Returns:
        One array for each of `inputs`, in that order.

    Raises:
        ServingError: What was expected, and what came.
    """
    if "instances" in document:
        instances = document["instances"]
        if "inputs" in document:
            _malformed(
                document,
                "Not formatted correctly expecting only one of 'inputs' or "
                "'instances' keys to exist ",
            )
        if not isinstance(instances, list):
            _malformed(document, "Expecting 'instances' to be an list/array")
        if not instances:
            _malformed(document, "No values in 'instances' array")
        for spec in inputs.values():
            check_rows(spec, len(instances), max_rows)
        return _from_rows(instances, inputs)
    if "inputs" in document:
        columns = _columns(document["inputs"], inputs)
        for spec, value in columns:
            if isinstance(value, list):
                check_rows(spec, len(value), max_rows)
        return [_tensor(value, spec.dtype) for spec, value in columns]
    raise ServingError("Missing 'inputs' or 'instances' key")


def format_response(
    columns: bool, names: Sequence[str], arrays: list[np.ndarray]
) -> bytes:
    """Writes a response in the request's own format.

    Args:
        columns: Whether it had `inputs`, and not `instances`.
        names: Those of the outputs.
        arrays: One for each.

    Returns:
        JSON: `predictions`, one for each row, or `outputs`, one for each name.

    Raises:
        ServingError: If rows were asked for and outputs differ in theirs.
    """
    named = {
        name: _to_json(name, array)
        for name, array in zip(names, arrays, strict=True)
    }
    values = list(named.values())
    if columns:
        outputs = values[0] if len(values) == 1 else named
        return json.dumps({"outputs": outputs}).encode()
    shapes = [array.shape for array in arrays]
    if () in shapes or len({shape[0] for shape in shapes}) != 1:
        raise ServingError(
            "Expected outputs with a row for each instance. Received the "
            f"shapes: {shapes}. Ask with 'inputs' instead"
        )
    rows = values[0]
    if len(values) > 1:
        rows = [
            dict(zip(named, row, strict=True))
            for row in zip(*values, strict=True)
        ]
    return json.dumps({"predictions": rows}).encode()


def _from_rows(instances: list[Any], inputs: Inputs) -> list[np.ndarray]:
    if not _is_object(instances[0]):
        if len(inputs) > 1:
            raise ServingError(
                "instances is a plain list, but expecting list of objects as "
                "multiple input tensors required as per tensorinfo_map"
            )
        for item, element in enumerate(instances):
            if _is_object(element):
                raise ServingError(
                    "Expecting value/list but got object at item "
                    f"{item} of input list"
                )
        [spec] = inputs.values()
        return [_stack(instances, spec.dtype, "")]
    for item, element in enumerate(instances):
        if not _is_object(element):
            raise ServingError(
                f"Expecting object but got list at item {item} of input list"
            )
        for name in element.keys() - inputs.keys():
            _fail_in_row(
                item,
                f" key: {name}",
                f"JSON object: does not have named input: {name}",
            )
        if element.keys() != inputs.keys():
            raise ServingError(
                f"Failed to process element: {item} of 'instances' list. "
                f"JSON object: {shown(element)} keys must be equal to: "
                f"{','.join(inputs)}"
            )
    return [
        _stack([row[name] for row in instances], spec.dtype, f" key: {name}")
        for name, spec in inputs.items()
    ]


def _stack(rows: list[Any], dtype: tf.DType, key: str) -> np.ndarray:
    """The tensor `[B, ...]` of rows; an error tells the row."""
    try:
        return _tensor(rows, dtype)
    except ServingError as error:
        _explain(rows, dtype, key)
        raise error


def _explain(rows: list[Any], dtype: tf.DType, key: str) -> None:
    """Finds the row that is wrong, or not like the first.

    Rows are looked at one by one, which is slow, only in the first part that
    does not become a tensor together with the first row.
    """
    for start in range(0, len(rows), _PART):
        try:
            _tensor([rows[0], *rows[start : start + _PART]], dtype)
        except ServingError:
            _explain_part(rows, start, dtype, key)


def _explain_part(
    rows: list[Any], start: int, dtype: tf.DType, key: str
) -> None:
    first = None
    for item in (0, *range(start, min(start + _PART, len(rows)))):
        row = rows[item]
        try:
            array = _tensor(row, dtype)
        except ServingError as error:
            _fail_in_row(item, key, error.message)
        if first is None:
            first = array
        if array.size != first.size:
            _fail_in_row(
                item,
                key,
                f"Expecting tensor size: {first.size} but got: {array.size}",
            )
        if array.shape != first.shape:
            _fail_in_row(
                item,
                key,
                f"Expecting shape {_shape(first)} but got: {_shape(array)}",
            )


def _fail_in_row(item: int, key: str, message: str) -> NoReturn:
    raise ServingError(
        f"Failed to process element: {item}{key} of 'instances' list. "
        f"Error: INVALID_ARGUMENT: {message}"
    )


def _columns(value: Any, inputs: Inputs) -> list[tuple[tf.TensorSpec, Any]]:
    if not _is_object(value):
        if len(inputs) > 1:
            raise ServingError(
                "inputs is a plain value/list, but expecting an object as "
                "multiple input tensors required as per tensorinfo_map"
            )
        [spec] = inputs.values()
        return [(spec, value)]
    for name in inputs:
        if name not in value:
            raise ServingError(
                f"Missing named input: {name} in 'inputs' object."
            )
    return [(spec, value[name]) for name, spec in inputs.items()]


def _tensor(value: Any, dtype: tf.DType) -> np.ndarray:
    """A dense tensor of nested lists, whose shape their first items tell."""
    if dtype not in _ACCEPTED:
        raise ServingError(
            f"Conversion of JSON Value: {shown(value)} to type: {dtype.name}",
            grpc.StatusCode.UNIMPLEMENTED,
        )
    shape, first = [], value
    while isinstance(first, list):
        shape.append(len(first))
        if not first:
            break
        first = first[0]
    rank = len(shape)
    if rank > _MAX_RANK:
        _unexpected_level(_MAX_RANK)
    items = [value]
    for level, size in enumerate(shape):
        for item in items:
            if not isinstance(item, list):
                raise ServingError(
                    f"JSON Value: {shown(item)} found at incorrect level: "
                    f"{level + 1} in the JSON DOM. Expected at level: {rank}"
                )
            if len(item) != size:
                raise ServingError(
                    f"Encountered list at unexpected size: {len(item)} at "
                    f"level: {level} expected size: {size}"
                )
        items = list(itertools.chain.from_iterable(items))
    return _leaves(items, dtype, rank).reshape(shape)


def _leaves(items: list[Any], dtype: tf.DType, rank: int) -> np.ndarray:
    for item_type in set(map(type, items)) - _ACCEPTED[dtype]:
        item = next(item for item in items if type(item) is item_type)
        if item_type is list:
            _unexpected_level(rank)
        _wrong_type(item, dtype)
    if dtype is tf.string:
        return np.array([_to_bytes(item) for item in items], object)
    try:
        # A number too large for float32 is infinite, as in C++.
        with np.errstate(over="ignore"):
            return np.array(items, dtype.as_numpy_dtype)
    except OverflowError:
        low, high = dtype.min, dtype.max
        for item in items:
            if dtype.is_floating or not low <= item <= high:
                _wrong_type(item, dtype)
        raise


def _unexpected_level(rank: int) -> NoReturn:
    raise ServingError(
        f"Encountered list at unexpected level: {rank} expected < {rank}"
    )


def _wrong_type(item: Any, dtype: tf.DType) -> NoReturn:
    kind = str(item) if isinstance(item, bool) else _TYPES[type(item)]
    name = {tf.float32: "float", tf.float64: "double"}.get(dtype, dtype.name)
    raise ServingError(
        f"JSON Value: {shown(item)} Type: {kind} is not of expected type: "
        f"{name}"
    )


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def _is_base64(value: dict[str, Any]) -> bool:
    return value.keys() == {"b64"} and isinstance(value["b64"], str)


def _to_bytes(value: str | dict[str, Any]) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if not _is_base64(value):
        raise ServingError(
            f"JSON Value: {shown(value)} not formatted correctly for base64 "
            "data"
        )
    try:
        return base64.b64decode(value["b64"], validate=True)
    except binascii.Error:
        raise ServingError("Unable to base64 decode") from None


def _to_json(name: str, array: np.ndarray) -> Any:
    if array.dtype != object:
        return array.tolist()

    def text(value: bytes) -> str | dict[str, str]:
        if name.endswith("_bytes"):
            return {"b64": base64.b64encode(value).decode()}
        return value.decode("utf-8", "replace")

    return np.vectorize(text, otypes=[object])(array).tolist()


def _malformed(document: Mapping[str, Any], message: str) -> NoReturn:
    raise ServingError(f"JSON Value: {shown(document)} {message}")


def _shape(array: np.ndarray) -> str:
    return f"[{','.join(map(str, array.shape))}]"
