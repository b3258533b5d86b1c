"""TensorFlow's checkpoints, looked at before TensorFlow reads them.

TensorFlow takes the memory that `PREFIX.index` asks for, and where there is not
as much it ends the process. What is here gives each size that it would believe
bounds: those of the files, of which each byte counts once. Formats:
`tensorflow/core/lib/io/format.h` and `table_format.txt`, a table of LevelDB;
`protobuf/tensor_bundle.proto`.
"""

import collections
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
_MAX_INDEX = 16 << 20  # bytes; some 200,000 tensors
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
        _check_tensors(str(prefix), _entries(table))
    except _DAMAGE as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def _entries(table: bytes) -> Iterator[tuple[int, bytes]]:
    """The length of each key of a table, and its value."""
    footer = table[-_FOOTER:]
    if len(footer) < _FOOTER or not footer.endswith(_MAGIC):
        raise ValueError("it does not end as a table does")
    _, _, at = _block_at(footer, 0, table)  # TensorFlow does not read it
    index, _, _ = _block_at(footer, at, table)
    end = 0
    for _, handle in _entries_of(index):
        block, begin, _ = _block_at(handle, 0, table)
        if begin < end:
            raise ValueError(f"a block at {begin}, within the one before")
        end = begin + len(block)
        yield from _entries_of(block)


def _block_at(handle: bytes, at: int, table: bytes) -> tuple[bytes, int, int]:
    """What a handle tells of: a block, and where; and where the handle ends."""
    begin, at = _varint(handle, at)
    size, at = _varint(handle, at)
    if begin + size + _TRAILER > len(table):
        raise ValueError(f"a block of {size} bytes at {begin} of {len(table)}")
    if table[begin + size]:
        raise ValueError(f"the block at {begin} is compressed")
    return table[begin : begin + size], begin, at


def _entries_of(block: bytes) -> list[tuple[int, bytes]]:
    """The same of a block, of which each key begins as the one before.

    Keys are not put together: from a few bytes each they may grow large.
    """
    (count,) = struct.unpack("<I", block[-4:])
    end = len(block) - 4 * (1 + count)
    if end < 0:
        raise ValueError(f"{count} restarts in a block of {len(block)} bytes")
    restarts = struct.unpack(f"<{count}I", block[end:-4])
    entries: list[tuple[int, bytes]] = []
    whole, length, at = {0}, 0, 0
    while at < end:
        begin = at
        shared, at = _varint(block, at)
        own, at = _varint(block, at)
        size, at = _varint(block, at)
        if shared > length or at + own + size > end:
            raise ValueError(f"an entry at {begin} does not fit its block")
        if not shared:
            whole.add(begin)
        length = shared + own
        entries.append((length, block[at + own : at + own + size]))
        at += own + size
    # Where TensorFlow begins to read: nowhere else than has been read here.
    if not whole.issuperset(restarts):
        raise ValueError("a restart that is not at an entry")
    return entries


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


def _check_tensors(prefix: str, entries: Iterator[tuple[int, bytes]]) -> None:
    length, value = next(entries, (1, b""))
    if length:
        raise ValueError("it does not begin with a header")
    header = tensor_bundle_pb2.BundleHeaderProto.FromString(value)
    if header.endianness != header.LITTLE:
        raise ValueError("its numbers are big-endian")
    sizes: dict[pathlib.Path, int] = {}
    stored: collections.Counter[pathlib.Path] = collections.Counter()
    in_parts = 0  # whose parts are tensors of their own, and not less
    for _, value in entries:
        entry = tensor_bundle_pb2.BundleEntryProto.FromString(value)
        path = pathlib.Path(
            f"{prefix}.data-{entry.shard_id:05d}-of-{header.num_shards:05d}"
        )
        if path not in sizes:
            with files.opened(path) as (_, sizes[path]):
                pass
        in_parts += _check_tensor(entry, path, sizes[path])
        stored[path] += entry.size
        if stored[path] > sizes[path] or in_parts > sum(sizes.values()):
            raise ValueError(f"tensors of more bytes than {path} has")


def _check_tensor(
    entry: tensor_bundle_pb2.BundleEntryProto, path: pathlib.Path, size: int
) -> int:
    """Returns the bytes of a tensor that is stored elsewhere, in parts."""
    shape = [dim.size for dim in entry.shape.dim]
    count, dtype = math.prod(shape), tf.as_dtype(entry.dtype)
    declared = f"a tensor of shape {shape}, {dtype.name}, {entry.size} bytes"
    if (
        min(shape, default=0) < 0
        or len(shape) > _MAX_RANK
        or math.prod(max(each, 1) for each in shape) > _MAX_COUNT
        or not 0 <= entry.offset <= entry.offset + entry.size <= size
    ):
        raise ValueError(f"{declared}, does not fit {path}")
    if dtype in (tf.resource, tf.variant):
        raise ValueError(f"{declared}: neither numbers nor strings")
    width = 1 if dtype == tf.string else dtype.size
    if entry.slices:
        return count * width
    if dtype == tf.string:
        fits = _are_strings(path, entry, count)
    else:
        fits = count * width == entry.size
    if not fits:
        raise ValueError(f"{declared}, of another size in {path}")
    return 0


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
