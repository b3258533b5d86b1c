"""Zip archives that may come from anybody: what they must be to be read.

Keras' `.keras` files and NumPy's `.npz` are such. Reading one that passes takes
no more than its size.
"""

import math
import pathlib
import stat
import tokenize
import zipfile
from typing import IO

import numpy as np

__all__ = ["DAMAGED", "Refused", "check_members", "read_arrays"]

_CHUNK = 1 << 20
_MAX_SIZE = 1 << 31  # of a dimension, also where another one is 0

# What zipfile raises; OSError where a file says to read before its begin.
DAMAGED = (zipfile.BadZipFile, EOFError, NotImplementedError, OSError)
# What NumPy raises of the Python that an array begins with.
_UNPARSABLE = (
    MemoryError,
    RecursionError,
    SyntaxError,
    TypeError,
    ValueError,
    tokenize.TokenError,
)


class Refused(Exception):
    """Says what is wrong with a file."""


def check_members(archive: zipfile.ZipFile, file_size: int) -> None:
    """Refuses an archive that is damaged, or more than it seems.

    Every byte is compared with its checksum; nothing is compressed, links
    elsewhere or has a name outside of the archive.

    Args:
        archive: The archive.
        file_size: Bytes of the file that it is in.

    Raises:
        Refused: If it is refused.
    """
    members = archive.infolist()
    names = [member.filename for member in members]
    if len(set(names)) < len(names):
        raise Refused("a name is in it twice")
    for member in members:
        _check_name(member.filename)
        if stat.S_ISLNK(member.external_attr >> 16):
            raise Refused(f"{member.filename!r} is a link")
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
            raise Refused(
                f"{member.filename!r} is compressed or encrypted, which tfsac "
                "never does"
            )
    # Before anything is read. Members that overlap would say more, too.
    if sum(member.file_size for member in members) > file_size:
        raise Refused("it declares more bytes than it has")
    for member in members:  # zipfile compares checksums at the end
        with archive.open(member) as file:
            while file.read(_CHUNK):
                pass


def read_arrays(file: IO[bytes], file_size: int) -> dict[str, np.ndarray]:
    """Reads what `numpy.savez` wrote.

    Args:
        file: The file.
        file_size: Its bytes.

    Raises:
        Refused: If it is refused; or one of `DAMAGED` or ValueError.
    """
    with zipfile.ZipFile(file) as archive:
        check_members(archive, file_size)
        for member in archive.infolist():
            with archive.open(member) as header:
                _check_array(header, member)
    file.seek(0)
    with np.load(file, allow_pickle=False) as loaded:
        return dict(loaded)


def _check_array(header: IO[bytes], member: zipfile.ZipInfo) -> None:
    """Refuses an array that declares more than is stored, or objects."""
    if np.lib.format.read_magic(header) != (1, 0):
        raise Refused(f"{member.filename!r} is of another version")
    try:
        shape, _, dtype = np.lib.format.read_array_header_1_0(header)
    except _UNPARSABLE as error:
        raise Refused(f"{member.filename!r} begins by {error}") from error
    if dtype.hasobject:
        raise Refused(f"{member.filename!r} holds no plain numbers")
    is_shape = all(0 <= size < _MAX_SIZE for size in shape)
    if not is_shape or math.prod(shape) * dtype.itemsize > member.file_size:
        raise Refused(
            f"{member.filename!r} declares more bytes than are stored"
        )


def _check_name(name: str) -> None:
    path = pathlib.PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise Refused(f"{name!r} leads out of it")
