"""Several environments stepped at once, whichever way each starts over."""

from typing import Any, NamedTuple, Protocol

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, VectorEnv

from tfsac.action_spaces import ActionSpace, check_action_space
from tfsac.checked_env import CheckedEnv, Checks, describe, raised
from tfsac.workers import Workers


def derive_seeds(seed: int, purpose: str, count: int) -> list[int]:
    """Returns seeds that share nothing with those of other seeds or purposes.

    The first n of them do not depend on `count`.
    """
    # All results rest on these numbers: other ones would be other seeds.
    key = {"training": 0, "evaluation": 1}[purpose]
    sequence = np.random.SeedSequence(seed, spawn_key=(key,))
    # 31 bits, because some environments keep their seed in an int32.
    return [int(s >> 1) for s in sequence.generate_state(count)]


class Step(NamedTuple):
    """What E environments answer; E rows each."""

    next_observation: np.ndarray  # the true one, also at an episode's end
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    observation: np.ndarray  # to act on next, unless it is to be reset first
    ended: np.ndarray | None  # whose episode ended; None is nobody's
    stepped: np.ndarray | None  # which rows are transitions; None is all


class Envs(Protocol):
    """E environments."""

    num_envs: int
    resets_itself: bool  # or has reset_ended to be called after an end
    observation_space: gymnasium.Space[Any]
    action_space: ActionSpace

    def reset(self, seed: int | None) -> np.ndarray:
        """Starts E episodes; returns what they start from, `[E, O]`."""

    def reset_ended(self, ended: np.ndarray, rows: np.ndarray) -> None:
        """Starts episodes where `ended` is true, and writes these `rows`."""

    def step(self, actions: np.ndarray) -> Step:
        """Takes one action in each environment, `[E, A]`, or `[E]`."""

    def limit(self, seconds: float | None) -> None:
        """Bounds the time that a step or a reset may take; `None` does not."""


class Singles:
    """Environments that are stepped one after another, here.

    Gymnasium's SyncVectorEnv does this too, but takes longer, and in its
    SAME_STEP mode an environment that reuses its observation array overwrites
    its final observation.
    """

    def __init__(self, envs: list[CheckedEnv]):
        self.num_envs = len(envs)
        self.resets_itself = False
        self.observation_space = envs[0].env.observation_space
        self.action_space = envs[0].action_space
        self._envs = envs

    def reset(self, seed: int | None) -> np.ndarray:
        """Starts E episodes; returns what they start from, `[E, O]`."""
        seeds: list[int | None] = [None] * self.num_envs
        if seed is not None:
            seeds[:] = derive_seeds(seed, "training", self.num_envs)
        rows = [e.reset(s) for e, s in zip(self._envs, seeds, strict=True)]
        return np.stack(rows)

    def reset_ended(self, ended: np.ndarray, rows: np.ndarray) -> None:
        """Starts episodes where `ended` is true, and writes these `rows`."""
        for i in np.flatnonzero(ended):
            rows[i] = self._envs[i].reset()

    def step(self, actions: np.ndarray) -> Step:
        """Takes one action in each environment, `[E, A]`, or `[E]`."""
        steps = [e.step(a) for e, a in zip(self._envs, actions, strict=True)]
        rows, *rest = (np.array(field) for field in zip(*steps, strict=True))
        reward, terminated, truncated = rest
        ended = _some(terminated | truncated)
        return Step(rows, reward, terminated, truncated, rows, ended, None)

    def limit(self, seconds: float | None) -> None:
        """Refuses to bound what a step may take; `None` is fine."""
        if seconds is not None:
            raise unbounded(describe(self._envs[0].env))


class Vector:
    """A vector environment of any autoreset mode.

    With NEXT_STEP the step after an episode's end ignores the action and
    resets; with SAME_STEP the last step resets, and the final observation is
    in `infos`; with DISABLED the reset is ours.
    """

    def __init__(self, env: VectorEnv):
        name = describe(env)
        self.num_envs = env.num_envs
        self.observation_space = env.single_observation_space
        self.action_space = check_action_space(env.single_action_space, name)
        self._env = env
        self._workers = (
            Workers(env.unwrapped)
            if isinstance(env.unwrapped, AsyncVectorEnv)
            else None
        )
        self._checks = Checks(name, self.observation_space, self._explain)
        self._batch = (env.num_envs,)
        self._ended: np.ndarray | None = None  # the step before
        try:
            self._mode = AutoresetMode(env.metadata.get("autoreset_mode"))
        except ValueError as error:
            raise ValueError(
                "Expected env.metadata['autoreset_mode'] to be a "
                f"gymnasium.vector.AutoresetMode. Received: {env.metadata}, "
                f"the metadata of {name}. Without it, what follows an "
                "episode's end would be a guess: set it to the mode that the "
                "environment has."
            ) from error
        self.resets_itself = self._mode is not AutoresetMode.DISABLED

    def reset(self, seed: int | None) -> np.ndarray:
        """Starts E episodes; returns what they start from, `[E, O]`."""
        if self._workers is not None:
            self._workers.drain()
        if seed is not None:  # the sub-environments get this, this + 1, ...
            [seed] = derive_seeds(seed, "training", 1)
        observation, _ = self._checks.call("reset", self._env, seed=seed)
        self._ended = None
        return self._checks.rows(observation, self._batch)

    def reset_ended(self, ended: np.ndarray, rows: np.ndarray) -> None:
        """Starts episodes where `ended` is true, and writes these `rows`."""
        observation, _ = self._checks.call(
            "reset", self._env, options={"reset_mask": ended.copy()}
        )
        new_rows = self._checks.rows(observation, self._batch, where=ended)
        rows[ended] = new_rows[ended]

    def step(self, actions: np.ndarray) -> Step:
        """Takes one action in each environment, `[E, A]`, or `[E]`."""
        checks = self._checks
        answer = checks.call("step", self._env, actions)
        rows = checks.rows(answer[0], self._batch)
        reward = checks.rewards(answer[1], self._batch)
        terminated = checks.flags("terminated", answer[2], self._batch)
        truncated = checks.flags("truncated", answer[3], self._batch)
        ended = _some(terminated | truncated)
        next_rows, stepped = rows, None
        if self._mode is AutoresetMode.NEXT_STEP:
            stepped = None if self._ended is None else ~self._ended
            self._ended = ended
        elif self._mode is AutoresetMode.SAME_STEP and ended is not None:
            next_rows = rows.copy()
            next_rows[ended] = checks.final_rows(answer[4], ended)[ended]
        return Step(
            next_rows, reward, terminated, truncated, rows, ended, stepped
        )

    def limit(self, seconds: float | None) -> None:
        """Bounds the time that a step or a reset may take; `None` does not.

        Raises:
            ValueError: If the environment cannot be bound.
        """
        if self._workers is not None:
            self._workers.limit(seconds)
        elif seconds is not None:
            raise unbounded(describe(self._env))

    def _explain(self, error: Exception) -> str:
        if self._workers is None:
            return raised(error)
        reason = self._workers.explain(error)
        self._workers.kill()  # no call of it would work from here on
        return reason


def unbounded(name: str) -> ValueError:
    """The error that an environment's time cannot be bounded."""
    return ValueError(
        "Expected an environment in processes of its own, because what hangs "
        f"in this process cannot be stopped. Received: env_timeout= and {name}."
        ' Make one by gymnasium.make_vec(id, vectorization_mode="async").'
    )


def _some(mask: np.ndarray) -> np.ndarray | None:
    return mask if np.count_nonzero(mask) else None
