"""The replay buffer: what goes in comes out, uniformly and repeatably.

Each test runs on the C++ kernels and on their pure TensorFlow twin, against
oracles that share no code with either.
"""

import threading

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_reference import (
    BACKENDS,
    ReferenceReplay,
    index,
    make_buffer,
    numbered,
    philox4x32,
    random_bits,
    same_bits,
)

from tfsac.replay import Transition

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), st.integers(0, 60)),
        st.tuples(
            st.just("sample"), st.sampled_from([(1, 1), (3, 5), (2, 64)])
        ),
    ),
    max_size=8,
)


class ReplayTest(tf.test.TestCase, parameterized.TestCase):
    """One ring, as a user sees it."""

    def test_the_oracle_gives_the_published_vectors(self):
        # kat_vectors of Random123 1.14.
        ones = 0xFFFFFFFF
        self.assertEqual(
            philox4x32([0] * 4, [0] * 2),
            [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8],
        )
        self.assertEqual(
            philox4x32([ones] * 4, [ones] * 2),
            [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD],
        )
        self.assertEqual(
            philox4x32(
                [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
                [0xA4093822, 0x299F31D0],
            ),
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        )

    @parameterized.named_parameters(BACKENDS)
    def test_it_equals_the_oracle_bit_for_bit(self, backend):
        @settings(
            max_examples=80 if backend == "kernels" else 12,
            deadline=None,
            derandomize=True,
            database=None,
        )
        @given(
            capacity=st.integers(1, 50),
            observation_size=st.integers(1, 33),
            action_size=st.integers(1, 5),
            dtype=st.sampled_from(["float32", "uint8"]),
            seed=st.integers(0, 2**63 - 1),
            steps=STEPS,
        )
        def check(capacity, observation_size, action_size, dtype, seed, steps):
            rng = np.random.default_rng(0)
            sizes = (observation_size, action_size, dtype)
            buffer = make_buffer(backend, capacity, *sizes, seed)
            oracle = ReferenceReplay(capacity, seed)
            for step, number in [("insert", 1), *steps, ("sample", (2, 3))]:
                if step == "insert":
                    rows = random_bits(rng, number, *sizes)
                    buffer.insert(rows)
                    oracle.insert(rows)
                else:
                    drawn = buffer.sample(*number)
                    self.assertTrue(same_bits(drawn, oracle.sample(*number)))
                self.assertLen(buffer, len(oracle.slots))
                self.assertEqual(buffer.inserted, oracle.inserted)

        check()

    @parameterized.named_parameters(BACKENDS)
    def test_the_draws_of_a_seed_never_change(self, backend):
        golden = {
            0: [880, 605, 362, 37, 319, 271, 415, 426, 693, 916, 27, 355],
            42: [468, 340, 327, 454, 658, 773, 670, 379, 839, 235, 293, 40],
            2**63 - 1: [577, 52, 770, 549, 630, 797, 952, 854, 624, 488],
        }
        for seed, expected in golden.items():
            buffer = make_buffer(backend, 4000, 3, 2, seed=seed)
            buffer.insert(numbered(0, 1000))
            drawn = buffer.sample(1, len(expected)).env_index
            self.assertAllEqual(drawn[0], expected)

    @parameterized.named_parameters(BACKENDS)
    def test_every_row_is_equally_likely(self, backend):
        rows, draws = 100, 100_000
        buffer = make_buffer(backend, rows, 3, 2, seed=1)
        buffer.insert(numbered(0, rows))
        drawn = buffer.sample(10, draws // 10).env_index.numpy().ravel()
        expected = draws / rows
        counts = np.bincount(drawn, minlength=rows)
        chi_square = np.sum((counts - expected) ** 2 / expected)
        # 99 degrees of freedom: a fair one is outside in 0.2% of the seeds.
        self.assertBetween(chi_square, 60.1, 148.2)
        # Nor does a draw tell the next one: 10 x 10 cells of tenths.
        tenths = drawn // 10
        pairs = np.bincount(10 * tenths[:-1] + tenths[1:], minlength=100)
        expected = (draws - 1) / 100
        chi_square = np.sum((pairs - expected) ** 2 / expected)
        self.assertBetween(chi_square, 60.1, 148.2)

    @parameterized.named_parameters(BACKENDS)
    def test_one_call_for_k_batches_equals_k_calls(self, backend):
        one, other = (make_buffer(backend, 100, 3, 2, seed=3) for _ in range(2))
        for buffer in (one, other):
            buffer.insert(numbered(0, 77))
        whole = one.sample(np.int64(4), np.int32(7))
        parts = [other.sample(1, 7) for _ in range(4)]
        for field, *pieces in zip(whole, *parts, strict=True):
            self.assertAllEqual(field, tf.concat(pieces, 0))

    @parameterized.named_parameters(BACKENDS)
    def test_seeds_differ_and_ignore_tensorflows(self, backend):
        draws = []
        for seed, global_seed in ((1, 1), (1, 2), (2, 1)):
            tf.random.set_seed(global_seed)
            buffer = make_buffer(backend, 1000, 3, 2, seed=seed)
            buffer.insert(numbered(0, 1000))
            draws.append(buffer.sample(1, 64).env_index.numpy())
        self.assertAllEqual(draws[0], draws[1])
        self.assertNotAllEqual(draws[0], draws[2])

    @parameterized.named_parameters(BACKENDS)
    def test_eager_and_function_agree(self, backend):
        def run(buffer):
            buffer.insert(numbered(0, 30))
            first = buffer.sample(2, 5)
            buffer.insert(numbered(30, 30))
            return first, buffer.sample(2, 5)

        one, other = (make_buffer(backend, 40, 3, 2, seed=1) for _ in range(2))
        eager = run(one)
        graph = tf.function(lambda: run(other))()
        for one_batch, other_batch in zip(eager, graph, strict=True):
            self.assertTrue(same_bits(one_batch, other_batch))
        self.assertLen(other, 40)
        self.assertEqual(other.inserted, 60)

    @parameterized.named_parameters(BACKENDS)
    def test_arrays_in_a_function_are_inserted_at_each_call(self, backend):
        buffer = make_buffer(backend, 50, 3, 2)
        rows = numbered(0, 4)
        insert = tf.function(lambda: buffer.insert(rows))
        for calls in (1, 2):
            insert()
            self.assertLen(buffer, 4 * calls)

    @parameterized.named_parameters(BACKENDS)
    def test_shapes_and_types_are_known_when_traced(self, backend):
        for dtype in ("float32", "uint8"):
            buffer = make_buffer(backend, 40, 3, 2, dtype)
            buffer.insert(numbered(0, 9, dtype=dtype))
            sample = tf.function(buffer.sample)
            known = sample.get_concrete_function(4, 8).structured_outputs
            sizes = ([3], [2], [], [3], [], [], [])
            types = (
                dtype,
                "float32",
                "float32",
                dtype,
                "bool",
                "bool",
                "int32",
            )
            for size, name, traced, field in zip(
                sizes, types, known, sample(4, 8), strict=True
            ):
                for each in (traced, field):
                    self.assertEqual(each.shape, [4, 8, *size])
                    self.assertEqual(each.dtype.name, name)

    @parameterized.named_parameters(BACKENDS)
    def test_numbers_are_cast_within_their_kind_only(self, backend):
        buffer = make_buffer(backend, 10, 3, 2)
        rows = numbered(0, 4)
        buffer.insert(
            rows._replace(
                observation=rows.observation.astype("float64"),
                action=rows.action.tolist(),
                reward=rows.reward.astype("int64"),
                env_index=rows.env_index.astype("int64"),
            )
        )
        self.assertAllEqual(
            buffer.sample(1, 8).env_index < 4, np.full((1, 8), True)
        )
        wrong = {
            "terminated": rows.reward,
            "env_index": rows.reward,
            "reward": np.array(["1"] * 4),
            "action": tf.constant(rows.action, tf.float64),
        }
        for name, value in wrong.items():
            with self.assertRaisesRegex(TypeError, f"{name}: expected dtype"):
                buffer.insert(rows._replace(**{name: value}))
        with self.assertRaisesRegex(TypeError, "observation: .* uint8"):
            make_buffer(backend, 10, 3, 2, "uint8").insert(rows)

    @parameterized.named_parameters(BACKENDS)
    def test_wrong_shapes_are_refused_before_anything_is_stored(self, backend):
        buffer = make_buffer(backend, 10, 3, 2)
        rows = numbered(0, 4)
        wrong = [
            ("observation", rows.observation[:, :2]),
            ("observation", rows.observation[0]),
            ("action", rows.action[:3]),
            ("next_observation", rows.next_observation[np.newaxis]),
            ("terminated", rows.terminated[:, np.newaxis]),
            ("truncated", rows.truncated[:1]),
            ("env_index", rows.env_index[0]),
            ("reward", rows.reward[:, np.newaxis]),
        ]
        for name, value in wrong:
            with self.assertRaises(tf.errors.InvalidArgumentError) as caught:
                buffer.insert(rows._replace(**{name: value}))
            self.assertIn("expected shape", str(caught.exception))
            self.assertIn("received", str(caught.exception))
            if name != "reward":
                self.assertIn(f"{name}:", str(caught.exception))
        self.assertEqual(buffer.inserted, 0)

    @parameterized.named_parameters(BACKENDS)
    def test_wrong_shapes_are_refused_at_tracing_or_in_the_run(self, backend):
        buffer = make_buffer(backend, 10, 3, 2)
        rows = Transition(*map(tf.constant, numbered(0, 4)))
        insert = tf.function(lambda *fields: buffer.insert(Transition(*fields)))
        with self.assertRaises(ValueError):
            insert(*rows._replace(reward=rows.reward[:3]))
        # Rows whose number is not known before the run.
        unknown = [
            tf.TensorSpec([None, *field.shape[1:]], field.dtype)
            for field in rows
        ]
        insert = tf.function(
            lambda *fields: buffer.insert(Transition(*fields)),
            input_signature=unknown,
        )
        with self.assertRaises(tf.errors.InvalidArgumentError):
            insert(*rows._replace(env_index=rows.env_index[:3]))
        self.assertEqual(buffer.inserted, 0)
        insert(*rows)
        self.assertEqual(buffer.inserted, 4)

    @parameterized.named_parameters(BACKENDS)
    def test_an_empty_buffer_cannot_be_sampled(self, backend):
        buffer = make_buffer(backend, 10, 3, 2)
        buffer.insert(numbered(0, 0))
        self.assertEmpty(buffer)
        for sample in (buffer.sample, tf.function(buffer.sample)):
            with self.assertRaisesRegex(
                tf.errors.InvalidArgumentError, "empty replay buffer"
            ):
                sample(1, 2)
        buffer.insert(numbered(0, 5))
        fresh = [index(0, draw, 5) for draw in range(4)]
        self.assertAllEqual(buffer.sample(1, 4).env_index[0], fresh)

    @parameterized.named_parameters(BACKENDS)
    def test_arguments_out_of_range_are_refused(self, backend):
        good = dict(capacity=10, observation_size=3, action_size=2, seed=0)
        for name in good:
            for value in (-1, 2**63):
                with self.assertRaisesRegex(ValueError, f"{name}: expected"):
                    make_buffer(backend, **good | {name: value})
            for value in (1.0, True, "1"):
                with self.assertRaisesRegex(TypeError, f"{name}: expected"):
                    make_buffer(backend, **good | {name: value})
        with self.assertRaisesRegex(ValueError, "observation_dtype: expected"):
            make_buffer(backend, 10, 3, 2, "float64")
        for sizes in ((10, 2**27 + 1, 2), (10, 3, 2**40)):
            with self.assertRaisesRegex(ValueError, "_size: expected 1 to"):
                make_buffer(backend, *sizes)
        with self.assertRaisesRegex(
            tf.errors.InvalidArgumentError, "capacity: expected .* 2\\^63 bytes"
        ):
            make_buffer(backend, 2**62, 3, 2)
        make_buffer(backend, 1, 2**27, 2**27)  # 1.5 GiB, not yet touched
        buffer = make_buffer(backend, 10, 3, 2)
        buffer.insert(numbered(0, 1))
        for sizes in ((0, 1), (1, 0), (-1, -1)):
            with self.assertRaisesRegex(ValueError, "expected 1 to"):
                buffer.sample(*sizes)
        with self.assertRaisesRegex(TypeError, "expected an integer"):
            buffer.sample(1.0, 2)

    @parameterized.named_parameters(BACKENDS)
    def test_threads_never_see_a_torn_row(self, backend):
        # Long rows in few slots, so that readers and writers meet often.
        size, rounds, errors = 5000, 60, []
        buffer = make_buffer(backend, 4, size, 2, seed=1)
        buffer.insert(numbered(0, 2, size))

        def insert(thread):
            for i in range(rounds):
                buffer.insert(numbered(1000 * thread + i, 3, size))

        def sample():
            for _ in range(rounds):
                batch = [field.numpy()[0] for field in buffer.sample(1, 20)]
                for i, number in enumerate(batch[-1]):
                    row = [field[i : i + 1] for field in batch]
                    if not same_bits(row, numbered(number, 1, size)):
                        errors.append(number)

        threads = [
            threading.Thread(target=insert, args=(1,)),
            threading.Thread(target=insert, args=(2,)),
            threading.Thread(target=sample),
            threading.Thread(target=sample),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEmpty(errors[:3])
        self.assertEqual(buffer.inserted, 2 + 2 * 3 * rounds)

    @parameterized.named_parameters(BACKENDS)
    def test_memory_grows_as_it_fills(self, backend):
        before = _resident()
        buffer = make_buffer(backend, 200_000_000, 17, 6)  # 36 GiB of rows
        self.assertLess(_resident() - before, 16 << 20)
        rows = numbered(0, 10_000, 17, 6)
        for _ in range(10):
            buffer.insert(rows)
        # The twin allocates up to the double, beside what it copies from.
        bound = 3 if backend == "twin" else 1
        filled = 100_000 * 192
        self.assertLess(_resident() - before, bound * filled + (32 << 20))


def _resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


if __name__ == "__main__":
    tf.test.main()
