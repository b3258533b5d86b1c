"""How a transition lies in memory and in files; `kernels/replay_layout.h`."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

_ROW_ALIGNMENT = 64


class Layout(NamedTuple):
    """The sizes and the type that decide how every row of a buffer looks."""

    observation_size: int
    action_size: int
    observation_dtype: str

    def specs(self, *leading: int | None) -> dict[str, tf.TensorSpec]:
        """Returns the fields, in `Transition`'s order, with leading axes."""
        observation = [*leading, self.observation_size]
        fields = {
            "observation": (observation, self.observation_dtype),
            "action": ([*leading, self.action_size], "float32"),
            "reward": (leading, "float32"),
            "next_observation": (observation, self.observation_dtype),
            "terminated": (leading, "bool"),
            "truncated": (leading, "bool"),
            "env_index": (leading, "int32"),
        }
        return {
            name: tf.TensorSpec(shape, dtype, name)
            for name, (shape, dtype) in fields.items()
        }

    def row_dtype(self) -> np.dtype:
        """Returns the structured type of one row.

        Four-byte fields come first so that they stay aligned whatever the
        observation is; zeros fill a row up to a multiple of a cache line.
        """
        order = (
            "action",
            "reward",
            "env_index",
            "observation",
            "next_observation",
            "terminated",
            "truncated",
        )
        specs = self.specs()
        formats = [
            np.dtype(
                (specs[name].dtype.as_numpy_dtype, tuple(specs[name].shape))
            )
            for name in order
        ]
        ends = np.cumsum([field.itemsize for field in formats])
        return np.dtype(
            {
                "names": order,
                "formats": formats,
                "offsets": [0, *ends[:-1]],
                "itemsize": -(-ends[-1] // _ROW_ALIGNMENT) * _ROW_ALIGNMENT,
            }
        )

    def __str__(self) -> str:
        fields = self._asdict().items()
        return ", ".join(f"{name}={value}" for name, value in fields)
