"""Random noise that is the same in eager, graph and XLA execution.

TensorFlow's own normals differ between eager execution and XLA; its raw Philox
bits do not. So the bits are drawn, and given their distribution, here.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

__all__ = [
    "NoiseStream",
    "Seeds",
    "generator_state",
    "gumbel",
    "set_generator_state",
    "standard_normal",
]

_WORD = 64
_MASK = 2**_WORD - 1


def standard_normal(
    shape: tf.Tensor | tuple[int, ...], seed: tf.Tensor
) -> tf.Tensor:
    """Draws standard normal noise as a pure function of a seed.

    The Box-Muller transform of Philox bits: `sqrt(-2 log u) cos(2 pi v)` and
    `sqrt(-2 log u) sin(2 pi v)`, with u in (0, 1] and v in [-1/2, 1/2), both
    multiples of 2**-24. Eager, graph and XLA agree to 1e-6.

    Example:

    ```python
    eps = standard_normal((256, 6), seed=tf.constant([0, 1], tf.int64))
    ```

    Args:
        shape: Shape of the result, a tensor where it is not static.
        seed: Integer tensor of shape `[2]`.

    Returns:
        A float32 tensor of that shape.
    """
    size = tf.reduce_prod(shape)
    pairs = (size + 1) // 2
    words = _words([2, pairs], 24, seed)
    u = (words[0] + 1.0) * 2.0**-24
    v = (words[1] - 2.0**23) * 2.0**-24
    radius = tf.sqrt(-2.0 * tf.math.log(u))
    cos, sin = _cos_sin_of_turns(v)
    normals = tf.concat([radius * cos, radius * sin], 0)
    return tf.reshape(normals[:size], shape)


def gumbel(shape: tf.Tensor | tuple[int, ...], seed: tf.Tensor) -> tf.Tensor:
    """Draws noise of the standard Gumbel distribution from a seed.

    The largest of `log p(a) + noise` is at a with probability p(a). It is
    `-log(-log u)`, with u in (0, 1) an odd multiple of 2**-24. Eager, graph and
    XLA agree to 1e-5.

    Args:
        shape: Shape of the result, a tensor where it is not static.
        seed: Integer tensor of shape `[2]`.

    Returns:
        A float32 tensor of that shape.
    """
    u = (_words(shape, 23, seed) + 0.5) * 2.0**-23
    return -tf.math.log(-tf.math.log(u))


def _words(
    shape: tf.Tensor | Sequence[tf.Tensor | int], bits: int, seed: tf.Tensor
) -> tf.Tensor:
    """Philox's words as whole numbers below `2**bits`, in float32."""
    words = tf.random.stateless_uniform(
        shape,
        seed,
        minval=None,
        maxval=None,
        dtype=tf.uint32,
        alg="philox",
    )
    shift = np.uint32(32 - bits)
    return tf.cast(tf.bitwise.right_shift(words, shift), tf.float32)


def _cos_sin_of_turns(v: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Cosine and sine of `2 pi v`, v in [-1/2, 1/2], right to 1e-7.

    Taylor's series after the quarter turns have been taken out. XLA calls
    TensorFlow's own for one number after the other; these it vectorises.
    """
    quarters = tf.round(4.0 * v)  # -2 to 2
    x = (4.0 * v - quarters) * (math.pi / 2)  # at most pi / 4
    x2 = x * x
    sin = 1 / 120 + x2 * (-1 / 5040 + x2 / 362880)
    sin = x * (1 + x2 * (-1 / 6 + x2 * sin))
    cos = 1 + x2 * (-1 / 2 + x2 * (1 / 24 + x2 * (-1 / 720 + x2 / 40320)))
    is_odd = tf.abs(quarters) == 1.0
    sign = tf.where(quarters == 0.0, 1.0, -1.0)
    return (
        tf.where(is_odd, -tf.sign(quarters) * sin, sign * cos),
        tf.where(is_odd, tf.sign(quarters) * cos, sign * sin),
    )


class NoiseStream:
    """A reproducible sequence of Gaussian noise with its place in a variable.

    Because the place is a variable, a compiled function that draws from the
    stream draws anew in each call, and a checkpoint can hold it.

    Args:
        seed: A 63-bit integer; streams of different seeds are independent.
    """

    def __init__(self, seed: int):
        self.seed = seed
        self.counter = tf.Variable(0, dtype=tf.int64, trainable=False)

    def draw(self, shape: tuple[int, ...]) -> tf.Tensor:
        """Returns the next standard normal noise, of a static `shape`."""
        count = self.counter.assign_add(1, read_value=True)
        seed = tf.stack([tf.constant(self.seed, tf.int64), count])
        return standard_normal(shape, seed)


def generator_state(generator: np.random.Generator) -> np.ndarray:
    """Returns the place of a `default_rng` in its stream, `[6]` uint64."""
    state = generator.bit_generator.state
    pair = [state["state"][name] for name in ("state", "inc")]
    words = [half for n in pair for half in (n & _MASK, n >> _WORD)]
    return np.array([*words, state["has_uint32"], state["uinteger"]], np.uint64)


def set_generator_state(
    generator: np.random.Generator, words: np.ndarray
) -> None:
    """Sets what `generator_state` returned."""
    numbers = [int(word) for word in words]
    state, inc = (
        low | high << _WORD
        for low, high in zip(numbers[:4:2], numbers[1:4:2], strict=True)
    )
    generator.bit_generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": state, "inc": inc},
        "has_uint32": numbers[4],
        "uinteger": numbers[5],
    }


class Seeds(NamedTuple):
    """One independent seed for each source of randomness, 63 bits each."""

    actor: int
    critic: int
    replay: int
    learning: int
    acting: int
    predict: int
    random_actions: int

    @classmethod
    def derive(cls, seed: int) -> "Seeds":
        """Derives them from the agent's one seed."""
        words = np.random.SeedSequence(seed).generate_state(
            len(cls._fields), np.uint64
        )
        return cls(*(int(word >> 1) for word in words))
