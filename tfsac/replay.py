"""Stores transitions and draws training batches from them.

`ReplayBuffer` is what the rest of the library sees. It keeps its transitions
in the C++ kernels (`kernels/`) or, where those cannot serve, in
`tfsac.replay_twin`, with the same results bit for bit.
"""

import os
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from tfsac import memory, ops, replay_files
from tfsac.replay_layout import Layout
from tfsac.replay_twin import TensorStorage
from tfsac.transition import MAX_SIZE, Transition

__all__ = ["ReplayBuffer", "Transition"]


class _Storage(Protocol):
    """What holds the rows; fields go in and out in `Transition`'s order."""

    def insert(self, fields: Sequence[tf.Tensor | np.ndarray]) -> None: ...

    def sample(self, updates: int, batch_size: int) -> Sequence[tf.Tensor]: ...

    def count(self) -> tuple[tf.Tensor, tf.Tensor]: ...

    def save(self, directory: str, index: str) -> None: ...

    def restore(self, directory: str, index: str) -> None: ...


class ReplayBuffer:
    """A ring of the last `capacity` transitions, sampled uniformly.

    Sampling uses a generator of its own: what is drawn depends on `seed`, on
    the number of draws before and on the number of transitions held, and on
    nothing else, on any machine. Memory is taken as the buffer fills. Every
    method may be called from any thread; calls act one after the other.

    Example:

    ```python
    replay = tfsac.ReplayBuffer(1_000_000, observation_size=17, action_size=6)
    replay.insert(transitions)
    batch = replay.sample(updates=8, batch_size=256)
    batch.reward.shape  # [8, 256]
    ```

    Args:
        capacity: Number of transitions held; the oldest give way.
        observation_size: O, the length of an observation.
        action_size: A, the length of an action.
        observation_dtype: `"float32"`, or `"uint8"` to keep bytes as they are.
            Defaults to `"float32"`.
        seed: Key of the generator, from 0 to 2**63 - 1. Defaults to `0`.

    Attributes:
        capacity: As given.
        layout: The sizes and types of the fields.

    Raises:
        ValueError: If an argument is out of its range.
        TypeError: If a number is not an integer.
        tf.errors.ResourceExhaustedError: If the system refuses the memory.
    """

    def __init__(
        self,
        capacity: int,
        observation_size: int,
        action_size: int,
        observation_dtype: str = "float32",
        seed: int = 0,
    ) -> None:
        _check_integer("capacity", capacity, 1)
        _check_integer("observation_size", observation_size, 1, MAX_SIZE)
        _check_integer("action_size", action_size, 1, MAX_SIZE)
        _check_integer("seed", seed, 0)
        if observation_dtype not in ("float32", "uint8"):
            raise ValueError(
                'observation_dtype: expected "float32" or "uint8". '
                f"Received: observation_dtype={observation_dtype!r}"
            )
        self.capacity = int(capacity)
        self.layout = Layout(
            int(observation_size), int(action_size), observation_dtype
        )
        # NumPy's dtype too: to compare it with TensorFlow's takes 3 us.
        self._dtypes = [
            (name, spec.dtype, np.dtype(spec.dtype.as_numpy_dtype))
            for name, spec in self.layout.specs().items()
        ]
        kernels = ops.kernels()
        self._storage: _Storage = (
            TensorStorage(self.layout, self.capacity, int(seed))
            if kernels is None
            else _KernelStorage(kernels, self.layout, self.capacity, int(seed))
        )

    def insert(self, transitions: Transition) -> None:
        """Appends transitions in order.

        Args:
            transitions: A `Transition` of arrays or tensors with leading axis
                n >= 0. NumPy arrays are cast where no kind of number changes
                (float64 to float32, but not float32 to uint8).

        Raises:
            TypeError: If a field has a dtype of another kind.
            tf.errors.InvalidArgumentError: If a field has another shape. At
                the tracing of a `tf.function` this is a `ValueError`.
        """
        self._storage.insert(
            [
                _as_dtype(value, *expected)
                for value, expected in zip(
                    transitions, self._dtypes, strict=True
                )
            ]
        )

    def sample(self, updates: int, batch_size: int) -> Transition:
        """Draws batches, uniformly and with replacement.

        One call for K batches draws the same transitions as K calls for one.

        Args:
            updates: K, the number of batches.
            batch_size: B, the number of transitions in each.

        Returns:
            A `Transition` of tensors with leading axes `[K, B]`.

        Raises:
            ValueError: If a number is below 1.
            tf.errors.InvalidArgumentError: If the buffer is empty.
        """
        _check_integer("updates", updates, 1)
        _check_integer("batch_size", batch_size, 1)
        return Transition(*self._storage.sample(int(updates), int(batch_size)))

    def __len__(self) -> int:
        return int(self._storage.count()[0])

    @property
    def inserted(self) -> int:
        """The number of transitions ever inserted."""
        return int(self._storage.count()[1])

    def save(
        self, directory: str | os.PathLike[str], name: str = "replay"
    ) -> None:
        """Writes transitions, counters and generator to a directory.

        The files are checksummed; `kernels/README.md` describes them. An
        earlier save of the same name is replaced at once, when the new one is
        complete, so that a crash leaves one of the two. Saves of other names
        share their files with it: what this buffer wrote to the directory, or
        restored from it, is not written again.

        Args:
            directory: The directory, made where it is missing.
            name: The save's name. Defaults to `"replay"`.

        Raises:
            tf.errors.OpError: If the system refuses, for example
                `PermissionDeniedError` or, for a full disk,
                `ResourceExhaustedError`.
        """
        self._storage.save(os.fspath(directory), name)

    def restore(
        self, directory: str | os.PathLike[str], name: str = "replay"
    ) -> None:
        """Replaces the content by a saved one; sampling goes on from there.

        The seed is replaced too. On any error the buffer is as it was.

        Args:
            directory: What `save` wrote, from a buffer of the same layout and
                capacity.
            name: The save's name. Defaults to `"replay"`.

        Raises:
            tf.errors.NotFoundError: If a file is missing.
            tf.errors.DataLossError: If a file is damaged or of another kind.
            tf.errors.InvalidArgumentError: If the layout or the capacity
                differs.
            MemoryError: If the machine has not the memory for them.
        """
        rows = replay_files.saved_rows(directory, name, self.layout)
        row = self.layout.row_dtype().itemsize
        memory.require(
            rows * row,
            f"the {rows:,} transitions that were saved in "
            f"{os.fspath(directory)}, {row} bytes each, in the replay buffer",
        )
        self._storage.restore(os.fspath(directory), name)


class _KernelStorage:
    """The C++ ring behind its ops."""

    def __init__(
        self,
        kernels: Any,
        layout: Layout,
        capacity: int,
        seed: int,
    ) -> None:
        self._kernels = kernels
        self._sizes = {
            "observation_size": layout.observation_size,
            "action_size": layout.action_size,
        }
        self._dtype = tf.as_dtype(layout.observation_dtype)
        self._handle = kernels.tfsac_replay_create(
            capacity=capacity,
            observation_dtype=self._dtype,
            seed=seed,
            **self._sizes,
        )
        self._address = int(kernels.tfsac_replay_address(self._handle))
        self._insert = ops.c_functions().tfsac_replay_insert
        self._shapes = [tuple(s.shape) for s in layout.specs().values()]

    def insert(self, fields: Sequence[tf.Tensor | np.ndarray]) -> None:
        if self._are_arrays(fields):
            values = (field.tobytes() for field in fields)
            self._insert(self._address, len(fields[2]), *values)
        else:  # which also says what is wrong with a shape
            self._kernels.tfsac_replay_insert(self._handle, *fields)

    def _are_arrays(self, fields: Sequence[tf.Tensor | np.ndarray]) -> bool:
        """Whether these are arrays of n transitions, to be inserted now."""
        rows = np.shape(fields[2])
        return (
            len(rows) == 1
            and all(
                isinstance(field, np.ndarray) and field.shape == rows + shape
                for field, shape in zip(fields, self._shapes, strict=True)
            )
            and tf.executing_eagerly()
        )

    def sample(self, updates: int, batch_size: int) -> Sequence[tf.Tensor]:
        return self._kernels.tfsac_replay_sample(
            self._handle,
            updates=updates,
            batch_size=batch_size,
            T=self._dtype,
            **self._sizes,
        )

    def count(self) -> tuple[tf.Tensor, tf.Tensor]:
        return self._kernels.tfsac_replay_count(self._handle)

    def save(self, directory: str, index: str) -> None:
        self._kernels.tfsac_replay_save(self._handle, directory, index)

    def restore(self, directory: str, index: str) -> None:
        self._kernels.tfsac_replay_restore(self._handle, directory, index)


def _as_dtype(
    value: Any, name: str, tensor_dtype: tf.DType, array_dtype: np.dtype
) -> Any:
    """Returns a tensor or array of the dtype, the value itself if it is one."""
    # First what is usual: asking TensorFlow whether this is a tensor is slow.
    if isinstance(value, np.ndarray) and value.dtype == array_dtype:
        return value
    if tf.is_tensor(value):
        if value.dtype == tensor_dtype:
            return value
    else:
        value = np.asarray(value)
        # NumPy's own rule for assignments: precision may go, kind may not.
        if np.can_cast(value.dtype, array_dtype, "same_kind"):
            return value.astype(array_dtype)
    raise TypeError(
        f"{name}: expected dtype {array_dtype}. Received: dtype={value.dtype}"
    )


def _check_integer(
    name: str, value: Any, minimum: int, maximum: int = 2**63 - 1
) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name}: expected an integer. Received: {value!r}")
    if not minimum <= value <= maximum:
        raise ValueError(
            f"{name}: expected {minimum} to {maximum}. Received: {value}"
        )
