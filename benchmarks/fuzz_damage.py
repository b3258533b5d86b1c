"""Damage to bytes, to JSON and to tfsac's files, at random.

What is forged has its checksums made right again, as by somebody who means
harm.
"""

import json
import pathlib
import struct
import zipfile
import zlib

import numpy as np
import tensorflow as tf

INTEGERS = (0, 1, 2**15, 2**31 - 1, 2**32 - 1, 2**40, 2**62, 2**63, 2**64 - 1)
JUNK = (None, True, 0, -1, 2**31, 2**62, 1e308, float("nan"), "", "x" * 9_999)
INDEX_HEADER, SEGMENT_HEADER = 80, 64  # kernels/README.md


def forge_archive(rng: np.random.Generator, path: pathlib.Path) -> None:
    """Damages a member of an archive, whose checksums are right again."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = pick(rng, list(members))
    if name.endswith(".json") and rng.random() < 0.8:
        content = damage_json(rng, json.loads(members[name]))
        members[name] = json.dumps(content).encode()
    else:
        members[name] = damage(rng, members[name])
    if rng.random() < 0.1:
        members[pick(rng, ["../x", "/x", "a/../../x", "x"])] = b"1"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def forge_index(rng: np.random.Generator, path: pathlib.Path) -> None:
    """Damages an index, whose checksums are right again."""
    data = bytearray(damage(rng, path.read_bytes()))
    if len(data) >= INDEX_HEADER:
        struct.pack_into("<I", data, 72, zlib.crc32(data[INDEX_HEADER:]))
        struct.pack_into("<I", data, 76, zlib.crc32(data[:76]))
    path.write_bytes(data)


def forge_segment(
    rng: np.random.Generator, path: pathlib.Path, index: pathlib.Path
) -> None:
    """Damages a segment, whose checksums are right again, here and there."""
    data = bytearray(damage(rng, path.read_bytes()))
    path.unlink()
    checksum = zlib.crc32(data[SEGMENT_HEADER:])
    if len(data) >= SEGMENT_HEADER:
        struct.pack_into("<I", data, 56, checksum)
        struct.pack_into("<I", data, 60, zlib.crc32(data[:60]))
    stem = path.stem.rpartition("-")[0]
    path.with_name(f"{stem}-{checksum:08x}.segment").write_bytes(data)
    other = bytearray(index.read_bytes())
    struct.pack_into("<I", other, INDEX_HEADER, checksum)
    struct.pack_into("<I", other, 72, zlib.crc32(other[INDEX_HEADER:]))
    struct.pack_into("<I", other, 76, zlib.crc32(other[:76]))
    index.write_bytes(other)


def forge_checkpoint(rng: np.random.Generator, path: pathlib.Path) -> None:
    """Damages a tensor of TensorFlow's checkpoint, and writes all anew."""
    reader = tf.train.load_checkpoint(str(path))
    tensors = {
        name: reader.get_tensor(name)
        for name in sorted(reader.get_variable_to_shape_map())
    }
    name = pick(rng, list(tensors))
    value = np.asarray(tensors[name])
    kind = rng.integers(5)
    if name == "config" and kind:
        content = damage_json(rng, json.loads(value.item()))
        tensors[name] = np.array(json.dumps(content).encode(), object)
    elif kind == 0:
        del tensors[name]
    elif kind == 1:
        tensors[name] = np.resize(value, (*value.shape, 2))
    elif kind == 2 and value.size:
        tensors[name] = value.reshape(-1)[:-1]
    elif kind == 3 and value.dtype.kind in "fiu":
        tensors[name] = value.astype(pick(rng, ["float64", "int32", "uint8"]))
    else:
        tensors[f"{name}/more"] = value
    tf.raw_ops.SaveV2(
        prefix=str(path),
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=[tf.constant(value) for value in tensors.values()],
    )


def damage(rng: np.random.Generator, good: bytes) -> bytes:
    """Flips, cuts, repeats or replaces a part."""
    data, kind = bytearray(good), rng.integers(6)
    at = int(rng.integers(max(1, len(data))))
    if rng.random() < 0.3:  # where headers are
        at %= 128
    if kind == 0:
        for _ in range(int(rng.choice([1, 1, 2, 8]))):
            data[at % len(data)] ^= 1 << int(rng.integers(8))
            at = int(rng.integers(len(data)))
    elif kind == 1:
        del data[at:]
    elif kind == 2:
        size = pick(rng, [4, 8])
        number = pick(rng, INTEGERS) % 2 ** (8 * size)
        data[at : at + size] = number.to_bytes(size, "little")
    elif kind == 3:
        data[at : at + 64] = rng.bytes(int(rng.integers(1, 64)))
    elif kind == 4:
        data[at:at] = data[: int(rng.integers(1, 200))]
    else:
        data[at : at + int(rng.integers(1, 200))] = b""
    return bytes(data)


def damage_json(rng: np.random.Generator, content):
    """Replaces, removes or repeats something at any depth."""
    if not isinstance(content, dict | list) or not content:
        return pick(rng, [*JUNK, [], {}, [content] * 3, {"a": content}])
    if rng.random() < 0.05:
        return pick(rng, [*JUNK, [], {}])
    keys = list(content) if isinstance(content, dict) else range(len(content))
    key = pick(rng, keys)
    changed = content.copy()
    how = rng.random()
    if how < 0.1:
        del changed[key]
    elif how < 0.15 and isinstance(changed, dict):
        changed[pick(rng, ["x", "../x", *keys])] = changed[key]
    elif isinstance(changed[key], int) and how < 0.6:
        changed[key] = pick(rng, [-1, 0, 2, *INTEGERS])
    else:
        changed[key] = damage_json(rng, changed[key])
    return changed


def pick(rng: np.random.Generator, options):
    """One of them."""
    return options[int(rng.integers(len(options)))]
