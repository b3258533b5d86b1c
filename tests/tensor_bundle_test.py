"""TensorFlow's checkpoints: what TensorFlow writes passes, and no lie does."""

import pathlib
import struct
import tempfile
import tracemalloc

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import tensor_bundle_pb2

from tfsac import tensor_bundle

HUGE = 2**45


def varint(number):
    data = b""
    while number >= 0x80:
        data += bytes([number & 0x7F | 0x80])
        number >>= 7
    return data + bytes([number])


def block(pairs, restarts=(0,), compression=0):
    """Entries, each with its whole key; checksums are TensorFlow's business."""
    data = b""
    for key, value in pairs:
        data += varint(0) + varint(len(key)) + varint(len(value)) + key + value
    data += struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))
    return data + bytes([compression]) + bytes(4)


def handle(offset, size):
    return varint(offset) + varint(size)


def footer(*handles):
    return b"".join(handles).ljust(40, b"\0") + bytes.fromhex(
        "57fb808b247547db"
    )


def table(*blocks):
    """Blocks, and the index that names them."""
    data, handles = b"", []
    for each in blocks:
        handles.append(handle(len(data), len(each) - 5))
        data += each
    empty, index = block([]), block([(b"z", each) for each in handles])
    return (
        data
        + empty
        + index
        + footer(
            handle(len(data), len(empty) - 5),
            handle(len(data) + len(empty), len(index) - 5),
        )
    )


def entry(dtype=types_pb2.DT_FLOAT, shape=(2, 3), size=24, **more):
    value = tensor_bundle_pb2.BundleEntryProto(dtype=dtype, size=size, **more)
    for each in shape:
        value.shape.dim.add(size=each)
    return value


class TensorBundleTest(parameterized.TestCase, tf.test.TestCase):
    def setUp(self):
        super().setUp()
        folder = pathlib.Path(tempfile.mkdtemp(dir=self.get_temp_dir()))
        self.prefix = folder / "x"
        self.index = folder / "x.index"

    def save(self, tensors, slices=None):
        tf.raw_ops.SaveV2(
            prefix=str(self.prefix),
            tensor_names=[f"{i:06d}" for i in range(len(tensors))],
            shape_and_slices=slices or [""] * len(tensors),
            tensors=tensors,
        )

    def write(self, *entries, header=None, data=64, **options):
        header = header or tensor_bundle_pb2.BundleHeaderProto(num_shards=1)
        pairs = [(b"", header.SerializeToString())]
        pairs += [
            (b"%d" % i, each.SerializeToString())
            for i, each in enumerate(entries)
        ]
        self.index.write_bytes(table(block(pairs, **options)))
        data = bytes(data) if isinstance(data, int) else data
        self.prefix.with_name("x.data-00000-of-00001").write_bytes(data)

    def refused(self, message):
        with self.assertRaisesRegex(ValueError, f"x.index.*{message}"):
            tensor_bundle.check(self.prefix)

    def test_what_tensorflow_writes(self):
        rng = np.random.default_rng(0)
        texts = [b"", b"x" * 300, b"abc"]
        tensors = [
            tf.constant(rng.normal(size=(7, 5)), dtype)
            for dtype in ("float16", "bfloat16", "float32", "float64", "int8")
        ]
        tensors += [tf.constant(texts), tf.constant("one"), tf.zeros([0, 4])]
        tensors += [tf.constant([], tf.string), tf.constant(True)]
        self.save(tensors)
        tensor_bundle.check(self.prefix)

    def test_a_table_of_several_blocks(self):
        self.save([tf.constant(i) for i in range(20_000)])
        self.assertGreater(self.index.stat().st_size, 2**18)  # of one
        tensor_bundle.check(self.prefix)

    def test_a_tensor_in_parts(self):
        parts = [tf.zeros([2, 3]), tf.ones([2, 3])]
        tf.raw_ops.SaveV2(
            prefix=str(self.prefix),
            tensor_names=["x", "x"],
            shape_and_slices=["4 3 0,2:-", "4 3 2,2:-"],
            tensors=parts,
        )
        tensor_bundle.check(self.prefix)

    def test_what_is_written_here_passes_if_it_is_right(self):
        self.write(entry(), entry(types_pb2.DT_INT64, (), 8, offset=24))
        tensor_bundle.check(self.prefix)

    @parameterized.named_parameters(
        ("shape", entry(shape=(2, HUGE)), "of another size"),
        ("size", entry(size=HUGE), "does not fit"),
        ("both", entry(shape=(HUGE,), size=4 * HUGE), "does not fit"),
        ("offset", entry(offset=50), "does not fit"),
        ("before", entry(offset=-8), "does not fit"),
        ("negative", entry(shape=(-2, -3)), "does not fit"),
        ("overflow", entry(shape=(HUGE, HUGE, 0), size=0), "does not fit"),
        ("rank", entry(shape=(1,) * 255, size=4), "does not fit"),
        ("dtype", entry(dtype=999), "999"),
        ("variant", entry(types_pb2.DT_VARIANT), "numbers nor strings"),
    )
    def test_a_tensor_that_declares_what_is_not_there(self, lie, message):
        self.write(lie)
        self.refused(message)

    def test_parts_of_a_tensor_that_is_too_large(self):
        lie = entry(shape=(HUGE,), size=0)
        lie.slices.add().extent.add(start=0, length=1)
        self.write(lie)
        self.refused("of more bytes")

    def test_bytes_that_are_several_tensors(self):
        self.write(entry(), entry(), data=48)
        tensor_bundle.check(self.prefix)
        self.write(entry(), entry(), data=40)
        self.refused("of more bytes")

    def test_blocks_within_each_other(self):
        """Each byte is read once: a block cannot be named many times."""
        data = block([(b"", b"\x08\x01")])
        whole = handle(0, len(data) - 5)
        index = block([(b"y", whole), (b"z", whole)])
        end = footer(whole, handle(len(data), len(index) - 5))
        self.index.write_bytes(data + index + end)
        self.refused("within the one before")

    def test_keys_that_grow(self):
        """A few bytes each, and gigabytes together."""
        self.write()
        value = entry(shape=(), size=0).SerializeToString()
        pieces = [varint(0) * 2 + varint(2) + b"\x08\x01"]
        for i in range(100_000):
            pieces += [varint(30 * i), varint(30), varint(len(value))]
            pieces += [b"x" * 30, value]
        pieces += [struct.pack("<II", 0, 1), bytes(5)]
        self.index.write_bytes(table(b"".join(pieces)))
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        self.refused("of another size")
        self.assertLess(tracemalloc.get_traced_memory()[1], 100e6)

    @parameterized.parameters(
        (varint(HUGE) + bytes(4),),
        (varint(3) + bytes(4),),
        (b"\xff" * 11,),
    )
    def test_strings_that_are_not_there(self, data):
        text = entry(types_pb2.DT_STRING, (1,), len(data))
        self.write(text, data=data)
        self.refused("of another size|more than 10 bytes")

    def test_a_string_that_is_there(self):
        data = varint(3) + bytes(4) + b"abc"
        self.write(entry(types_pb2.DT_STRING, (1,), len(data)), data=data)
        tensor_bundle.check(self.prefix)

    @parameterized.named_parameters(
        ("restart", {"restarts": (4,)}, "restart"),
        ("compression", {"compression": 1}, "compressed"),
        (
            "big-endian",
            {
                "header": tensor_bundle_pb2.BundleHeaderProto(
                    num_shards=1, endianness=1
                )
            },
            "big-endian",
        ),
    )
    def test_a_table_that_tensorflow_reads_otherwise(self, options, message):
        self.write(entry(), **options)
        self.refused(message)

    @parameterized.named_parameters(
        ("block", footer(handle(0, HUGE), handle(0, 9)), "a block of"),
        ("far", footer(handle(0, 0), handle(HUGE, 9)), "a block|unpack"),
        ("cut", b"", "does not end"),
    )
    def test_the_end_of_a_table(self, end, message):
        self.write(entry())
        self.index.write_bytes(self.index.read_bytes()[:-48] + end)
        self.refused(message)

    def test_each_byte_of_a_table(self):
        """Whatever is found, it is found by a `ValueError`."""
        self.save([tf.zeros([3]), tf.constant(["a", "bc"])])
        good = self.index.read_bytes()
        rng, refused = np.random.default_rng(0), 0
        for at in range(len(good)):
            bad = bytearray(good)
            bad[at] ^= rng.integers(1, 256)
            self.index.write_bytes(bad)
            try:
                tensor_bundle.check(self.prefix)
            except (ValueError, tf.errors.NotFoundError):  # of a shard
                refused += 1
        self.assertGreater(refused, len(good) // 3)

    def test_a_missing_file(self):
        with self.assertRaisesRegex(tf.errors.NotFoundError, r"x\.index"):
            tensor_bundle.check(self.prefix)
        self.write(entry(shard_id=1))
        with self.assertRaisesRegex(tf.errors.NotFoundError, "00001-of-00001"):
            tensor_bundle.check(self.prefix)


if __name__ == "__main__":
    tf.test.main()
