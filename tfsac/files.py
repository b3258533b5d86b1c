"""Files that survive a crash whole, with TensorFlow's errors.

The counterpart of `kernels/file_io.h`. Every error names the path and what the
system said.
"""

import contextlib
import errno
import os
import pathlib
import stat
from collections.abc import Iterator
from typing import IO

import tensorflow as tf

_ERRORS = {
    errno.ENOENT: tf.errors.NotFoundError,
    errno.EACCES: tf.errors.PermissionDeniedError,
    errno.EPERM: tf.errors.PermissionDeniedError,
    errno.EROFS: tf.errors.PermissionDeniedError,
    errno.ENOSPC: tf.errors.ResourceExhaustedError,
    errno.EDQUOT: tf.errors.ResourceExhaustedError,
    errno.EFBIG: tf.errors.ResourceExhaustedError,
}


# What Keras writes is no larger than what it holds by such a factor.
_MOST_HOLES = 100
_SMALL = 16 << 20


def make_directory(directory: pathlib.Path) -> None:
    """Makes a directory and what is missing above it, durably."""
    if directory.is_dir():
        return
    if not directory.parent.exists():
        make_directory(directory.parent)
    with system("make the directory", directory):
        directory.mkdir(exist_ok=True)
    sync_directory(directory.parent)


def sync_above(directory: pathlib.Path) -> None:
    """Makes the name of a directory that somebody else made durable.

    And the names of those above it, as far as the system lets us: who may not
    read a directory cannot sync it, and did not make it.
    """
    for parent in directory.absolute().parents:
        with contextlib.suppress(tf.errors.OpError):
            sync_directory(parent)


def write_file(path: pathlib.Path, *pieces: bytes) -> None:
    """Writes a file so that a crash leaves the old content or the new, whole.

    It is written under another name, synced and renamed. The name is durable
    after `sync_directory`.
    """
    aside = path.with_name(path.name + ".tmp")
    try:
        with system("write", aside), _created(aside) as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        with system(f"rename to {path}", aside):
            aside.rename(path)
    except tf.errors.OpError:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a path to write to; as `write_file`, for those who need a path.

    Errors of who writes are theirs.
    """
    aside = path.with_name(f"{path.stem}.tmp{path.suffix}")
    try:
        with system("remove", aside):  # what others planted or left there
            aside.unlink(missing_ok=True)
        yield aside
        with system("fsync", aside), aside.open("rb") as file:
            os.fsync(file.fileno())
        with system(f"rename to {path}", aside):
            aside.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise


def _created(path: pathlib.Path) -> IO[bytes]:
    """Opens a new file; what others planted or left there goes."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        return open(os.open(path, flags, 0o666), "wb")
    except FileExistsError:
        path.unlink()
        return open(os.open(path, flags, 0o666), "wb")


def remove(path: pathlib.Path) -> None:
    """Removes a file, unless it is gone already."""
    with system("remove", path):
        path.unlink(missing_ok=True)


def sync_directory(directory: pathlib.Path) -> None:
    """Makes the names in a directory durable."""
    with system("fsync", directory):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def opened(path: pathlib.Path) -> Iterator[tuple[IO[bytes], int]]:
    """Opens a regular file to read: gives it and its length in bytes.

    Refuses one that has next to nothing but holes: a disk that is nearly empty
    holds any length of those, and who reads it takes the memory and the time.
    """
    with system("open", path):
        # Without O_NONBLOCK, opening a pipe would wait for somebody to write.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            raise tf.errors.DataLossError(
                None, None, f"{path}: expected a regular file"
            )
        if info.st_size > _SMALL and _is_hollow(descriptor, info.st_size):
            raise tf.errors.DataLossError(
                None,
                None,
                f"{path}: declares {info.st_size} bytes, of which the disk "
                "holds next to none",
            )
        with system("read", path):
            yield file, info.st_size


def _is_hollow(descriptor: int, size: int) -> bool:
    """Whether a file is a hundred times as large as the data in it."""
    enough = size // _MOST_HOLES
    held, end = 0, 0
    try:
        while held < enough:
            begin = os.lseek(descriptor, end, os.SEEK_DATA)
            end = os.lseek(descriptor, begin, os.SEEK_HOLE)
            held += end - begin
    except OSError as error:  # ENXIO: no data from here on
        is_at_end = error.errno == errno.ENXIO
    else:
        is_at_end = False
    os.lseek(descriptor, 0, os.SEEK_SET)
    return is_at_end


@contextlib.contextmanager
def system(action: str, path: pathlib.Path) -> Iterator[None]:
    """Turns the system's errors into TensorFlow's.

    Args:
        action: What is tried, for the message.
        path: With which file.
    """
    try:
        yield
    except OSError as error:
        kind = _ERRORS.get(error.errno or 0, tf.errors.UnavailableError)
        message = f"{path}: cannot {action}: {error.strerror or error}"
        raise kind(None, None, message) from error
