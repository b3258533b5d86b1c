import json

import hypothesis
import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from gymnasium import spaces
from gymnasium.vector.utils import concatenate, create_empty_array
from hypothesis import strategies as st

from tfsac.spaces import (
    Flattener,
    all_finite,
    check_same_spaces,
    observation_dtype,
    observation_size,
)
from tfsac.spaces_json import space_from_dict, space_to_dict

SHAPES = st.lists(st.integers(1, 3), max_size=3).map(tuple)


@st.composite
def boxes(draw):
    shape = draw(SHAPES)
    dtype = np.dtype(
        draw(
            st.sampled_from(
                ["float16", "float32", "float64", "uint8", "int64", "bool"]
            )
        )
    )
    if dtype.kind == "b":
        return spaces.Box(0, 1, shape, dtype)
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    low = rng.integers(0, 50, shape).astype(dtype)
    high = low + rng.integers(0, 50, shape).astype(dtype)
    if dtype.kind == "f":
        low = np.where(rng.random(shape) < 0.3, -np.inf, low).astype(dtype)
        high = np.where(rng.random(shape) < 0.3, np.inf, high).astype(dtype)
    return spaces.Box(low, high, dtype=dtype)


@st.composite
def multi_discretes(draw):
    shape = draw(SHAPES.filter(len))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    return spaces.MultiDiscrete(
        rng.integers(1, 5, shape), start=rng.integers(-3, 4, shape)
    )


LEAVES = (
    boxes()
    | multi_discretes()
    | st.builds(
        lambda n, start: spaces.Discrete(n, start=start),
        st.integers(1, 6),
        st.integers(-5, 5),
    )
    | st.builds(spaces.MultiBinary, st.integers(1, 4) | SHAPES.filter(len))
)
SPACES = st.recursive(
    LEAVES,
    lambda parts: (
        st.lists(parts, min_size=1, max_size=3).map(spaces.Tuple)
        | st.dictionaries(
            st.sampled_from("zyxab"), parts, min_size=1, max_size=3
        ).map(lambda d: spaces.Dict(list(d.items())))
    ),
    max_leaves=5,
)


class FlattenerTest(parameterized.TestCase, tf.test.TestCase):
    @hypothesis.given(space=SPACES, seed=st.integers(0, 999))
    def test_equals_gymnasium(self, space, seed):
        space.seed(seed)
        samples = [space.sample() for _ in range(3)]
        flat_space = spaces.flatten_space(space)
        flatten = Flattener(space)
        uint8 = flat_space.dtype == np.uint8
        self.assertEqual(flatten.dtype, np.uint8 if uint8 else np.float32)
        self.assertEqual(flatten.dtype, observation_dtype(space))
        self.assertEqual((flatten.size,), flat_space.shape)
        self.assertEqual(flatten.size, observation_size(space))
        wanted = np.stack([spaces.flatten(space, s) for s in samples])
        wanted = wanted.astype(flatten.dtype)
        rows = [flatten(sample) for sample in samples]
        self.assertAllEqual(rows, wanted)
        self.assertEqual(rows[0].dtype, flatten.dtype)
        batch = concatenate(space, samples, create_empty_array(space, 3))
        self.assertAllEqual(flatten(batch), wanted)
        self.assertEqual(flatten(batch).dtype, flatten.dtype)

    @parameterized.parameters(np.float32, np.float64, np.uint8)
    def test_rows_are_new_memory(self, dtype):
        flatten = Flattener(spaces.Box(0, 9, (3,), dtype))
        observation = np.ones(3, dtype)
        row, batch = flatten(observation), flatten(observation[None])
        observation[:] = 5
        self.assertAllEqual(row, [1, 1, 1])
        self.assertAllEqual(batch, [[1, 1, 1]])

    def test_other_number_types(self):
        flatten = Flattener(spaces.Box(-9, 9, (3,)))
        for values in ([1, 2, 3], (1.0, 2, 3), np.int8([1, 2, 3])):
            self.assertAllEqual(flatten(values), np.float32([1, 2, 3]))
        self.assertAllEqual(flatten(np.full(3, 1e300)), np.full(3, np.inf))

    @parameterized.parameters(
        (spaces.Box(-1, 1, (3,)), np.zeros(4), r"\(3,\).*\(4,\)"),
        (spaces.Box(-1, 1, (3,)), np.zeros((2, 4)), r"\('n', 3\).*\(2, 4\)"),
        (spaces.Box(-1, 1, (3,)), np.zeros((1, 2, 3)), r"\(1, 2, 3\)"),
        (spaces.Box(-1, 1, (3,)), 1.0, r"\(3,\).*shape \(\)"),
        (spaces.Box(-1, 1, (2, 3)), np.zeros(6), r"\(2, 3\).*\(6,\)"),
        (spaces.Box(-1, 1, (1,)), np.array([1j]), "a number.*complex"),
        (spaces.Box(-1, 1, (1,)), None, "a number.*None"),
        (spaces.Box(0, 255, (2,), np.uint8), [0.5, 1], "uint8.*float64"),
        (spaces.Box(0, 255, (2,), np.uint8), [300, 1], "uint8.*int64"),
        (spaces.Discrete(3), 3, "categories.*3"),
        (spaces.Discrete(3), -1, "categories.*-1"),
        (spaces.Discrete(3), 1.0, "an integer type.*float64"),
        (spaces.MultiDiscrete([2, 3]), [2, 0], r"categories.*\[2, 0\]"),
        (spaces.Dict(a=spaces.Discrete(2)), {"b": 1}, r"without .*\['a'\]"),
        (spaces.Dict(a=spaces.Discrete(2)), 1, r"without .*\['a'\]"),
        (spaces.Tuple([spaces.Discrete(2)] * 2), (1,), r"without .*\[1\]"),
        (
            spaces.Dict(a=spaces.Box(0, 1, (2,)), b=spaces.Discrete(2)),
            {"a": np.zeros((4, 2)), "b": [0, 1, 0]},
            r"\['b'\].*\('n',\).*\(3,\)",
        ),
    )
    def test_wrong_observation(self, space, observation, message):
        with self.assertRaisesRegex(ValueError, f"(?s)Expected.*{message}"):
            Flattener(space)(observation)

    @parameterized.parameters(
        (spaces.Graph(spaces.Box(0, 1, (2,)), None),),
        (spaces.Sequence(spaces.Box(0, 1)),),
        (spaces.Text(5),),
        (spaces.OneOf([spaces.Discrete(2), spaces.Discrete(3)]),),
        (spaces.Dict(a=spaces.Tuple([spaces.Text(5)])),),
    )
    def test_unsupported_space(self, space):
        for function in (Flattener, observation_size, space_to_dict):
            with self.assertRaisesRegex(
                ValueError, "(?s)Box, Discrete.*Received.*TransformObs"
            ):
                function(space)

    @parameterized.parameters(
        (spaces.Tuple([]),), (spaces.Dict({}),), (spaces.Box(0, 1, (0,)),)
    )
    def test_empty_space(self, space):
        with self.assertRaisesRegex(ValueError, "at least one number"):
            Flattener(space)


class SpacesTest(tf.test.TestCase):
    def test_all_finite(self):
        self.assertTrue(all_finite(np.full(9, 3e38, np.float32)))
        self.assertTrue(all_finite(np.full((2, 3), 200, np.uint8)))
        for bad in (np.nan, np.inf, -np.inf):
            values = np.zeros((3, 4), np.float32)
            values[1, 2] = bad
            self.assertFalse(all_finite(values))

    def test_same_spaces(self):
        box, wider = spaces.Box(-1, 1, (3,)), spaces.Box(-9, 9, (3,))
        action = spaces.Box(-1, 1, (2,))
        nested = spaces.Dict(a=spaces.Box(0, 1, (1,)), b=spaces.Discrete(2))
        check_same_spaces((wider, action), (box, action), "env")
        check_same_spaces((nested, action), (box, action), "env")
        uint8 = spaces.Box(0, 9, (3,), np.uint8)
        with self.assertRaisesRegex(ValueError, "3 .*float32.*3 .*uint8.*'E'"):
            check_same_spaces((uint8, action), (box, action), "env 'E'")
        with self.assertRaisesRegex(ValueError, "(?s)actions of.*'E'"):
            check_same_spaces((box, box), (box, action), "env 'E'")


class JsonTest(parameterized.TestCase, tf.test.TestCase):
    @hypothesis.given(space=SPACES)
    def test_round_trip(self, space):
        text = json.dumps(space_to_dict(space), allow_nan=False)
        again = space_from_dict(json.loads(text))
        self.assertEqual(again, space)
        # Dictionaries are equal in any order, but rows follow the order.
        self.assertEqual(repr(again), repr(space))
        self.assertEqual(json.dumps(space_to_dict(again)), text)

    def test_bounds_are_exact(self):
        low = np.array([-np.inf, -1 / 3, 0], np.float64)
        high = np.array([1e-300, np.inf, np.pi], np.float64)
        space = spaces.Box(low, high, dtype=np.float64)
        description = space_to_dict(space)
        self.assertEqual(description["low"], ["-inf", -1 / 3, 0])
        again = space_from_dict(description)
        self.assertAllEqual(again.low, low)
        self.assertAllEqual(again.high, high)
        extreme = np.iinfo(np.int64)
        space = spaces.Box(extreme.min, extreme.max - 1, (2,), np.int64)
        again = space_from_dict(space_to_dict(space))
        self.assertAllEqual(again.low, space.low)
        self.assertAllEqual(again.high, space.high)

    def test_image_is_described_in_few_words(self):
        image = spaces.Box(0, 255, (84, 84, 3), np.uint8)
        self.assertLess(len(json.dumps(space_to_dict(image))), 100)

    @parameterized.parameters(
        None, ({},), ({"type": "Text"},), ({"type": "Box", "low": 0},)
    )
    def test_not_a_description(self, description):
        with self.assertRaisesRegex(ValueError, "description of a space"):
            space_from_dict(description)


if __name__ == "__main__":
    tf.test.main()
