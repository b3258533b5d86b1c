"""The policy as a SavedModel that needs nothing but TensorFlow."""

import dataclasses
import importlib.metadata
import json
import pathlib
import platform
import shutil
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfsac import mlp
from tfsac.acting import Policy
from tfsac.checked_env import env_id
from tfsac.spaces_json import space_to_dict

if TYPE_CHECKING:
    from tfsac.agent import Agent

__all__ = ["export"]

_PACKAGES = (
    "tensorflow",
    "keras",
    "tensorflow-probability",
    "gymnasium",
    "numpy",
)


def export(agent: "Agent", directory: str) -> str:
    """Writes the policy as the next version of a servable.

    The layout is TensorFlow Serving's: `directory/<highest version + 1>/`,
    written under another name and renamed, so that a server never sees half a
    model. `assets.extra/tfsac.json` in it tells spaces, config, versions and
    training.

    Signatures, for any batch size B:

    | name              | inputs                              | outputs |
    |-------------------|-------------------------------------|---------|
    | `serving_default` | `observations` `[B, O]`             | `actions` `[B, A]`, tanh of the mean |
    | `sample`          | `observations`, `seed` `[2]` int64  | `actions`, `log_prob` `[B]` |

    Actions are in the env's own units, and `log_prob` is their density in
    these units. Nothing in it needs tfsac, Python or XLA.

    Args:
        agent: Whose policy.
        directory: The servable's folder; made if need be.

    Returns:
        The folder of the version written.
    """  # noqa: E501
    base = pathlib.Path(directory)
    base.mkdir(parents=True, exist_ok=True)
    versions = [int(p.name) for p in base.iterdir() if p.name.isdecimal()]
    final = base / str(max(versions, default=0) + 1)
    aside = base / f".{final.name}.tmp"
    shutil.rmtree(aside, ignore_errors=True)

    module = _module(agent.policy)
    signatures = {"serving_default": module.act, "sample": module.sample}
    try:
        tf.saved_model.save(module, str(aside), signatures)
        extra = aside / "assets.extra"
        extra.mkdir()
        # A config may hold NumPy's numbers, which JSON does not know.
        card = json.dumps(_card(agent), indent=2, default=lambda x: x.item())
        (extra / "tfsac.json").write_text(card)
        aside.rename(final)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return str(final)


def _module(policy: Policy) -> tf.Module:
    rows = tf.TensorSpec(
        [None, policy.flatten.size], policy.flatten.dtype, "observations"
    )

    @tf.function(input_signature=[rows])
    def act(observations: tf.Tensor) -> dict[str, tf.Tensor]:
        with mlp.tensorflow_only():
            actions = policy.deterministic.python_function(observations)
        return {"actions": actions}

    @tf.function(input_signature=[rows, tf.TensorSpec([2], tf.int64, "seed")])
    def sample(observations: tf.Tensor, seed: tf.Tensor) -> dict[str, Any]:
        with mlp.tensorflow_only():
            actions, log_prob = policy.seeded.python_function(
                observations, seed
            )
        return {"actions": actions, "log_prob": log_prob}

    module = tf.Module(name="policy")
    module.weights = [variable.value for variable in policy.actor.variables]
    module.act = act
    module.sample = sample
    return module


def _card(agent: "Agent") -> dict[str, Any]:
    from tfsac import __version__  # __init__.py imports this file

    return {
        "format": 1,
        "observation_space": space_to_dict(agent.observation_space),
        "action_space": space_to_dict(agent.action_space),
        "config": dataclasses.asdict(agent.config),
        "training": {
            "env": None if agent.env is None else env_id(agent.env),
            "seed": agent.seed,
            "env_steps": agent.env_steps,
            "updates": agent.updates,
            "alpha": agent.alpha,
        },
        "versions": {
            "tfsac": __version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _PACKAGES},
        },
    }
