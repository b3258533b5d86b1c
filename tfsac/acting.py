"""Policies at work: observations in, actions in the env's units out."""

import copy
import itertools
from typing import Any, Protocol, Self

import keras
import numpy as np
import tensorflow as tf

from tfsac.spaces import Flattener

__all__ = ["Kernels", "Policy", "Snapshot"]


class Kernels(Protocol):
    """Acts by one call of C++, with the weights of now."""

    def __call__(
        self, rows: np.ndarray, seed: tuple[int, int] | None
    ) -> np.ndarray:
        """Returns actions, as `Policy.act` does."""


class Policy:
    """What acts for an agent; subclasses say how.

    "Rows" are flattened observations, `[B, O]`; actions, `[B, A]`, are in the
    environment's own units. `Discrete` ones are integers `[B]` wherever it says
    `[B, A]`.

    Args:
        actor: Keras model, from rows to whatever the subclass makes of it.
        flatten: Turns observations into rows.
        seed: Of the noise in `predict`.

    Attributes:
        deterministic: The function from rows to deterministic actions.
        seeded: The function from rows and a seed `[2]`, int64, to sampled
            actions and their log densities `[B]`, in nats, per volume of the
            same units; of discrete actions, log-probabilities.
        sampled: The function from the same to the actions alone.
        kernels: What acts in their place where the C++ kernels can, with the
            same actions but for rounding; else `None`.
    """

    def __init__(self, actor: keras.Model, flatten: Flattener, seed: int):
        self.actor = actor
        self.flatten = flatten
        self.kernels: Kernels | None = None
        self._predict_seed = seed
        self._predicted = itertools.count()
        rows = tf.TensorSpec([None, flatten.size], flatten.dtype)
        self.deterministic = tf.function(
            self._deterministic, input_signature=[rows]
        )
        self.seeded = tf.function(
            self._seeded, input_signature=[rows, tf.TensorSpec([2], tf.int64)]
        )
        self.sampled = tf.function(
            self._sampled, input_signature=self.seeded.input_signature
        )
        self.compile()

    def _deterministic(self, rows: tf.Tensor) -> tf.Tensor:
        raise NotImplementedError

    def _seeded(
        self, rows: tf.Tensor, seed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        raise NotImplementedError

    def _sampled(self, rows: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return self._seeded(rows, seed)[0]  # what else it has is not computed

    @property
    def variables(self) -> list[keras.Variable]:
        """Those that actions and densities depend on."""
        return self.actor.variables

    def random(self, generator: np.random.Generator, count: int) -> np.ndarray:
        """Uniformly random actions, `[count, A]`."""
        raise NotImplementedError

    def clone(self) -> Self:
        """Returns the same policy with an actor of its own."""
        raise NotImplementedError

    def compile(self, jit_compile: bool = True) -> None:
        """Compiles `explore` anew, for where no kernels serve.

        Args:
            jit_compile: Whether XLA does it. Defaults to `True`.
        """
        # Of static shapes, unlike `sampled`: XLA compiles it for those alone.
        self._explore = tf.function(self._sampled, jit_compile=jit_compile)

    def act(
        self, rows: np.ndarray, seed: tuple[int, int] | None = None
    ) -> np.ndarray:
        """Actions as fast as they can be had.

        Args:
            rows: `[B, O]`.
            seed: Of the noise. Defaults to `None`, which acts
                deterministically.

        Returns:
            `[B, A]`, in the environment's units.
        """
        if self.kernels is not None:
            return self.kernels(rows, seed)
        if seed is None:
            return self.deterministic(rows).numpy()
        return self.sampled(rows, tf.constant(seed, tf.int64)).numpy()

    def explore(self, rows: np.ndarray, seed: tuple[int, int]) -> np.ndarray:
        """Sampled actions for always as many rows, as training takes them.

        Args:
            rows: `[E, O]`.
            seed: Of the noise.

        Returns:
            `[E, A]`, in the environment's units.
        """
        if self.kernels is not None:
            return self.kernels(rows, seed)
        return self._explore(rows, tf.constant(seed, tf.int64)).numpy()

    @property
    def predicted(self) -> int:
        """How often it has predicted by sampling: its place in the noise."""
        return next(copy.copy(self._predicted))

    @predicted.setter
    def predicted(self, count: int) -> None:
        self._predicted = itertools.count(count)

    def predict(self, observations: Any, deterministic: bool) -> np.ndarray:
        """`Agent.predict` has the description."""
        rows = self._rows(observations)
        seed = None
        if not deterministic:
            seed = self._predict_seed, next(self._predicted)
        actions = self.act(np.atleast_2d(rows), seed)
        return actions if rows.ndim == 2 else actions[0]

    def _rows(self, observations: Any) -> np.ndarray:
        rows = self.flatten(observations)
        if np.isnan(rows).any():
            raise ValueError(
                "Expected observations without NaN, as no action answers it. "
                f"Received: {observations!r}."
            )
        return rows


class Snapshot:
    """A policy as it was when it was last taken, while the original learns.

    Args:
        original: The policy to take.

    Attributes:
        policy: The copy.
    """

    def __init__(self, original: Policy):
        self.policy = original.clone()
        mine, theirs = self.policy.actor.variables, original.actor.variables
        pairs = zip(mine, theirs, strict=True)
        self._pairs = [(copy.value, variable.value) for copy, variable in pairs]

    def take(self) -> None:
        """Takes the weights that the original has now."""
        for mine, theirs in self._pairs:
            # Both share the values until somebody assigns to one of the two.
            mine.assign(theirs)
