"""TensorFlow's checkpoints, looked at before TensorFlow reads them.

TensorFlow takes the memory that `PREFIX.index` asks for, and where there is not
as much it ends the process. What is here gives each size that it would believe
bounds: those of the files. Formats: `tensorflow/core/lib/io/format.h` and
`table_format.txt`, a table of LevelDB; `protobuf/tensor_bundle.proto`.
"""

import math
import os
import pathlib
import struct
from collections.abc import Iterator

import tensorflow as tf
from google.protobuf import message
from tensorflow.core.protobuf import tensor_bundle_pb2

from tfsac import files

__all__ = ["check"]

_MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)
_FOOTER = 48  # bytes: two handles, zeros, and the magic number
_TRAILER = 5  # bytes after a block: how it is compressed, and its checksum
_CHECKSUM = 4
_MAX_INDEX = 64 << 20  # bytes; some 500,000 tensors
_MAX_RANK, _MAX_COUNT = 254, 2**60  # TensorFlow's own, or below
_DAMAGE = (IndexError, TypeError, ValueError, struct.error, message.DecodeError)


def check(prefix: str | os.PathLike[str]) -> None:
    """Refuses a checkpoint that declares more than its files hold.

    Checksums are left to TensorFlow.

    Args:
        prefix: Of the names of its files.

    Raises:
        ValueError: If it is damaged.
        tf.errors.OpError: If a file cannot be read.
    """
    path = pathlib.Path(f"{os.fspath(prefix)}.index")
    with files.opened(path) as (file, size):
        if size > _MAX_INDEX:
            raise ValueError(
                f"Expected at most {_MAX_INDEX:,} bytes. Received: {size:,} in "
                f"{path}."
            )
        table = file.read()
    try:
        _check_tensors(str(prefix), list(_entries(table)))
    except _DAMAGE as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def _entries(table: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Each key and value of a table, from all of its blocks."""
    footer = table[-_FOOTER:]
    if len(footer) < _FOOTER or not footer.endswith(_MAGIC):
        raise ValueError("it does not end as a table does")
    about, at = _block_at(footer, 0, table)
    index, _ = _block_at(footer, at, table)
    _pairs(about)
    for _, handle in _pairs(index):
        yield from _pairs(_block_at(handle, 0, table)[0])


def _block_at(handle: bytes, at: int, table: bytes) -> tuple[bytes, int]:
    """The block that a handle tells of, and where the handle ends."""
    offset, at = _varint(handle, at)
    size, at = _varint(handle, at)
    if offset + size + _TRAILER > len(table):
        raise ValueError(f"a block of {size} bytes at {offset} of {len(table)}")
    if table[offset + size]:
        raise ValueError(f"the block at {offset} is compressed")
    return table[offset : offset + size], at


def _pairs(block: bytes) -> list[tuple[bytes, bytes]]:
    """Keys, each of which begins as the one before, and values."""
    (count,) = struct.unpack("<I", block[-4:])
    end = len(block) - 4 * (1 + count)
    if end < 0:
        raise ValueError(f"{count} restarts in a block of {len(block)} bytes")
    restarts = struct.unpack(f"<{count}I", block[end:-4])
    pairs, whole, key, at = [], {0}, b"", 0
    while at < end:
        begin = at
        shared, at = _varint(block, at)
        own, at = _varint(block, at)
        size, at = _varint(block, at)
        if shared > len(key) or at + own + size > end:
            raise ValueError(f"an entry at {begin} does not fit its block")
        if not shared:
            whole.add(begin)
        key = key[:shared] + block[at : at + own]
        pairs.append((key, block[at + own : at + own + size]))
        at += own + size
    # Where TensorFlow begins to read: nowhere else than has been read here.
    if not whole.issuperset(restarts):
        raise ValueError("a restart that is not at an entry")
    return pairs


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """An integer of 7 bits to a byte, and where it ends."""
    value = 0
    for shift in range(0, 64, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("an integer of more than 10 bytes")


def _check_tensors(prefix: str, entries: list[tuple[bytes, bytes]]) -> None:
    if not entries or entries[0][0]:
        raise ValueError("it does not begin with a header")
    header = tensor_bundle_pb2.BundleHeaderProto.FromString(entries[0][1])
    if header.endianness != header.LITTLE:
        raise ValueError("its numbers are big-endian")
    tensors = [
        (key, tensor_bundle_pb2.BundleEntryProto.FromString(value))
        for key, value in entries[1:]
    ]
    shards = header.num_shards
    paths = {
        i: pathlib.Path(f"{prefix}.data-{i:05d}-of-{shards:05d}")
        for i in {entry.shard_id for _, entry in tensors}
    }
    sizes = {}
    for i, path in paths.items():
        with files.opened(path) as (_, sizes[i]):
            pass
    for key, entry in tensors:
        _check_tensor(key, entry, paths[entry.shard_id], sizes)


def _check_tensor(
    key: bytes,
    entry: tensor_bundle_pb2.BundleEntryProto,
    path: pathlib.Path,
    sizes: dict[int, int],
) -> None:
    shape = [dim.size for dim in entry.shape.dim]
    count, dtype = math.prod(shape), tf.as_dtype(entry.dtype)
    declared = f"{key!r} of shape {shape}, {dtype.name}, {entry.size} bytes"
    if (
        min(shape, default=0) < 0
        or len(shape) > _MAX_RANK
        or math.prod(max(size, 1) for size in shape) > _MAX_COUNT
        or not 0 <= entry.offset <= sizes[entry.shard_id] - entry.size
    ):
        raise ValueError(f"a tensor {declared}, does not fit {path}")
    if dtype in (tf.resource, tf.variant):
        raise ValueError(f"neither numbers nor strings: {declared}")
    width = 1 if dtype == tf.string else dtype.size
    if entry.slices:  # its parts are tensors of their own
        fits = count * width <= sum(sizes.values())
    elif dtype == tf.string:
        fits = _are_strings(path, entry, count)
    else:
        fits = count * width == entry.size
    if not fits:
        raise ValueError(f"a tensor {declared}, of another size in {path}")


def _are_strings(
    path: pathlib.Path, entry: tensor_bundle_pb2.BundleEntryProto, count: int
) -> bool:
    """Whether lengths, their checksum and the strings fill what there is."""
    if count > entry.size:
        return False
    with files.opened(path) as (file, _):
        file.seek(entry.offset)
        data = file.read(min(entry.size, 10 * count))
    lengths, at = 0, 0
    for _ in range(count):
        length, at = _varint(data, at)
        lengths += length
    return at + _CHECKSUM + lengths == entry.size
