"""Saved replay buffers: one format, complete or refused.

The tests take the format from `kernels/README.md`, not from the code.
"""

import os
import pathlib
import struct
import time
import zlib

import tensorflow as tf
from absl.testing import parameterized
from replay_reference import BACKENDS, make_buffer, numbered, same_bits

PAIRS = [(f"{a}_to_{b}", a, b) for a, _ in BACKENDS for b, _ in BACKENDS]
REFUSED = (
    tf.errors.DataLossError,
    tf.errors.NotFoundError,
    tf.errors.InvalidArgumentError,
)


class ReplayFilesTest(tf.test.TestCase, parameterized.TestCase):
    """Save and restore, on the kernels and on the twin."""

    def setUp(self):
        super().setUp()
        self.root = pathlib.Path(self.get_temp_dir())

    @parameterized.named_parameters(PAIRS)
    def test_what_one_saves_the_other_goes_on_with(self, writer, reader):
        for inserted, dtype in ((0, "float32"), (7, "uint8"), (25, "float32")):
            saved = make_buffer(writer, 10, 3, 2, dtype, seed=6)
            saved.insert(numbered(0, inserted, dtype=dtype))
            if inserted:
                saved.sample(1, 5)
            saved.save(self.root / "deep" / "er")
            restored = make_buffer(reader, 10, 3, 2, dtype, seed=1)
            restored.insert(numbered(90, 4, dtype=dtype))
            restored.restore(self.root / "deep" / "er")
            self.assertEqual(restored.inserted, inserted)
            for buffer in (saved, restored):
                buffer.insert(numbered(inserted, 3, dtype=dtype))
            self.assertTrue(
                same_bits(saved.sample(2, 30), restored.sample(2, 30))
            )

    def test_both_write_the_same_bytes(self):
        for inserted in (0, 8, 13):
            contents = []
            for _, backend in BACKENDS:
                buffer = make_buffer(backend, 9, 5, 1, seed=3)
                buffer.insert(numbered(0, inserted, 5, 1))
                place = self.root / f"{backend}{inserted}"
                buffer.save(place)
                contents.append(_contents(place))
            self.assertEqual(*contents)

    @parameterized.named_parameters(BACKENDS)
    def test_the_format_is_the_documented_one(self, backend):
        buffer = make_buffer(backend, 4, 3, 2, seed=77)
        buffer.insert(numbered(0, 6))
        buffer.sample(1, 5)
        buffer.save(self.root)
        contents = _contents(self.root)
        index = contents.pop("replay.index")
        self.assertEqual(
            struct.unpack_from("<8sIIqqqqQQq", index),
            (b"tfsacIDX", 1, 1, 3, 2, 4, 6, 77, 5, (4 << 20) // 64),
        )
        checksums, header_crc = struct.unpack_from("<II", index, 72)
        self.assertEqual(header_crc, zlib.crc32(index[:76]))
        self.assertEqual(checksums, zlib.crc32(index[80:]))
        [(name, segment)] = contents.items()
        payload_crc = struct.unpack("<I", index[80:])[0]
        self.assertEqual(name, f"rows-2-6-{payload_crc:08x}.segment")
        self.assertEqual(
            struct.unpack("<8sIIqqqqQII", segment[:64]),
            (b"tfsacSEG", 1, 1, 3, 2, 2, 6, 0)
            + (payload_crc, zlib.crc32(segment[:60])),
        )
        self.assertEqual(payload_crc, zlib.crc32(segment[64:]))
        for row in range(4):
            number = row + 2
            self.assertEqual(
                struct.unpack_from("<2ffi3f3f??22x", segment, 64 + 64 * row),
                (10 * number, 10 * number + 1, number, number)
                + (number, number + 1, number + 2)
                + (number + 1, number + 2, number + 3)
                + (number % 2 == 1, number % 3 == 1),
            )

    @parameterized.named_parameters(BACKENDS)
    def test_files_of_version_1_stay_readable(self, backend):
        """Written when version 1 was new; every later version reads them."""
        for name, content in VERSION_1.items():
            (self.root / name).write_bytes(bytes.fromhex(content))
        buffer = make_buffer(backend, 3, 1, 1, "uint8")
        buffer.restore(self.root)
        self.assertEqual(buffer.inserted, 4)
        batch = buffer.sample(1, 6)
        self.assertAllEqual(batch.env_index, [[1, 1, 1, 2, 3, 3]])
        self.assertAllEqual(batch.observation[0, 2:5, 0], [1, 2, 3])
        self.assertAllEqual(batch.terminated[0, 2:5], [True, False, True])

    def test_a_transition_of_a_cheetah_takes_192_bytes(self):
        sizes = []
        for count in (10, 20):
            buffer = make_buffer("kernels", 100, 17, 6)
            buffer.insert(numbered(0, count, 17, 6))
            buffer.save(self.root)
            sizes.append(sum(map(len, _contents(self.root).values())))
        self.assertEqual(sizes[1] - sizes[0], 10 * 192)

    @parameterized.named_parameters(BACKENDS)
    def test_large_buffers_are_cut_at_fixed_rows(self, backend):
        size = 50_000  # 100,096 bytes a row, 41 rows a segment
        buffer = make_buffer(backend, 50, size, 1, "uint8", seed=1)
        buffer.insert(numbered(0, 90, size, 1, "uint8"))
        buffer.save(self.root)
        first = _contents(self.root)
        ranges = [name.rsplit("-", 1)[0] for name in sorted(first)]
        self.assertEqual(
            ranges, ["replay.index", "rows-40-41", "rows-41-82", "rows-82-90"]
        )
        other = make_buffer("kernels", 50, size, 1, "uint8")
        other.restore(self.root)
        self.assertTrue(same_bits(buffer.sample(1, 60), other.sample(1, 60)))
        buffer.insert(numbered(90, 1, size, 1, "uint8"))
        buffer.save(self.root)
        kept = [n for n in _contents(self.root) if n in first]
        self.assertEqual(
            sorted(name.rsplit("-", 1)[0] for name in kept),
            ["replay.index", "rows-41-82"],
        )

    @parameterized.named_parameters(PAIRS)
    def test_a_save_writes_what_is_new_only(self, writer, reader):
        """41 rows a segment; a file that is written again is another inode."""
        size = (50_000, 1, "uint8")
        saved = make_buffer(writer, 100, *size, seed=1)
        saved.insert(numbered(0, 90, *size))
        saved.save(self.root, "first")
        first = _inodes(self.root)
        saved.insert(numbered(90, 20, *size))
        saved.save(self.root, "second")
        second = _inodes(self.root)
        new = {name.rsplit("-", 1)[0] for name in second.keys() - first.keys()}
        # The ring has lost its first 10 rows.
        self.assertEqual(new, {"second.index", "rows-10-41", "rows-82-110"})
        self.assertContainsSubset(first.items(), second.items())
        for name, inserted in (("first", 90), ("second", 110)):
            restored = make_buffer(reader, 100, *size)
            restored.restore(self.root, name)
            self.assertEqual(restored.inserted, inserted)
            restored.save(self.root, "third")  # has nothing new to write
            third = _inodes(self.root)
            self.assertEqual(third.keys() - second.keys(), {"third.index"})
            self.assertContainsSubset(second.items(), third.items())

    @parameterized.named_parameters(BACKENDS)
    def test_files_go_with_the_last_index_that_names_them(self, backend):
        buffer = make_buffer(backend, 10, 3, 2)
        for i in range(3):
            buffer.insert(numbered(i, 1))
            buffer.save(self.root, f"save{i}")
        self.assertLen(_contents(self.root), 6)
        (self.root / "save0.index").unlink()
        index = self.root / "save1.index"
        good = index.read_bytes()
        index.write_bytes(b"damaged")
        buffer.save(self.root, "save2")  # nobody knows what save1 needs
        self.assertLen(_contents(self.root), 5)
        index.write_bytes(good)
        buffer.save(self.root, "save2")
        self.assertLen(_contents(self.root), 4)
        for i in (1, 2):
            restored = make_buffer(backend, 10, 3, 2)
            restored.restore(self.root, f"save{i}")
            self.assertEqual(restored.inserted, i + 1)

    @parameterized.named_parameters(BACKENDS)
    def test_what_is_gone_is_written_again(self, backend):
        buffer = _small(backend)
        buffer.save(self.root)
        first = _contents(self.root)
        [segment] = self.root.glob("*.segment")
        for damage in (b"", b"half"):
            segment.write_bytes(damage)
            buffer.save(self.root)
            self.assertEqual(_contents(self.root), first)

    @parameterized.named_parameters(BACKENDS)
    def test_every_flipped_byte_and_every_cut_is_found(self, backend):
        _small(backend).save(self.root)
        target = _small(backend)
        for path in sorted(self.root.iterdir()):
            good = path.read_bytes()
            for i in range(len(good)):
                flipped = bytearray(good)
                flipped[i] ^= 1 << i % 8
                for bad in (bytes(flipped), good[:i]):
                    path.write_bytes(bad)
                    self._assert_refused(target, path)
            path.write_bytes(good + b"\0")
            self._assert_refused(target, path)
            path.unlink()
            with self.assertRaises(tf.errors.NotFoundError):
                target.restore(self.root)
            path.write_bytes(good)
        target.restore(self.root)

    def _assert_refused(self, target, path):
        with self.assertRaises(REFUSED) as caught:
            target.restore(self.root)
        self.assertIn(path.name, str(caught.exception))
        self.assertLen(target, 3)

    def test_both_refuse_in_the_same_words(self):
        _small("kernels").save(self.root)
        index = self.root / "replay.index"
        good = index.read_bytes()
        for bad in (
            good[:40],
            b"PK\x03\x04" + good[4:],
            good[:8] + b"\x02" + good[9:],
            good[:50] + b"\xff" + good[51:],
            good + b"x",
        ):
            index.write_bytes(bad)
            messages = []
            for _, backend in BACKENDS:
                with self.assertRaises(tf.errors.DataLossError) as caught:
                    _small(backend).restore(self.root)
                messages.append(caught.exception.message)
            self.assertIn(messages[1], messages[0])

    @parameterized.named_parameters(BACKENDS)
    def test_another_layout_or_capacity_is_refused_by_name(self, backend):
        make_buffer(backend, 6, 2, 1).save(self.root)
        others = [(7, 2, 1), (6, 3, 1), (6, 2, 2), (6, 2, 1, "uint8")]
        for arguments in others:
            with self.assertRaises(tf.errors.InvalidArgumentError) as caught:
                make_buffer(backend, *arguments).restore(self.root)
            message = str(caught.exception)
            self.assertIn(
                "observation_size=2, action_size=1, "
                "observation_dtype=float32, capacity=6; this buffer has",
                message,
            )
            self.assertIn(f"capacity={arguments[0]}", message.split(";")[1])

    @parameterized.named_parameters(BACKENDS)
    def test_claims_of_a_forged_header_cost_nothing(self, backend):
        """Its checksums are right, its numbers are not."""
        started = time.monotonic()
        make_buffer(backend, 2**31, 2, 1).save(self.root)
        index = self.root / "replay.index"
        for inserted, rows_per_segment in (
            (2**62, 1),
            (2**62, 2**62),
            (2**63 - 1, 1),
            (-1, 1),
            (5, 0),
            (5, -1),
        ):
            header = bytearray(index.read_bytes()[:76])
            header[40:48] = struct.pack("<q", inserted)
            header[64:72] = struct.pack("<q", rows_per_segment)
            header += struct.pack("<I", zlib.crc32(header))
            index.write_bytes(header)
            with self.assertRaises(REFUSED):
                make_buffer(backend, 2**31, 2, 1).restore(self.root)
        self.assertLess(time.monotonic() - started, 10)

    @parameterized.named_parameters(BACKENDS)
    def test_a_failed_save_leaves_the_earlier_one(self, backend):
        buffer = _small(backend)
        buffer.save(self.root)
        buffer.insert(numbered(3, 1, 2, 1))
        (self.root / "replay.index.tmp").mkdir()  # so it cannot be written
        with self.assertRaisesRegex(
            tf.errors.UnavailableError, "replay.index.tmp"
        ):
            buffer.save(self.root)
        restored = _small(backend)
        restored.restore(self.root)
        self.assertEqual(restored.inserted, 3)

    @parameterized.named_parameters(BACKENDS)
    def test_a_directory_that_cannot_be_made_is_named(self, backend):
        (self.root / "file").write_text("not a directory")
        with self.assertRaisesRegex(tf.errors.OpError, "file"):
            _small(backend).save(self.root / "file")
        with self.assertRaisesRegex(tf.errors.NotFoundError, "absent"):
            _small(backend).restore(self.root / "absent")

    @parameterized.named_parameters(BACKENDS)
    def test_a_planted_link_is_not_followed(self, backend):
        theirs, folder = self.root / "theirs", self.root / "saved"
        theirs.write_text("theirs")
        folder.mkdir()
        (folder / "replay.index.tmp").symlink_to(theirs)
        _small(backend).save(folder)
        self.assertEqual(theirs.read_text(), "theirs")
        _small(backend).restore(folder)

    @parameterized.named_parameters(BACKENDS)
    def test_holes_are_not_read(self, backend):
        _small(backend).save(self.root)
        for path in sorted(self.root.iterdir()):
            good = path.read_bytes()
            os.truncate(path, 2**40)
            with self.assertRaisesRegex(
                tf.errors.DataLossError, f"{path.name}.*holds next to none"
            ):
                _small(backend).restore(self.root)
            path.write_bytes(good)
        _small(backend).restore(self.root)

    @parameterized.named_parameters(BACKENDS)
    def test_a_pipe_does_not_block(self, backend):
        os.mkfifo(self.root / "replay.index")
        with self.assertRaisesRegex(tf.errors.DataLossError, "regular file"):
            _small(backend).restore(self.root)


def _small(backend):
    buffer = make_buffer(backend, 6, 2, 1)
    buffer.insert(numbered(0, 3, 2, 1))
    return buffer


def _contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def _inodes(directory):
    return {path.name: path.stat().st_ino for path in directory.iterdir()}


# Capacity 3, observations uint8[1], actions [1], seed 9, 4 rows, 3 draws.
VERSION_1 = {
    "replay.index": (
        "7466736163494458010000000400000001000000000000000100000000000000"
        "0300000000000000040000000000000009000000000000000300000000000000"
        "0000040000000000d6aead8f55b0eaa3e2a980a6"
    ),
    "rows-1-4-a680a9e2.segment": (
        "7466736163534547010000000400000001000000000000000100000000000000"
        "010000000000000004000000000000000000000000000000e2a980a6c5f75452"
        "000020410000803f010000000102010100000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000"
        "0000a04100000040020000000203000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000"
        "0000f04100004040030000000304010000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000"
    ),
}


if __name__ == "__main__":
    tf.test.main()
