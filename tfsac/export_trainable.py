"""The agent as a SavedModel that goes on learning without Python."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from tfsac import (
    endpoints,
    files,
    keras_file,
    mlp,
    parity,
    step,
    tensor_bundle,
)
from tfsac.transition import Transition

if TYPE_CHECKING:
    from tfsac.agent import Agent

__all__ = ["is_saved", "load", "write"]

_SIGNATURES = ("act", "sample", "train", "save", "restore")
# The fields that no update looks at: only `terminated` ends a future.
_UNUSED = ("truncated", "env_index")
# What a saved file holds beside the variables: the agent's config, its own
# variables and counters, and the list of the variables.
_CONFIG, _OWN, _VARIABLES = "config", "own/", "variables"


def write(agent: "Agent", folder: pathlib.Path) -> parity.Act:
    """Writes a SavedModel that holds the whole agent.

    | name      | inputs                                         | outputs |
    |-----------|------------------------------------------------|---------|
    | `act`     | as `serving_default` of `export_saved_model`   |         |
    | `sample`  | the same as there                              |         |
    | `train`   | `observation` `[K, B, O]`, `action`, `reward`, `next_observation`, `terminated` | the means of `METRICS` over the K updates |
    | `save`    | `path`                                         | `path`  |
    | `restore` | `path`                                         | `path`  |

    The fields are those of `Transition`, B is `config.batch_size`, K is free.
    The noise is a function of the agent's seed and of the number of updates,
    a variable that `save` writes with all the others: from equal states, the
    same batches give the same updates, here and in Python.

    Args:
        agent: What acts and learns.
        folder: The model's folder.

    Returns:
        What runs the model.
    """  # noqa: E501
    variables = _variables(agent)
    module = endpoints.module(agent.policy)
    # Others that `train` may capture are refused by `tf.saved_model.save`.
    module.weights = list(variables.values())
    module.train = _train(agent)
    module.save = _save(agent, variables)
    module.restore = _restore(variables)
    signatures = {name: getattr(module, name) for name in _SIGNATURES}
    tf.saved_model.save(module, str(folder), signatures)
    (folder / "assets.extra").mkdir()

    def act(rows: np.ndarray) -> np.ndarray:
        model = tf.saved_model.load(str(folder))
        actions = model.signatures["act"](observations=tf.constant(rows))
        return actions["actions"].numpy()

    return act


def is_saved(path: str | os.PathLike[str]) -> bool:
    """Whether a file that the exported `save` may have written is there."""
    return os.path.isfile(f"{os.fspath(path)}.index")


def load(
    path: str | os.PathLike[str], custom_objects: dict[str, Any] | None
) -> "Agent":
    """Loads what the exported `save` wrote, for `tfsac.load`.

    Args:
        path: What `save` was given.
        custom_objects: Classes of the user's own models by name.

    Returns:
        The agent that was exported, with the variables as they were saved.

    Raises:
        ValueError: If the file holds something else.
    """
    tensor_bundle.check(path)
    reader = tf.train.load_checkpoint(os.fspath(path))
    shapes = reader.get_variable_to_shape_map()
    dtypes = reader.get_variable_to_dtype_map()
    if shapes.pop(_CONFIG, None) != []:
        raise ValueError(
            "Expected a file that an exported agent's signature `save` wrote. "
            f"Received: {os.fspath(path)!r}, a checkpoint of something else."
        )
    config = json.loads(reader.get_tensor(_CONFIG))
    keras_file.check_config(
        pathlib.Path(path), config, custom_objects, _size(path)
    )
    agent = keras.saving.deserialize_keras_object(
        config, custom_objects, safe_mode=True
    )
    own, variables = _own(agent), _variables(agent)
    # Before any is read: what a file declares may be larger than it is.
    shapes.pop(_VARIABLES, None)
    expected = set(_described({**own, **variables}))
    received = {
        f"{name} {dtypes[name].name} {shape}" for name, shape in shapes.items()
    }
    if expected != received:
        raise ValueError(
            f"Expected the variables {sorted(expected - received)}. Received: "
            f"{sorted(received - expected)} in {os.fspath(path)!r}, which "
            "another version of tfsac may have exported."
        )
    agent.load_own_variables(
        {name.removeprefix(_OWN): reader.get_tensor(name) for name in own}
    )
    for name, variable in variables.items():
        variable.assign(reader.get_tensor(name))
    return agent


def _own(agent: "Agent") -> dict[str, np.ndarray]:
    """What Keras would save of the agent itself, counters above all."""
    store: dict[str, Any] = {}
    agent.save_own_variables(store)
    return {f"{_OWN}{name}": np.asarray(v) for name, v in store.items()}


def _size(path: str | os.PathLike[str]) -> int:
    """Bytes of the variables; of holes there may be no more than of data."""
    file = pathlib.Path(f"{os.fspath(path)}.data-00000-of-00001")
    try:
        with files.opened(file) as (_, size):
            return size
    except tf.errors.OpError as error:
        raise ValueError(error.message) from error


def _variables(agent: "Agent") -> dict[str, tf.Variable]:
    """Every variable that an agent has, by name.

    `"critic/0"` is the first one of `agent.critic`. Keras' own paths count the
    layers made in the process, and so differ from one to the next.
    """
    parts = {"learning_noise": [agent.learning_noise.counter]}
    for name, part in sorted(vars(agent).items()):
        if isinstance(part, keras.Variable):
            parts[name] = [part.value]
        elif isinstance(part, keras.Model | keras.optimizers.Optimizer):
            parts[name] = [variable.value for variable in part.variables]
    return {
        f"{name}/{i}": variable
        for name, variables in parts.items()
        for i, variable in enumerate(variables)
    }


def _train(agent: "Agent") -> tf.types.experimental.PolymorphicFunction:
    """K updates, each one call of `agent.learn`."""
    specs = agent.replay.layout.specs(None, agent.config.batch_size)
    fields = [spec for name, spec in specs.items() if name not in _UNUSED]

    @tf.function(jit_compile=agent.jit_compile, autograph=False)
    def run(count: tf.Tensor, *batches: tf.Tensor) -> tf.Tensor:
        with mlp.tensorflow_only():
            return step.run(agent, count, Transition(*batches))

    @tf.function(input_signature=fields, autograph=False)
    def train(
        observation: tf.Tensor,
        action: tf.Tensor,
        reward: tf.Tensor,
        next_observation: tf.Tensor,
        terminated: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        given = (observation, action, reward, next_observation, terminated)
        # A session looks at no shape of what it is fed.
        checked = [
            tf.ensure_shape(batch, spec.shape)
            for batch, spec in zip(given, fields, strict=True)
        ]
        shape = tf.shape(reward)
        unused = [tf.zeros(shape, specs[name].dtype) for name in _UNUSED]
        metrics = run(shape[0], *checked, *unused)
        return dict(zip(agent.METRICS, tf.unstack(metrics), strict=True))

    return train


def _save(
    agent: "Agent", variables: dict[str, tf.Variable]
) -> tf.types.experimental.PolymorphicFunction:
    """Writes all that `load` needs, in TensorFlow's format of checkpoints."""
    constants = {
        _CONFIG: json.dumps(keras.saving.serialize_keras_object(agent)),
        _VARIABLES: _described(variables),
        **_own(agent),
    }

    @tf.function(input_signature=[tf.TensorSpec([], tf.string, "path")])
    def save(path: tf.Tensor) -> dict[str, tf.Tensor]:
        tensors = {
            **{name: tf.constant(value) for name, value in constants.items()},
            **{name: each.read_value() for name, each in variables.items()},
        }
        written = tf.raw_ops.SaveV2(
            prefix=path,
            tensor_names=list(tensors),
            shape_and_slices=[""] * len(tensors),
            tensors=list(tensors.values()),
        )
        with tf.control_dependencies([written]):
            return {"path": tf.identity(path)}

    return save


def _restore(
    variables: dict[str, tf.Variable],
) -> tf.types.experimental.PolymorphicFunction:
    """Reads what `save` wrote: all of it, or on any error nothing."""
    expected = _described(variables)

    @tf.function(input_signature=[tf.TensorSpec([], tf.string, "path")])
    def restore(path: tf.Tensor) -> dict[str, tf.Tensor]:
        # Shapes are compared as they were written: those of the values, which
        # are assigned below, TensorFlow takes for equal without a look.
        received = tf.reshape(_read(path, {_VARIABLES: tf.string})[0], [-1])
        is_same = tf.equal(tf.constant(expected)[:, tf.newaxis], received)
        is_missing = tf.logical_not(tf.reduce_any(is_same, axis=1))
        is_foreign = tf.logical_not(tf.reduce_any(is_same, axis=0))
        check = tf.debugging.Assert(
            not (tf.reduce_any(is_missing) or tf.reduce_any(is_foreign)),
            [
                "Expected the variables",
                tf.boolean_mask(expected, is_missing),
                "Received:",
                tf.boolean_mask(received, is_foreign),
            ],
        )
        with tf.control_dependencies([check]):
            dtypes = {name: each.dtype for name, each in variables.items()}
            values = _read(path, dtypes)
            for variable, value in zip(variables.values(), values, strict=True):
                variable.assign(value)
            return {"path": tf.identity(path)}

    return restore


def _read(path: tf.Tensor, dtypes: dict[str, tf.DType]) -> list[tf.Tensor]:
    return tf.raw_ops.RestoreV2(
        prefix=path,
        tensor_names=list(dtypes),
        shape_and_slices=[""] * len(dtypes),
        dtypes=list(dtypes.values()),
    )


def _described(variables: Mapping[str, tf.Variable | np.ndarray]) -> list[str]:
    """What two agents have in common that can restore each other's."""
    return [
        f"{name} {variable.dtype.name} {list(variable.shape)}"
        for name, variable in variables.items()
    ]
