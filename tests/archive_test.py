"""Arrays in archives that may come from anybody."""

import io
import zipfile

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from tfsac import archive

HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': %s}"


def npz(header, data=b""):
    """The bytes of an archive of one array, which begins so."""
    text = header.encode() + b"\n"
    npy = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as written:
        written.writestr("x.npy", npy)
    return buffer.getvalue()


def read(data):
    return archive.read_arrays(io.BytesIO(data), len(data))


class ReadArraysTest(parameterized.TestCase, tf.test.TestCase):
    def test_what_numpy_writes(self):
        arrays = {
            "a": np.arange(6, dtype=np.float32).reshape(2, 3),
            "b": np.zeros((0, 1_000)),
            "c": np.array(3),
        }
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        found = read(buffer.getvalue())
        self.assertEqual(set(found), set(arrays))
        for name, array in arrays.items():
            self.assertAllEqual(found[name], array)
            self.assertEqual(found[name].dtype, array.dtype)

    def test_what_is_written_here_is_read_if_it_is_right(self):
        data = np.float32([1, 2])
        found = read(npz(HEADER % "(2,)", data.tobytes()))
        self.assertAllEqual(found["x"], data)

    @parameterized.parameters(
        ("(2,", "begins by"),
        ("'a'", "begins by"),
        ("((" * 200 + "2" + "))" * 200, "begins by"),
        ("(-1,)", "more bytes than are stored"),
        ("(99,)", "more bytes than are stored"),
        (f"({2**70},)", "more bytes than are stored"),
        (f"(0, {2**70})", "more bytes than are stored"),
    )
    def test_a_header_that_nobody_wrote(self, shape, message):
        with self.assertRaisesRegex(archive.Refused, message):
            read(npz(HEADER % shape, bytes(8)))


if __name__ == "__main__":
    tf.test.main()
