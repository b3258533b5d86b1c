"""What a `.keras` file must be before Keras reads it.

Keras 3.13.2 and later run nothing that a file holds, but believe what it says
of sizes: some kilobytes that declare gigabytes take them.
"""

import contextlib
import copy
import io
import json
import math
import pathlib
import zipfile
from collections.abc import Iterator
from typing import Any

import h5py
import keras
import tensorflow as tf

from tfsac import files
from tfsac.archive import DAMAGED, Refused, check_members

__all__ = ["check", "check_config", "check_weights"]

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
# The most JSON that is read; a large agent has some kilobytes.
_MAX_CONFIG_BYTES = 16 << 20
# The most layers, optimizers, initializers and so on that are made of it. A
# layer has up to ten, and takes milliseconds.
_MAX_OBJECTS = 2_000
# The most JSON objects, spaces and all, which Keras walks through.
_MAX_PARTS = 10_000


def check(
    path: pathlib.Path, custom_objects: dict[str, Any] | None = None
) -> None:
    """Refuses a file that `agent.save` did not write, or that was damaged.

    As `check_weights` does; and its networks declare no more weights than it
    holds. So loading takes a few times the file's size.

    Args:
        path: The file.
        custom_objects: Classes of the user's own models by name.

    Raises:
        ValueError: If it is refused.
    """
    with _opened(path) as (archive, weights):
        config = _read_config(archive)
        _check_declared(config, custom_objects, weights.file_size)


def check_weights(path: pathlib.Path) -> None:
    """Refuses a file whose weights are damaged or not what they seem.

    Every byte is compared with its checksum; nothing in it is compressed,
    links elsewhere or has a name outside of the archive; and no array declares
    more than is stored.

    Args:
        path: The file.

    Raises:
        ValueError: If it is refused.
    """
    with _opened(path):
        pass


@contextlib.contextmanager
def _opened(
    path: pathlib.Path,
) -> Iterator[tuple[zipfile.ZipFile, zipfile.ZipInfo]]:
    """Gives the archive, once it is checked, and its member of weights."""
    try:
        with (
            files.opened(path) as (file, size),
            zipfile.ZipFile(file) as archive,
        ):
            check_members(archive, size)
            for name in (_CONFIG, _WEIGHTS):
                if name not in archive.namelist():
                    raise Refused(f"{name!r} is missing")
            _check_datasets(archive.read(_WEIGHTS))
            yield archive, archive.getinfo(_WEIGHTS)
    except (*DAMAGED, tf.errors.OpError) as error:
        raise ValueError(
            f"{path}: expected an agent that agent.save wrote. Received: a "
            f"damaged or foreign file ({error})."
        ) from error
    except Refused as error:
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
    except Refused as error:
        raise ValueError(f"{path}: refused, because {error}.") from error


def _read_config(archive: zipfile.ZipFile) -> Any:
    if archive.getinfo(_CONFIG).file_size > _MAX_CONFIG_BYTES:
        raise Refused(f"{_CONFIG!r} is larger than {_MAX_CONFIG_BYTES} bytes")
    try:
        return json.loads(archive.read(_CONFIG))
    except (ValueError, RecursionError) as error:
        raise Refused(f"{_CONFIG!r} is no JSON ({error})") from error


def _check_datasets(weights: bytes) -> None:
    """Refuses links, and datasets of which less is stored than declared."""

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if not isinstance(item, h5py.Dataset):
            return
        if item.external or item.is_virtual or item.dtype.hasobject:
            raise Refused(f"{name!r} in {_WEIGHTS!r} holds no plain numbers")
        declared = math.prod(item.shape) * item.dtype.itemsize
        if declared > item.id.get_storage_size():
            raise Refused(
                f"{name!r} in {_WEIGHTS!r} declares {declared} bytes, more "
                "than are stored"
            )

    def is_link(name: str, link: Any) -> str | None:
        return None if isinstance(link, h5py.HardLink) else name

    try:
        with h5py.File(io.BytesIO(weights), "r") as file:
            # h5py cannot pass on what is raised here; it stops at a result.
            if (name := file.visititems_links(is_link)) is not None:
                raise Refused(f"{name!r} in {_WEIGHTS!r} leads elsewhere")
            file.visititems(visit)
    except (OSError, RuntimeError, KeyError, TypeError) as error:
        raise Refused(f"{_WEIGHTS!r} cannot be read ({error})") from error


def _check_declared(config: Any, custom_objects: Any, stored: int) -> None:
    """Refuses models that are larger than the weights in the file.

    They are made in a graph first, where a variable takes no memory, and only
    if there are not so many that this takes long.
    """
    _require_moderate(config)
    with tf.Graph().as_default() as graph:
        for part in _keras_objects(config):
            made = keras.saving.deserialize_keras_object(
                part, custom_objects, safe_mode=True
            )
            # Of what was never built, the size would show when it is called.
            if _is_keras_layer(made) and not made.built:
                raise Refused(f"the model {made.name!r} was never built")
        declared = sum(
            math.prod(variable.shape.as_list()) * variable.dtype.size
            for variable in graph.get_collection("variables")
        )
    if declared > stored:
        raise Refused(
            f"the config declares {declared} bytes of weights, more than the "
            f"{stored} that are stored"
        )


def _require_moderate(config: Any) -> None:
    """Refuses what would take long to make, however little it holds."""
    objects, parts, left = 0, 0, [config]
    while left:
        part = left.pop()
        if isinstance(part, dict):
            parts += 1
            objects += "class_name" in part
            left += part.values()
        elif isinstance(part, list):
            left += part
    if objects > _MAX_OBJECTS or parts > _MAX_PARTS:
        raise Refused(
            f"it is made of {objects:,} objects of Keras, expected at most "
            f"{_MAX_OBJECTS:,}, and of {parts:,} parts, expected at most "
            f"{_MAX_PARTS:,}"
        )


def _is_keras_layer(made: Any) -> bool:
    """Whether it is a layer or model, and not of a user's own class."""
    is_layer = isinstance(made, keras.layers.Layer)
    return is_layer and type(made).__module__.startswith("keras.")


def _keras_objects(config: Any) -> Iterator[dict[str, Any]]:
    """Yields what an agent's config holds of Keras: networks, optimizers."""
    if not isinstance(config, dict):
        raise Refused(f"{_CONFIG!r} holds no object")
    for part in (config.get("config"), config.get("compile_config")):
        for value in part.values() if isinstance(part, dict) else ():
            if isinstance(value, dict) and "class_name" in value:
                yield value
