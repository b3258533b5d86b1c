"""Numbers that nobody waits for until they are shown."""

import functools
from collections.abc import Iterator, Mapping, Sequence

import tensorflow as tf

__all__ = ["Metrics"]


class Metrics(Mapping[str, float]):
    """Named numbers that stay on the device until one is read.

    Args:
        names: Their names.
        values: A tensor of as many.
    """

    def __init__(self, names: Sequence[str], values: tf.Tensor):
        self._names = names
        self._values = values

    @functools.cached_property
    def _numbers(self) -> dict[str, float]:
        values = self._values.numpy().tolist()
        return dict(zip(self._names, values, strict=True))

    def __getitem__(self, name: str) -> float:
        return self._numbers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return repr(self._numbers)
