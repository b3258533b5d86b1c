"""The replay buffer in pure TensorFlow: the kernels' oracle and fallback.

`TensorStorage` gives what the C++ ops give, bit for bit: the same draws for
the same seed, the same files, errors of the same types. It is slower, since
a call runs some thirty small ops in place of one.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfsac import replay_files
from tfsac.replay_layout import Layout

_FIRST_ROWS = 1024  # allocated at first; then twice as many, as needed
_PHILOX = 1  # TensorFlow's number for the Philox4x32-10 generator


class TensorStorage:
    """A ring of transitions in one variable per field.

    A critical section lets one call act at a time, as the kernels' mutex does.

    Args:
        layout: The fields of a transition.
        capacity: Number of transitions held.
        seed: Key of the generator.
    """

    def __init__(self, layout: Layout, capacity: int, seed: int) -> None:
        self._layout = layout
        self._capacity = capacity
        self._specs = layout.specs(None)
        row_bytes = layout.row_dtype().itemsize
        if capacity * row_bytes >= 2**63:
            raise tf.errors.InvalidArgumentError(
                None,
                None,
                "capacity: expected at least 1 row and less than 2^63 bytes, "
                f"received {capacity} rows of {row_bytes} bytes",
            )
        with tf.device("CPU:0"):
            self._columns = [
                tf.Variable(
                    tf.zeros([0, *spec.shape[1:]], spec.dtype),
                    shape=spec.shape,
                    trainable=False,
                )
                for spec in self._specs.values()
            ]
            self._inserted = tf.Variable(0, dtype=tf.int64, trainable=False)
            self._seed = tf.Variable(seed, dtype=tf.uint64, trainable=False)
            self._drawn = tf.Variable(0, dtype=tf.uint64, trainable=False)
        self._saved: replay_files.SavedRows = {}
        self._section = tf.CriticalSection()
        self._insert = tf.function(
            self._insert_alone,
            input_signature=list(self._specs.values()),
            autograph=False,
        )
        self._sample = tf.function(self._sample_alone, autograph=False)

    def insert(self, fields: Sequence[tf.Tensor]) -> None:
        """Appends `[n, ...]` fields, in `Transition`'s order."""
        tensors = [tf.convert_to_tensor(field) for field in fields]
        rows = tensors[2].shape[:1]
        for tensor, (name, spec) in zip(
            tensors, self._specs.items(), strict=True
        ):
            expected = rows.concatenate(spec.shape[1:])
            if not tensor.shape.is_compatible_with(expected):
                # What an op raises too, when it runs and when it is traced.
                message = f"{name}: expected shape {expected}, received "
                message += str(tensor.shape)
                if tf.executing_eagerly():
                    raise tf.errors.InvalidArgumentError(None, None, message)
                raise ValueError(message)
        self._insert(
            *(
                tf.ensure_shape(tensor, spec.shape)
                for tensor, spec in zip(
                    tensors, self._specs.values(), strict=True
                )
            )
        )

    def sample(self, updates: int, batch_size: int) -> Sequence[tf.Tensor]:
        """Draws `[updates, batch_size, ...]` fields."""
        return self._sample(updates, batch_size)

    def count(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the number of rows held and the number ever inserted."""
        inserted = self._inserted.read_value()
        return self._size(inserted), inserted

    def save(self, directory: str, index: str) -> None:
        """Writes the files that the kernels write."""

        def write() -> tf.Tensor:
            state = replay_files.State(
                self._capacity,
                int(self._inserted),
                int(self._seed),
                int(self._drawn),
            )
            self._saved = replay_files.write(
                directory, index, self._layout, state, self._rows, self._saved
            )
            return self._inserted.read_value()  # as it has to return something

        self._section.execute(write)

    def _rows(self, slots: np.ndarray) -> np.ndarray:
        """The rows in some slots of the ring, as they lie in files."""
        rows = np.zeros(len(slots), self._layout.row_dtype())
        with tf.device("CPU:0"):
            for name, column in zip(self._specs, self._columns, strict=True):
                rows[name] = tf.gather(column, slots).numpy()
        # As raw bytes: NumPy does not copy what lies between the fields.
        return rows.view(f"V{rows.dtype.itemsize}")

    def restore(self, directory: str, index: str) -> None:
        """Replaces everything by what a file holds, once all is checked."""
        state, rows, saved = replay_files.read(
            directory, index, self._layout, self._capacity
        )
        with tf.device("CPU:0"):
            columns = [tf.constant(rows[name]) for name in self._specs]

        def replace() -> tf.Tensor:
            for variable, value in zip(self._columns, columns, strict=True):
                variable.assign(value)
            self._seed.assign(state.seed)
            self._drawn.assign(state.drawn)
            self._saved = saved
            return self._inserted.assign(state.inserted)

        self._section.execute(replace)

    def _size(self, inserted: tf.Tensor) -> tf.Tensor:
        return tf.minimum(inserted, self._capacity)

    def _insert_alone(self, *fields: tf.Tensor) -> tf.Tensor:
        rows = tf.shape(fields[2])[0]
        checks = [
            tf.debugging.assert_equal(
                tf.shape(field)[0], rows, f"{name}: expected as many rows"
            )
            for field, name in zip(fields, self._specs, strict=True)
        ]
        with tf.control_dependencies(checks), tf.device("CPU:0"):
            return self._section.execute(lambda: self._write(fields))

    def _write(self, fields: Sequence[tf.Tensor]) -> tf.Tensor:
        count = tf.shape(fields[2], out_type=tf.int64)[0]
        inserted = self._inserted.read_value()
        self._grow(self._size(inserted + count))
        # Of more rows than the ring holds, only the last would survive.
        first = tf.maximum(count - self._capacity, 0)
        slots = tf.range(inserted + first, inserted + count) % self._capacity
        written = [
            tf.raw_ops.ResourceScatterUpdate(
                resource=column.handle, indices=slots, updates=field[first:]
            )
            for column, field in zip(self._columns, fields, strict=True)
        ]
        # The section ends with what it returns, so that must come last.
        with tf.control_dependencies(written):
            return self._inserted.assign_add(count)

    def _grow(self, rows: tf.Tensor) -> None:
        """Allocates at least so many rows, and twice as many as before."""
        allocated = tf.raw_ops.VariableShape(
            input=self._columns[2].handle, out_type=tf.int64
        )[0]
        larger = tf.maximum(rows, tf.maximum(2 * allocated, _FIRST_ROWS))
        more = tf.minimum(larger, self._capacity) - allocated

        def allocate() -> None:
            for column in self._columns:
                shape = tf.stack([more, *column.shape[1:]])
                zeros = tf.zeros(shape, column.dtype)
                column.assign(tf.concat([column, zeros], 0))

        tf.cond(rows > allocated, allocate, lambda: None)

    def _sample_alone(
        self, updates: int, batch_size: int
    ) -> Sequence[tf.Tensor]:
        with tf.device("CPU:0"):
            return self._section.execute(
                lambda: self._draw(updates, batch_size)
            )

    def _draw(self, updates: int, batch_size: int) -> Sequence[tf.Tensor]:
        size = self._size(self._inserted.read_value())
        check = tf.debugging.assert_positive(
            size,
            "cannot sample from an empty replay buffer; insert transitions "
            "first",
        )
        with tf.control_dependencies([check]):
            words = self._words(updates * batch_size)
        indices = _uniform_indices(words, tf.cast(size, tf.uint64))
        slots = tf.reshape(indices, [updates, batch_size])
        return [tf.gather(column, slots) for column in self._columns]

    def _words(self, count: int) -> tf.Tensor:
        """The next 64-bit words of the seed's stream, two to a block."""
        drawn = self._drawn.read_value()
        words = tf.raw_ops.StatelessRandomUniformFullIntV2(
            shape=[count + 1],
            key=self._seed[tf.newaxis],
            counter=tf.stack([drawn // 2, tf.zeros_like(drawn)]),
            alg=_PHILOX,
            dtype=tf.uint64,
        )
        moved = tf.raw_ops.AssignAddVariableOp(
            resource=self._drawn.handle, value=tf.constant(count, tf.uint64)
        )
        # Before what the section returns, else the next draw may read the old.
        with tf.control_dependencies([moved]):
            return tf.slice(words, [tf.cast(drawn % 2, tf.int64)], [count])


def _uniform_indices(words: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """The high half of the 128-bit product words * size, by 32-bit halves."""
    half = tf.constant(32, tf.uint64)
    mask = tf.constant(0xFFFFFFFF, tf.uint64)
    high, low = tf.bitwise.right_shift(words, half), words & mask
    size_high, size_low = tf.bitwise.right_shift(size, half), size & mask
    # No sum overflows: (2**32 - 1)**2 + 2 (2**32 - 1) = 2**64 - 1.
    carry = tf.bitwise.right_shift(low * size_low, half)
    middle = high * size_low + carry
    rest = low * size_high + (middle & mask)
    indices = (
        high * size_high
        + tf.bitwise.right_shift(middle, half)
        + tf.bitwise.right_shift(rest, half)
    )
    return tf.cast(indices, tf.int64)
