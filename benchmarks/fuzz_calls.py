"""Calls of each op with arguments that are right but for some, or none."""

import concurrent.futures
import os
import tempfile

import gymnasium
import numpy as np
import tensorflow as tf

import tfsac
from tfsac import ops

WRONG_DTYPES = ("float64", "int32", "int64", "uint8", "bool", "complex64")
SPECIAL = (np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45, -0.0, 0.0)
HUGE = (2**62, 2**63 - 1, -(2**63), 2**70)
WRONG_INTEGERS = (0, -1, *HUGE, "x", 1.5, None, True, [1, 2])
WRONG_SIZES = (*WRONG_INTEGERS, 2**31 - 1, 2**40, 2**50)
WRONG_NAMES = ("", "../x", "a/b", "x\0y", "n" * 5_000, "\udcff", b"\xff")
SIZES = {"observation_size": 3, "action_size": 2}
FIELDS = {  # shape after [n], and the dtype
    "observation": ((3,), "float32"),
    "action": ((2,), "float32"),
    "reward": ((), "float32"),
    "next_observation": ((3,), "float32"),
    "terminated": ((), "bool"),
    "truncated": ((), "bool"),
    "env_index": ((), "int32"),
}


class Wrong:
    """What is not an argument of anything."""


class Calls:
    """Draws a call, and makes it."""

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory()
        os.chdir(self._folder.name)  # "" is a directory, too
        self._kernels = ops.kernels()
        if self._kernels is None:
            raise SystemExit(f"There are no kernels: {ops.status()}")
        self._others = concurrent.futures.ThreadPoolExecutor(2)
        self._handle = self._kernels.tfsac_replay_create(capacity=9, **SIZES)
        rng = np.random.default_rng(0)
        self._kernels.tfsac_replay_insert(self._handle, **transitions(rng, 4))
        variable = tf.Variable([1.0])
        table = tf.lookup.experimental.MutableHashTable(tf.int64, tf.int64, 0)
        gone = tf.Variable([2.0])
        closed = self._kernels.tfsac_replay_create(capacity=9, **SIZES)
        self._foreign = [
            variable.handle,
            table.resource_handle,
            gone.handle,
            closed,
            self._handle[tf.newaxis],
            tf.zeros([]),
            None,
        ]
        self._kept = variable, table
        for handle in gone.handle, closed:
            tf.raw_ops.DestroyResourceOp(resource=handle)
        self._agent = tfsac.SAC(
            (
                gymnasium.spaces.Box(-1, 1, (3,)),
                gymnasium.spaces.Box(-1, 1, (2,)),
            ),
            tfsac.SACConfig(hidden_units=(8,), replay_capacity=9),
            seed=0,
        )
        self._targets = {
            "ReplayCreate": self._create,
            "ReplayInsert": self._insert,
            "ReplaySample": self._sample,
            "ReplayCount": self._count,
            "ReplayAddress": self._address,
            "ReplaySave": self._save,
            "ReplayRestore": self._restore,
            "Mlp": self._mlp,
            "MlpGradient": self._mlp_gradient,
            "PolicyCreate": self._policy,
            "ReplayBuffer.insert": self._buffer_insert,
            "ReplayBuffer.sample": self._buffer_sample,
            "SAC.predict": self._predict,
            "SAC.log_prob": self._log_prob,
        }

    def run(self, rng: np.random.Generator) -> tuple[str, str]:
        """Makes a call; returns what was called and how it ended."""
        target = pick(rng, list(self._targets))
        function, arguments, wrong = self._targets[target](rng)
        for _ in range(rng.choice([0, 1, 1, 1, 2, 3])):
            name = pick(rng, list(arguments))
            if isinstance(arguments[name], list):
                each = arguments[name]
                change_list(rng, each)
            else:
                options = wrong.get(name)
                arguments[name] = (
                    change(rng, arguments[name])
                    if options is None
                    else pick(rng, options)
                )
        how = rng.random()
        call = lambda: function(**arguments)  # noqa: E731
        if how < 0.1:
            call = tf.function(call)
        elif how < 0.11 and target.startswith("Mlp"):
            call = tf.function(call, jit_compile=True)
        if how > 0.8:  # others use the same buffer meanwhile
            calls = [call, call, self._use]
            futures = [self._others.submit(outcome_of, each) for each in calls]
            return target, [each.result() for each in futures][0]
        return target, outcome_of(call)

    def _use(self):
        self._kernels.tfsac_replay_count(self._handle)
        self._kernels.tfsac_replay_sample(
            self._handle, updates=2, batch_size=3, T=tf.float32, **SIZES
        )

    def _create(self, rng):
        arguments = {
            "capacity": int(rng.integers(1, 20)),
            **SIZES,
            "observation_dtype": pick(rng, [tf.float32, tf.uint8]),
            "seed": int(rng.integers(9)),
        }
        wrong = dict.fromkeys(arguments, WRONG_SIZES)
        wrong["observation_dtype"] = [tf.float64, tf.string, "x", None, 3]
        return self._kernels.tfsac_replay_create, arguments, wrong

    def _insert(self, rng):
        count = int(rng.choice([0, 1, 3, 20]))
        arguments = {"handle": self._handle, **transitions(rng, count)}
        wrong = {"handle": self._foreign}
        return self._kernels.tfsac_replay_insert, arguments, wrong

    def _sample(self, rng):
        arguments = {
            "handle": self._handle,
            "updates": int(rng.integers(1, 4)),
            "batch_size": int(rng.integers(1, 9)),
            **SIZES,
            "T": tf.float32,
        }
        wrong = dict.fromkeys(arguments, WRONG_INTEGERS)
        wrong |= {"handle": self._foreign, "T": [tf.uint8, tf.string, None]}
        return self._kernels.tfsac_replay_sample, arguments, wrong

    def _count(self, rng):
        wrong = {"handle": self._foreign}
        return self._kernels.tfsac_replay_count, {"handle": self._handle}, wrong

    def _address(self, rng):
        arguments = {"handle": self._handle}
        wrong = {"handle": self._foreign}
        return self._kernels.tfsac_replay_address, arguments, wrong

    def _save(self, rng):
        return self._kernels.tfsac_replay_save, *self._place(rng)

    def _restore(self, rng):
        return self._kernels.tfsac_replay_restore, *self._place(rng)

    def _place(self, rng):
        names = [str(n) for n in range(3)]
        arguments = {
            "handle": self._handle,
            "directory": os.path.join(self._folder.name, pick(rng, names)),
            "index": pick(rng, names),
        }
        inside = [
            os.path.join(self._folder.name, name)
            for name in WRONG_NAMES
            if isinstance(name, str) and name != "../x"
        ]
        wrong = {
            "handle": self._foreign,
            "directory": [*inside, "", "/proc/x", "/dev/null", 3, None],
            "index": [*WRONG_NAMES, 3, None, ["a", "b"]],
        }
        return arguments, wrong

    def _stacks(self, rng):
        members, batch = int(rng.integers(1, 4)), int(rng.integers(0, 40))
        ins = [int(n) for n in rng.integers(1, 5, int(rng.integers(1, 3)))]
        widths = [int(n) for n in rng.integers(1, 70, int(rng.integers(1, 4)))]
        sizes = [sum(ins), *widths]
        return (
            {
                "inputs": [floats(rng, (batch, each)) for each in ins],
                "kernels": [
                    floats(rng, (members, sizes[i], sizes[i + 1]))
                    for i in range(len(widths))
                ],
                "biases": [floats(rng, (members, each)) for each in widths],
            },
            [floats(rng, (members, batch, each)) for each in widths],
        )

    def _mlp(self, rng):
        arguments, _ = self._stacks(rng)
        arguments["activation"] = pick(rng, ["relu", "tanh"])
        wrong = {"activation": ["", "x", None, 3, "n" * 999]}
        return self._kernels.tfsac_mlp, arguments, wrong

    def _mlp_gradient(self, rng):
        arguments, outputs = self._stacks(rng)
        del arguments["biases"]
        wanted = [bool(flag) for flag in rng.integers(0, 2, 2)]
        wanted = wanted[: len(arguments["inputs"])]
        wants_weights = bool(rng.integers(2))
        layers = len(arguments["kernels"])
        arguments |= {
            "hidden": outputs[:-1],
            "output_gradient": outputs[-1],
            "activation": pick(rng, ["relu", "tanh"]),
            "wanted_inputs": tf.constant(wanted).numpy().tolist(),
            "wants_weights": wants_weights,
            "W": sum(wanted),
            "G": 2 * layers * wants_weights,
        }
        wrong = {
            "activation": ["", "x", None, 3],
            "wants_weights": [True, False, None, 3],
            "W": [0, 1, 2, 3, -1, 99, 2**40],
            "G": [0, 1, 2, 7, -1, 99, 2**40],
        }
        return self._kernels.tfsac_mlp_gradient, arguments, wrong

    def _policy(self, rng):
        units = int(rng.integers(1, 20))
        variables = [
            tf.Variable(floats(rng, shape))
            for shape in ((3, units), (units, 4), (units,), (4,))
        ]
        handles = [variable.handle for variable in variables]
        arguments = {
            "kernels": handles[:2],
            "biases": handles[2:],
            "low": floats(rng, (2,)),
            "high": floats(rng, (2,)),
            "activation": pick(rng, ["relu", "tanh"]),
            "log_std_min": -5.0,
            "log_std_max": 2.0,
            "observation_dtype": pick(rng, [tf.float32, tf.uint8]),
        }
        wrong = {
            "activation": ["", "x", None, 3],
            "log_std_min": [np.nan, np.inf, 9.0, "x", None],
            "log_std_max": [np.nan, -np.inf, -9.0, "x", None],
            "observation_dtype": [tf.float64, tf.string, None],
        }

        def create(**given):
            policy = self._kernels.tfsac_policy_create(**given)
            return variables, policy

        return create, arguments, wrong

    def _buffer_insert(self, rng):
        count = int(rng.choice([0, 1, 3, 20]))
        arguments = transitions(rng, count)

        def insert(**fields):
            self._agent.replay.insert(tfsac.Transition(**fields))

        return insert, arguments, {}

    def _buffer_sample(self, rng):
        arguments = {"updates": 2, "batch_size": int(rng.integers(1, 9))}
        wrong = dict.fromkeys(arguments, WRONG_INTEGERS)
        return self._agent.replay.sample, arguments, wrong

    def _predict(self, rng):
        rows = floats(rng, (int(rng.integers(0, 9)), 3))
        return self._agent.predict, {"observations": rows}, {}

    def _log_prob(self, rng):
        count = int(rng.integers(0, 9))
        arguments = {
            "observations": floats(rng, (count, 3)),
            "actions": rng.uniform(-1, 1, (count, 2)).astype(np.float32),
        }
        return self._agent.log_prob, arguments, {}


def transitions(rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    """Fields of transitions."""
    return {
        name: (
            floats(rng, (count, *shape))
            if dtype == "float32"
            else rng.integers(0, 2, (count, *shape)).astype(dtype)
        )
        for name, (shape, dtype) in FIELDS.items()
    }


def floats(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers, sometimes with special ones among them."""
    values = np.asarray(rng.normal(size=shape), np.float32)
    if values.size and rng.random() < 0.2:
        values.flat[rng.integers(values.size)] = pick(rng, SPECIAL)
    return values


def change(rng: np.random.Generator, value):
    """Something else in place of an argument."""
    if rng.random() < 0.1 or not isinstance(value, np.ndarray):
        wrong = [None, 3, "x", [], [[1.0], [1.0, 2.0]], {}, Wrong(), np.nan]
        return pick(rng, [*wrong, tf.ragged.constant([[1.0], []])])
    kind = rng.integers(4)
    if kind == 0:
        with np.errstate(all="ignore"):
            return value.astype(pick(rng, WRONG_DTYPES))
    if kind == 1 and value.ndim:
        axis = int(rng.integers(value.ndim))
        size = int(rng.choice([0, 1, value.shape[axis] + 1, 1_000]))
        return np.resize(
            value, (*value.shape[:axis], size, *value.shape[axis + 1 :])
        )
    if kind == 2:
        return value[np.newaxis] if rng.random() < 0.5 else value.reshape(-1)
    return np.full_like(value, pick(rng, SPECIAL)) if value.size else value


def change_list(rng: np.random.Generator, values: list) -> None:
    """One less, one more, another order, or something else in one place."""
    kind = rng.integers(4)
    if kind == 0 and values:
        values.pop()
    elif kind == 1 and values:
        values.append(values[0])
    elif kind == 2:
        values.reverse()
    elif values:
        place = int(rng.integers(len(values)))
        values[place] = change(rng, values[place])


def pick(rng: np.random.Generator, options):
    """One of them."""
    return options[int(rng.integers(len(options)))]


def outcome_of(call) -> str:
    """Makes a call; returns the exception's name, or "accepted"."""
    try:
        for result in tf.nest.flatten(call()):
            if tf.is_tensor(result) and result.dtype != tf.resource:
                result.numpy().tobytes()  # all of it is there
    except Exception as error:
        return type(error).__name__
    return "accepted"
