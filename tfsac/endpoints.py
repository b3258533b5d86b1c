"""What is exported of a policy: functions on TensorFlow's own ops alone."""

from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf
from gymnasium import spaces

from tfsac import mlp
from tfsac.acting import Policy

if TYPE_CHECKING:
    from tfsac.agent import Agent

__all__ = ["KerasEndpoint", "keras_models", "module"]


def module(policy: Policy, batch: int | None = None) -> tf.Module:
    """What `tf.saved_model.save` takes.

    Args:
        policy: What acts.
        batch: Number of rows. Defaults to `None`, any.

    Returns:
        A module with the weights, and two functions: `act`, from
        `observations` `[B, O]` to deterministic `actions` `[B, A]`, and
        `sample`, from `observations` and `seed` `[2]`, int64, to `actions` and
        their `log_prob` `[B]`.
    """
    result = tf.Module(name="policy")
    result.weights = [variable.value for variable in policy.variables]
    result.act = _act(policy, batch)
    result.sample = _sample(policy, batch)
    return result


def keras_models(agent: "Agent") -> dict[str, "KerasEndpoint"]:
    """What Keras' exporters take, for runtimes that draw no noise by a seed.

    Args:
        agent: Whose policy.

    Returns:
        `model`, from `observations` `[B, O]` to deterministic `actions` `[B,
        A]`. And, where actions are a `Box`, `sample`, from `observations` and
        `noise` `[B, A]`, standard normal, to `actions` and their `log_prob`
        `[B]`.
    """
    policy = agent.policy
    models = {"model": KerasEndpoint(_act(policy), policy.variables)}
    if isinstance(agent.action_space, spaces.Box):
        sample = _sample_from_noise(policy, agent.action_space.shape[0])
        models["sample"] = KerasEndpoint(sample, policy.variables)
    return models


class KerasEndpoint(keras.Model):
    """A function of a policy as a model.

    Args:
        function: A `tf.function` with an input signature.
        variables: Those that it uses.
    """

    def __init__(self, function: Any, variables: list[keras.Variable]):
        super().__init__()
        self.used = variables  # for Keras to find them
        self._function = function
        self.built = True

    def call(self, *inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """The function's outputs by name, from its inputs in their order."""
        return self._function.python_function(*inputs)

    def write(self, path: str, format: str, **options: Any) -> None:
        """Writes the model, as `keras.Model.export` does."""
        specs = list(self._function.input_signature)
        self.export(
            path, format, verbose=False, input_signature=specs, **options
        )


def _act(policy: Policy, batch: int | None = None) -> Any:
    @tf.function(input_signature=[_rows(policy, batch)])
    def act(observations: tf.Tensor) -> dict[str, tf.Tensor]:
        with mlp.tensorflow_only():
            actions = policy.deterministic.python_function(observations)
        return {"actions": actions}

    return act


def _sample(policy: Policy, batch: int | None) -> Any:
    seed_spec = tf.TensorSpec([2], tf.int64, "seed")

    @tf.function(input_signature=[_rows(policy, batch), seed_spec])
    def sample(observations: tf.Tensor, seed: tf.Tensor) -> dict[str, Any]:
        with mlp.tensorflow_only():
            actions, log_prob = policy.seeded.python_function(
                observations, seed
            )
        return {"actions": actions, "log_prob": log_prob}

    return sample


def _sample_from_noise(policy: Any, action_size: int) -> Any:
    noise_spec = tf.TensorSpec([None, action_size], tf.float32, "noise")

    @tf.function(input_signature=[_rows(policy, None), noise_spec])
    def sample(observations: tf.Tensor, noise: tf.Tensor) -> dict[str, Any]:
        with mlp.tensorflow_only():
            actions, log_prob = policy.sample(observations, noise)
        return {"actions": actions, "log_prob": log_prob}

    return sample


def _rows(policy: Policy, batch: int | None) -> tf.TensorSpec:
    flatten = policy.flatten
    return tf.TensorSpec([batch, flatten.size], flatten.dtype, "observations")
