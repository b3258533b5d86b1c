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


def make_directory(directory: pathlib.Path) -> None:
    """Makes a directory and what is missing above it, durably."""
    if directory.is_dir():
        return
    if not directory.parent.exists():
        make_directory(directory.parent)
    with system("make the directory", directory):
        directory.mkdir(exist_ok=True)
    sync_directory(directory.parent)


def write_file(path: pathlib.Path, *pieces: bytes) -> None:
    """Writes a file so that a crash leaves the old content or the new, whole.

    It is written under another name, synced and renamed. The name is durable
    after `sync_directory`.
    """
    aside = path.with_name(path.name + ".tmp")
    try:
        with system("write", aside), aside.open("wb") as file:
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
    """Opens a regular file to read: gives it and its length in bytes."""
    with system("open", path):
        # Without O_NONBLOCK, opening a pipe would wait for somebody to write.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            raise tf.errors.DataLossError(
                None, None, f"{path}: expected a regular file"
            )
        with system("read", path):
            yield file, info.st_size


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
