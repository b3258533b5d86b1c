"""Reads and writes saved replay buffers with NumPy.

The same format as the kernels', byte for byte; `kernels/README.md` describes
it. Errors are TensorFlow's, and name the file.
"""

import contextlib
import os
import pathlib
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, NoReturn

import numpy as np
import tensorflow as tf

from tfsac import files
from tfsac.replay_layout import Layout

_INDEX_SUFFIX = ".index"
_INDEX_MAGIC = b"tfsacIDX"
_SEGMENT_MAGIC = b"tfsacSEG"
_VERSION = 1
_SEGMENT_BYTES = 4 << 20
_MAX_INSERTED = 1 << 62
_MAX_CAPACITY = 1 << 57

# Magic, version, observation type, O, A; then what the file is about.
_FILE_HEADER = "<8sIIqq"
_INDEX_HEADER = struct.Struct(_FILE_HEADER + "qqQQqII")
_SEGMENT_HEADER = struct.Struct(_FILE_HEADER + "qqQII")
_CRC = struct.Struct("<I")

# The checksum of rows [begin, end) that lie in a directory's file already.
SavedRows = dict[tuple[pathlib.Path, int, int], int]


class State(NamedTuple):
    """What a saved buffer holds beside its rows."""

    capacity: int
    inserted: int
    seed: int
    drawn: int


def write(
    directory: str,
    index: str,
    layout: Layout,
    state: State,
    rows: Callable[[np.ndarray], np.ndarray],
    saved: SavedRows,
) -> SavedRows:
    """Writes a buffer; an earlier save of that name gives way at the end.

    Args:
        directory: The directory, made where it is missing.
        index: The save's name.
        layout: The buffer's layout.
        state: Its counters and generator.
        rows: Returns the rows in some slots of the ring, of
            `layout.row_dtype()`.
        saved: Rows of this buffer that need not be written again.

    Returns:
        The rows that are there now.
    """
    root = pathlib.Path(directory)
    files.make_directory(root)
    rows_per_segment = max(1, _SEGMENT_BYTES // layout.row_dtype().itemsize)
    now = {}
    for begin, end in _segments(state, rows_per_segment):
        crc = saved.get((root, begin, end))
        if crc is None or not _is_there(root, layout, begin, end, crc):
            slots = np.arange(begin, end) % state.capacity
            crc = _write_segment(root, layout, begin, end, rows(slots))
        now[root, begin, end] = crc
    files.sync_directory(root)
    crcs = b"".join(map(_CRC.pack, now.values()))
    header = _with_crc(
        _INDEX_HEADER,
        *_file_header(_INDEX_MAGIC, layout),
        *state,
        rows_per_segment,
        zlib.crc32(crcs),
    )
    files.write_file(root / (index + _INDEX_SUFFIX), header, crcs)
    files.sync_directory(root)
    remove_unnamed(root)
    return now


def segments(directory: pathlib.Path) -> set[tuple[pathlib.Path, int]]:
    """Returns the segments in a directory; what is written anew is another."""
    found = directory.glob("rows-*.segment")
    return {(path, path.stat().st_ino) for path in found}


def check_segments(
    layout: Layout, found: Iterable[tuple[pathlib.Path, int]]
) -> None:
    """Compares segments with the checksums in their names.

    Args:
        layout: Of their rows.
        found: Some of what `segments` returned.

    Raises:
        tf.errors.OpError: If one is damaged or gone.
    """
    for path, _ in found:
        _, begin, end, crc = path.stem.split("-")
        _read_segment(path, layout, int(begin), int(end), int(crc, 16))


def _write_segment(
    root: pathlib.Path, layout: Layout, begin: int, end: int, rows: np.ndarray
) -> int:
    payload = rows.tobytes()
    crc = zlib.crc32(payload)
    header = _with_crc(
        _SEGMENT_HEADER,
        *_file_header(_SEGMENT_MAGIC, layout),
        *(begin, end, 0, crc),
    )
    files.write_file(root / _segment_name(begin, end, crc), header, payload)
    return crc


def _is_there(
    root: pathlib.Path, layout: Layout, begin: int, end: int, crc: int
) -> bool:
    path = root / _segment_name(begin, end, crc)
    expected = (
        _SEGMENT_HEADER.size + (end - begin) * layout.row_dtype().itemsize
    )
    return path.is_file() and path.stat().st_size == expected


def remove_unnamed(root: pathlib.Path) -> None:
    """Removes what no index in a directory names.

    What cannot be removed costs space only; while an index cannot be read,
    nothing is removed.
    """
    names = set()
    with contextlib.suppress(OSError, tf.errors.OpError):
        for path in root.glob(f"*{_INDEX_SUFFIX}"):
            with files.opened(path) as (file, size):
                fields = _read_header(
                    file, path, size, _INDEX_HEADER, _INDEX_MAGIC
                )
                _, segments, crcs = _read_segment_list(file, path, size, fields)
            names |= {
                _segment_name(begin, end, crc)
                for (begin, end), crc in zip(segments, crcs, strict=True)
            }
        for path in list(root.glob("rows-*.segment*")):
            if path.name not in names:
                path.unlink()


def read(
    directory: str, index: str, layout: Layout, capacity: int
) -> tuple[State, np.ndarray, SavedRows]:
    """Reads what `write` or the kernels wrote, and checks all of it.

    Args:
        directory: The directory.
        index: The save's name.
        layout: The layout that the rows must have.
        capacity: The capacity that the buffer must have had.

    Returns:
        The state, the rows in the order of the ring, and those that need not
        be written again.
    """
    root = pathlib.Path(directory)
    path = root / (index + _INDEX_SUFFIX)
    with files.opened(path) as (file, size):
        fields = _read_header(file, path, size, _INDEX_HEADER, _INDEX_MAGIC)
        _check_layout(path, fields, layout, capacity)
        state, segments, crcs = _read_segment_list(file, path, size, fields)
    rows = np.zeros(min(state.inserted, capacity), layout.row_dtype())
    saved = {}
    for (begin, end), crc in zip(segments, crcs, strict=True):
        payload = _read_segment(
            root / _segment_name(begin, end, crc), layout, begin, end, crc
        )
        rows[np.arange(begin, end) % capacity] = payload
        saved[root, begin, end] = crc
    return state, rows, saved


def saved_rows(
    directory: str | os.PathLike[str], index: str, layout: Layout
) -> int:
    """Returns how many rows a save may hold, before any are read.

    As many as the header of its index says, but no more than there are bytes
    for. 0 if that cannot be read, which whoever restores them will tell of.
    """
    root = pathlib.Path(directory)
    path = root / (index + _INDEX_SUFFIX)
    try:
        with files.opened(path) as (file, size):
            fields = _read_header(file, path, size, _INDEX_HEADER, _INDEX_MAGIC)
    except tf.errors.OpError:
        return 0
    state = State(*fields[5:9])
    size = sum(segment.stat().st_size for segment in root.glob("*.segment"))
    stored = size // layout.row_dtype().itemsize
    return min(state.inserted, state.capacity, stored)


def _check_layout(
    path: pathlib.Path, fields: tuple[Any, ...], layout: Layout, capacity: int
) -> None:
    if (*fields[2:5], fields[5]) == (*_numbers(layout), capacity):
        return
    dtype = {1: "float32", 4: "uint8"}.get(fields[2], str(fields[2]))
    saved = Layout(fields[3], fields[4], dtype)
    raise tf.errors.InvalidArgumentError(
        None,
        None,
        f"{path}: was saved with {saved}, capacity={fields[5]}; "
        f"this buffer has {layout}, capacity={capacity}",
    )


def _read_segment_list(
    file: Any, path: pathlib.Path, size: int, fields: tuple[Any, ...]
) -> tuple[State, Iterator[tuple[int, int]], list[int]]:
    """Reads the rest of an index after its header's `fields`."""
    state = State(*fields[5:9])
    rows_per_segment, crcs_crc = fields[9:11]
    if (
        not 1 <= state.capacity <= _MAX_CAPACITY
        or not 0 <= state.inserted <= _MAX_INSERTED
        or rows_per_segment < 1
    ):
        _damaged(path, "counts that no buffer can have")
    count = _segment_count(state, rows_per_segment)
    # Compared before anything is read: a header may claim any number.
    _check_size(path, size, _INDEX_HEADER.size + _CRC.size * count)
    data = file.read()
    _check_crc(path, "segments' checksums", crcs_crc, zlib.crc32(data))
    crcs = [crc for (crc,) in _CRC.iter_unpack(data)]
    return state, _segments(state, rows_per_segment), crcs


def _read_segment(
    path: pathlib.Path, layout: Layout, begin: int, end: int, crc: int
) -> np.ndarray:
    dtype = layout.row_dtype()
    with files.opened(path) as (file, size):
        payload_bytes = (end - begin) * dtype.itemsize
        _check_size(path, size, _SEGMENT_HEADER.size + payload_bytes)
        fields = _read_header(file, path, size, _SEGMENT_HEADER, _SEGMENT_MAGIC)
        if fields[2:9] != (*_numbers(layout), begin, end, 0, crc):
            _damaged(path, "its header disagrees with its name or the index")
        payload = file.read(payload_bytes)
    _check_crc(path, "rows", crc, zlib.crc32(payload))
    return np.frombuffer(payload, dtype)


def _oldest(state: State) -> int:
    return max(0, state.inserted - state.capacity)


def _segments(state: State, rows_per_segment: int) -> Iterator[tuple[int, int]]:
    """The rows [begin, end) of each segment, cut at absolute row numbers."""
    begin = _oldest(state)
    while begin < state.inserted:
        boundary = (begin // rows_per_segment + 1) * rows_per_segment
        yield begin, min(boundary, state.inserted)
        begin = boundary


def _segment_count(state: State, rows_per_segment: int) -> int:
    if state.inserted == 0:
        return 0
    first = _oldest(state) // rows_per_segment
    return (state.inserted - 1) // rows_per_segment - first + 1


def _segment_name(begin: int, end: int, crc: int) -> str:
    return f"rows-{begin}-{end}-{crc:08x}.segment"


def _numbers(layout: Layout) -> tuple[int, int, int]:
    observation_type = tf.as_dtype(layout.observation_dtype).as_datatype_enum
    return observation_type, layout.observation_size, layout.action_size


def _file_header(magic: bytes, layout: Layout) -> tuple[Any, ...]:
    return magic, _VERSION, *_numbers(layout)


def _with_crc(header: struct.Struct, *fields: Any) -> bytes:
    """Packs a header, which ends in the checksum of all before."""
    covered = header.pack(*fields, 0)[: -_CRC.size]
    return covered + _CRC.pack(zlib.crc32(covered))


def _read_header(
    file: Any,
    path: pathlib.Path,
    size: int,
    header: struct.Struct,
    magic: bytes,
) -> tuple[Any, ...]:
    if size < header.size:
        _damaged(
            path,
            f"expected a header of {header.size} bytes, found a file of {size}",
        )
    data = file.read(header.size)
    fields = header.unpack(data)
    if fields[0] != magic:
        _damaged(
            path, f"another kind of file: does not begin with {magic.decode()}"
        )
    if fields[1] != _VERSION:
        _damaged(
            path, f"format version: expected {_VERSION}, found {fields[1]}"
        )
    covered = zlib.crc32(data[: -_CRC.size])
    _check_crc(path, "header", fields[-1], covered)
    return fields


def _check_size(path: pathlib.Path, size: int, expected: int) -> None:
    if size != expected:
        _damaged(path, f"expected {expected} bytes, found {size}")


def _check_crc(
    path: pathlib.Path, what: str, stored: int, computed: int
) -> None:
    if stored != computed:
        _damaged(
            path,
            f"checksum of the {what}: stored 0x{stored:08x}, "
            f"computed 0x{computed:08x}",
        )


def _damaged(path: pathlib.Path, what: str) -> NoReturn:
    raise tf.errors.DataLossError(None, None, f"{path}: {what}")
