"""A replay buffer in plain Python and NumPy: the oracle of the replay tests."""

import unittest
from unittest import mock

import numpy as np

from tfsac import ops
from tfsac.replay import ReplayBuffer, Transition

BACKENDS = [("kernels", "kernels"), ("twin", "twin")]
_LOW = 2**32 - 1


def philox4x32(counter, key):
    """Ten rounds of Philox4x32, from the paper (Salmon et al., SC 2011)."""
    c, k = list(counter), list(key)
    for _ in range(10):
        p, q = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [q >> 32 ^ c[1] ^ k[0], q & _LOW, p >> 32 ^ c[3] ^ k[1], p & _LOW]
        k = [(k[0] + 0x9E3779B9) & _LOW, (k[1] + 0xBB67AE85) & _LOW]
    return c


def index(seed, draw, size):
    """The slot that draw number `draw` reads among `size`."""
    block, half = divmod(draw, 2)
    words = philox4x32(
        [block & _LOW, block >> 32, 0, 0], [seed & _LOW, seed >> 32]
    )
    return (words[2 * half] | words[2 * half + 1] << 32) * size >> 64


class ReferenceReplay:
    """Slots in a dict, one draw after the other."""

    def __init__(self, capacity, seed):
        self.capacity, self.seed = capacity, seed
        self.slots, self.inserted, self.drawn = {}, 0, 0

    def insert(self, transitions):
        for row in zip(*transitions, strict=True):
            self.slots[self.inserted % self.capacity] = row
            self.inserted += 1

    def sample(self, updates, batch_size):
        rows = []
        for _ in range(updates * batch_size):
            slot = index(self.seed, self.drawn, len(self.slots))
            rows.append(self.slots[slot])
            self.drawn += 1
        fields = [np.stack(field) for field in zip(*rows, strict=True)]
        return Transition(
            *(f.reshape(updates, batch_size, *f.shape[1:]) for f in fields)
        )


def make_buffer(backend, *args, **kwargs):
    """A `ReplayBuffer` on the kernels or on their twin."""
    if backend == "kernels":
        if not ops.loaded():
            raise unittest.SkipTest("The kernels are not loaded.")
        return ReplayBuffer(*args, **kwargs)
    with mock.patch.object(ops, "kernels", return_value=None):
        return ReplayBuffer(*args, **kwargs)


def numbered(first, count, observation_size=3, action_size=2, dtype="float32"):
    """Transitions of which every field follows from their number."""
    number = np.arange(first, first + count)
    rows = number[:, np.newaxis]
    observation = (rows + np.arange(observation_size)).astype(dtype)
    return Transition(
        observation=observation,
        action=(rows * 10 + np.arange(action_size)).astype("float32"),
        reward=number.astype("float32"),
        next_observation=observation + np.ones([], dtype),
        terminated=number % 2 == 1,
        truncated=number % 3 == 1,
        env_index=number.astype("int32"),
    )


def random_bits(rng, count, observation_size, action_size, dtype):
    """Transitions of random bits: infinities and all kinds of NaN too."""

    def draw(dtype, *shape):
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return np.frombuffer(rng.bytes(size), dtype).reshape(shape)

    return Transition(
        observation=draw(dtype, count, observation_size),
        action=draw("float32", count, action_size),
        reward=draw("float32", count),
        next_observation=draw(dtype, count, observation_size),
        terminated=draw("uint8", count) % 2 == 1,
        truncated=draw("uint8", count) % 2 == 1,
        env_index=draw("int32", count),
    )


def same_bits(one, other):
    """Whether two transitions agree in shapes, types and every bit."""
    return all(
        a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()
        for a, b in zip(
            map(np.asarray, one), map(np.asarray, other), strict=True
        )
    )
