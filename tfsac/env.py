"""Gymnasium in, transitions out: resets, time limits, seeds, broken promises.

An environment is stepped by `EnvStream`, which hides the difference between
one environment, several, and the three ways in which vector environments
start over after an episode.
"""

import contextlib
import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import VectorEnv, VectorWrapper

from tfsac.action_spaces import to_env_actions
from tfsac.checked_env import (
    CheckedEnv,
    EnvError,
    EnvLike,
    describe,
    raised,
)
from tfsac.env_batch import Envs, Singles, Step, Vector
from tfsac.transition import Transition

__all__ = ["EnvError", "EnvLike", "EnvStream", "Episode", "make", "recipe"]


class Episode(NamedTuple):
    """An episode that has ended."""

    env_index: int
    episode_return: float
    length: int


class EnvStream:
    """One or more environments as a stream of transitions.

    `step` returns at most one transition for each environment, and never one
    that leads from the end of an episode to the start of the next. Between
    steps, `observation` is what the policy acts on.

    Everything an environment returns is checked. If it raises, or returns
    what it must not, `EnvError` names the environment, the step, what was
    expected and what was received; the transitions of earlier steps have been
    returned by then, and `reset` begins anew where the environment can.

    Two streams with the same seed and actions are equal bit for bit, whatever
    happens to global random state, if the environments draw their randomness
    from `np_random` as Gymnasium wants it.

    Example:
    ```python
    stream = EnvStream("Pendulum-v1", num_envs=4)
    stream.reset(seed=0)
    transitions = stream.step(np.zeros([4, 1], np.float32))
    transitions.reward.shape  # (4,)
    ```

    Args:
        env: An environment id or `EnvSpec`, a `gymnasium.Env`, or a
            `VectorEnv` of any autoreset mode. Environments made here from an
            id are closed by `close`; those passed in never are.
        num_envs: E, the number of environments to make from an id or spec,
            which are stepped one after another. Defaults to `1`.

    Raises:
        TypeError: If `env` is none of these.
        ValueError: If a space is not supported, if a `VectorEnv` does not
            tell its autoreset mode, or if `num_envs` does not fit.
    """

    def __init__(self, env: EnvLike, num_envs: int = 1):
        if num_envs < 1:
            raise ValueError(f"Expected num_envs >= 1. Received: {num_envs}.")
        self.env = env
        self._owned: list[gymnasium.Env | VectorEnv] = []
        self._envs = self._adapt(num_envs)
        self.num_envs = self._envs.num_envs
        if num_envs not in (1, self.num_envs):
            raise ValueError(
                f"Expected num_envs={self.num_envs}, as many as there are in "
                f"{describe(env)}. Received: num_envs={num_envs}. Pass an "
                "environment id to have more made."
            )
        self.name = describe(env)
        self.observation_space = self._envs.observation_space
        self.action_space = self._envs.action_space
        self.episodes: list[Episode] = []
        self._env_index = np.arange(self.num_envs, dtype=np.int32)
        self._env_index.flags.writeable = False
        self._seconds: float | None = None
        self._rows: np.ndarray | None = None
        self._ended: np.ndarray | None = None

    def reset(self, seed: int | None = None) -> None:
        """Starts a new episode in every environment.

        Args:
            seed: Decides all that the environments draw from here on. `None`
                goes on with their own random state.

        Raises:
            EnvError: If an environment fails.
        """
        self._rows = None
        rows, self._ended = self._envs.reset(seed), None
        self.episodes = []
        self._returns = np.zeros(self.num_envs)
        self._lengths = np.zeros(self.num_envs, np.int64)
        self._rows = rows  # last: an interrupt leaves what is not running

    @property
    def is_running(self) -> bool:
        """Whether it can be stepped: it was reset, and nothing failed since."""
        return self._rows is not None

    @property
    def observation(self) -> np.ndarray:
        """`[E, O]`, what the policy acts on now; not to be written to.

        An environment whose episode ended is reset when this is read, not
        when its last transition is returned: if that reset fails, nothing is
        lost.
        """
        if self._rows is None:
            raise EnvError(
                f"{self.name} is not running: it was never reset, or its last "
                "step failed or was interrupted. Call reset()."
            )
        if self._ended is not None:
            rows, self._rows = self._rows.copy(), None
            self._envs.reset_ended(self._ended, rows)
            self._rows, self._ended = rows, None
        return self._rows

    def step(self, action: np.ndarray) -> Transition:
        """Steps every environment once.

        The episodes that ended in this step are left in `episodes`.

        Args:
            action: `[E, A]`, in the environments' units; `[E]` integers where
                actions are `Discrete`.

        Returns:
            n <= E transitions: an environment that spends the step on
            starting over has none. Arrays may be shared with the next step's,
            so that they are not to be written to.

        Raises:
            EnvError: If an environment fails.
            ValueError: If the action has a wrong shape, is not finite, or is
                none of a discrete space.
        """
        given = to_env_actions(self.action_space, action, self.num_envs)
        observation = self.observation
        self._rows = None  # until the step is over, in which much can happen
        result = self._envs.step(given)
        self._ended = None if self._envs.resets_itself else result.ended
        self._count(result)
        self._rows = result.observation
        transitions = Transition(
            observation,
            np.array(action, np.float32).reshape(self.num_envs, -1),
            result.reward.astype(np.float32),
            result.next_observation,
            result.terminated,
            result.truncated,
            self._env_index,
        )
        if result.stepped is None:
            return transitions
        return Transition(*(field[result.stepped] for field in transitions))

    def limit(self, seconds: float | None) -> None:
        """Bounds the time that a step or a reset may take; `None` does not.

        Raises:
            ValueError: If the environment is not in processes of its own.
        """
        self._envs.limit(seconds)
        self._seconds = seconds

    def restart(self, seed: int) -> None:
        """Goes on with fresh environments, from the start of an episode.

        What is left of the old ones is closed, those passed in too.

        Args:
            seed: As for `reset`.

        Raises:
            EnvError: If the fresh ones fail as well.
            ValueError: If nothing tells how to make them.
        """
        fresh = again(self.env)
        with contextlib.suppress(Exception):  # they are broken
            self.close()
            if not isinstance(self.env, str | EnvSpec):
                self.env.close()
        try:
            self.env, self._owned = fresh(), []
            self._envs = self._adapt(self.num_envs)
        except Exception as error:
            raise EnvError(
                f"{self.name}, made afresh: {raised(error)}"
            ) from error
        if not isinstance(self.env, str | EnvSpec):
            self._owned.append(self.env)
        self.limit(self._seconds)
        self.reset(seed)

    def close(self) -> None:
        """Closes the environments that were made here."""
        self._rows = None
        for env in self._owned:
            env.close()

    def _adapt(self, num_envs: int) -> Envs:
        if isinstance(self.env, VectorEnv):
            return Vector(self.env)
        if isinstance(self.env, gymnasium.Env):
            return Singles([CheckedEnv(self.env, describe(self.env))])
        try:
            envs = []
            for _ in range(num_envs):
                envs.append(make(self.env))
                self._owned.append(envs[-1])
            names = [describe(self.env)]
            if num_envs > 1:
                names = [f"{names[0]}[{i}]" for i in range(num_envs)]
            return Singles(list(map(CheckedEnv, envs, names)))
        except Exception:
            self.close()
            raise

    def _count(self, result: Step) -> None:
        self._returns += result.reward
        self._lengths += 1
        if result.stepped is not None:
            self._returns[~result.stepped] = self._lengths[~result.stepped] = 0
        self.episodes = []
        if result.ended is None:
            return
        for i in map(int, np.flatnonzero(result.ended)):
            length, total = int(self._lengths[i]), float(self._returns[i])
            self.episodes.append(Episode(i, total, length))
            self._returns[i] = self._lengths[i] = 0


def make(env: str | EnvSpec) -> gymnasium.Env:
    """Makes one environment from an id or a spec."""
    if not isinstance(env, str | EnvSpec):
        raise TypeError(
            "Expected an environment id, an EnvSpec, a gymnasium.Env or a "
            f"gymnasium.vector.VectorEnv. Received: {env!r} of {type(env)}."
        )
    return gymnasium.make(env)


def again(env: EnvLike) -> Callable[[], EnvLike]:
    """Returns what makes an environment like this one, of as many.

    Raises:
        ValueError: If nothing tells how `env` was made.
    """
    if isinstance(env, str | EnvSpec):
        return lambda: env
    try:
        made_of = recipe(env)
    except ValueError as error:
        raise ValueError(
            "Expected an environment that can be made again: an id, or what "
            "gymnasium.make or make_vec made. Received: max_env_restarts= and "
            f"{describe(env)}, of which nothing tells how it was made."
        ) from error
    if isinstance(env, VectorEnv):
        spec: Any = env.spec  # with the number, which `made_of` lacks
        return lambda: gymnasium.make_vec(spec)
    return lambda: make(made_of)


def recipe(env: EnvLike) -> str | EnvSpec:
    """Returns that from which fresh environments like this one can be made.

    Wrappers start afresh too: one that gathers statistics has none.

    Raises:
        ValueError: If nothing tells how `env` was made.
    """
    if isinstance(env, str | EnvSpec):
        return env
    spec = copy.deepcopy(env.spec)
    if spec is not None and isinstance(env, VectorEnv):
        # What make_vec was called with is among the environment's arguments.
        for key in ("num_envs", "vectorization_mode", "vector_kwargs"):
            spec.kwargs.pop(key, None)
        # A wrapper of a vector environment shows the spec of what it wraps.
        if spec.kwargs.pop("wrappers", None) or isinstance(env, VectorWrapper):
            spec = None
    if spec is None or any(w.kwargs is None for w in spec.additional_wrappers):
        raise ValueError(
            "Expected an environment of its own for evaluation, because "
            f"{describe(env)} has no spec that tells how to make another. "
            "Pass one, as validation_env= to fit or env= to evaluate."
        )
    if spec.kwargs.get("render_mode") == "human":  # no window for each
        del spec.kwargs["render_mode"]
    return spec
