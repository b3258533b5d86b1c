"""What a `.keras` file must be before Keras reads it.

Keras 3.13.2 and later run nothing that a file holds, but believe what it says
of sizes: some kilobytes that declare gigabytes take them.
"""

import copy
import io
import json
import math
import pathlib
import stat
import zipfile
from collections.abc import Iterator
from typing import Any

import h5py
import keras
import tensorflow as tf

__all__ = ["check", "check_config"]

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
_CHUNK = 1 << 20
# The most JSON that is read; a large agent has some kilobytes.
_MAX_CONFIG_BYTES = 16 << 20

# What zipfile raises; OSError where a file says to read before its begin.
_DAMAGED = (zipfile.BadZipFile, EOFError, NotImplementedError, OSError)


def check(
    path: pathlib.Path, custom_objects: dict[str, Any] | None = None
) -> None:
    """Refuses a file that `agent.save` did not write, or that was damaged.

    Every byte is compared with its checksum; nothing in it is compressed,
    links elsewhere or has a name outside of the archive; and it declares no
    more weights than it holds. So loading takes a few times
    the file's size.

    Args:
        path: The file.
        custom_objects: Classes of the user's own models by name.

    Raises:
        ValueError: If it is refused.
    """
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                _check_members(archive, path.stat().st_size)
                config = _read_config(archive)
                weights = archive.read(_WEIGHTS)
            _check_datasets(weights)
            _check_declared(config, custom_objects, len(weights))
        except _DAMAGED as error:
            raise ValueError(
                f"{path}: expected an agent that agent.save wrote. Received: a "
                f"damaged or foreign file ({error})."
            ) from error
        except _Refused as error:
            raise ValueError(f"{path}: refused, because {error}.") from error


def check_config(
    path: pathlib.Path, config: Any, custom_objects: Any, stored: int
) -> None:
    """Refuses an agent's config that declares more weights than there are.

    Args:
        path: The file that it is in, to name it.
        config: What `keras.saving.serialize_keras_object` returned.
        custom_objects: Classes of the user's own models by name.
        stored: Bytes of the weights.

    Raises:
        ValueError: If it is refused.
    """
    config = copy.deepcopy(config)  # Keras empties what it deserializes
    try:
        _check_declared(config, custom_objects, stored)
    except _Refused as error:
        raise ValueError(f"{path}: refused, because {error}.") from error


class _Refused(Exception):
    """Says what is wrong with a file."""


def _check_members(archive: zipfile.ZipFile, file_size: int) -> None:
    members = archive.infolist()
    names = [member.filename for member in members]
    if len(set(names)) < len(names):
        raise _Refused("a name is in it twice")
    for member in members:
        _check_name(member.filename)
        if stat.S_ISLNK(member.external_attr >> 16):
            raise _Refused(f"{member.filename!r} is a link")
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
            raise _Refused(
                f"{member.filename!r} is compressed or encrypted, which "
                "agent.save never does"
            )
    # Before anything is read. Members that overlap would say more, too.
    if sum(member.file_size for member in members) > file_size:
        raise _Refused("it declares more bytes than it has")
    for name in (_CONFIG, _WEIGHTS):
        if name not in names:
            raise _Refused(f"{name!r} is missing")
    for member in members:  # zipfile compares checksums at the end
        with archive.open(member) as file:
            while file.read(_CHUNK):
                pass


def _check_name(name: str) -> None:
    path = pathlib.PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise _Refused(f"{name!r} leads out of it")


def _read_config(archive: zipfile.ZipFile) -> Any:
    if archive.getinfo(_CONFIG).file_size > _MAX_CONFIG_BYTES:
        raise _Refused(f"{_CONFIG!r} is larger than {_MAX_CONFIG_BYTES} bytes")
    try:
        return json.loads(archive.read(_CONFIG))
    except (ValueError, RecursionError) as error:
        raise _Refused(f"{_CONFIG!r} is no JSON ({error})") from error


def _check_datasets(weights: bytes) -> None:
    """Refuses datasets of which less is stored than they declare."""

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if not isinstance(item, h5py.Dataset):
            return
        if item.external or item.is_virtual or item.dtype.hasobject:
            raise _Refused(f"{name!r} in {_WEIGHTS!r} holds no plain numbers")
        declared = math.prod(item.shape) * item.dtype.itemsize
        if declared > item.id.get_storage_size():
            raise _Refused(
                f"{name!r} in {_WEIGHTS!r} declares {declared} bytes, more "
                "than are stored"
            )

    try:
        with h5py.File(io.BytesIO(weights), "r") as file:
            file.visititems(visit)
    except (OSError, RuntimeError, KeyError, TypeError) as error:
        raise _Refused(f"{_WEIGHTS!r} cannot be read ({error})") from error


def _check_declared(config: Any, custom_objects: Any, stored: int) -> None:
    """Refuses models that are larger than the weights in the file.

    They are made in a graph first, where a variable takes no memory.
    """
    with tf.Graph().as_default() as graph:
        for part in _keras_objects(config):
            made = keras.saving.deserialize_keras_object(
                part, custom_objects, safe_mode=True
            )
            # Of what was never built, the size would show when it is called.
            if _is_keras_layer(made) and not made.built:
                raise _Refused(f"the model {made.name!r} was never built")
        declared = sum(
            math.prod(variable.shape.as_list()) * variable.dtype.size
            for variable in graph.get_collection("variables")
        )
    if declared > stored:
        raise _Refused(
            f"the config declares {declared} bytes of weights, more than the "
            f"{stored} that are stored"
        )


def _is_keras_layer(made: Any) -> bool:
    """Whether it is a layer or model, and not of a user's own class."""
    is_layer = isinstance(made, keras.layers.Layer)
    return is_layer and type(made).__module__.startswith("keras.")


def _keras_objects(config: Any) -> Iterator[dict[str, Any]]:
    """Yields what an agent's config holds of Keras: networks, optimizers."""
    if not isinstance(config, dict):
        raise _Refused(f"{_CONFIG!r} holds no object")
    for part in (config.get("config"), config.get("compile_config")):
        for value in part.values() if isinstance(part, dict) else ():
            if isinstance(value, dict) and "class_name" in value:
                yield value
