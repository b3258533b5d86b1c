"""Environments whose every answer is checked, and errors that say what came."""

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import VectorEnv

from tfsac.action_spaces import check_action_space
from tfsac.spaces import Flattener, all_finite

# What a user may call an environment.
EnvLike = str | EnvSpec | gymnasium.Env | VectorEnv

LARGEST = float(np.finfo(np.float32).max)
_RETURNS = {
    "reset": "(observation, info)",
    "step": "(observation, reward, terminated, truncated, info)",
}


class EnvError(RuntimeError):
    """An environment raised, or returned what it must not."""


def env_id(env: EnvLike) -> str:
    """Returns the id of an environment, or the name of its class."""
    if isinstance(env, str):
        return env
    spec = env if isinstance(env, EnvSpec) else env.spec
    return spec.id if spec else type(getattr(env, "unwrapped", env)).__name__


def describe(env: EnvLike) -> str:
    """Returns what messages call an environment."""
    return f"environment {env_id(env)!r}"


class CheckedEnv:
    """One environment whose every answer is checked and flattened.

    Args:
        env: The environment.
        name: What messages call it.

    Raises:
        ValueError: If one of its spaces is not supported.
    """

    def __init__(self, env: gymnasium.Env, name: str):
        self.env = env
        self.observation_space = env.observation_space
        self.action_space = check_action_space(env.action_space, name)
        self._checks = Checks(name, env.observation_space)

    def reset(self, seed: int | None = None) -> np.ndarray:
        """Returns the first observation of a new episode, `[O]`."""
        observation, _ = self._checks.call("reset", self.env, seed=seed)
        return self._checks.rows(observation, ())

    def step(self, action: np.ndarray) -> tuple[np.ndarray, Any, Any, Any]:
        """Returns next observation `[O]`, reward, terminated, truncated."""
        checks = self._checks
        result = checks.call("step", self.env, action)
        observation, reward, terminated, truncated, _ = result
        row = checks.rows(observation, ())
        # The checks of arrays are slow on the numbers that nearly all return.
        if not (isinstance(reward, float) and abs(reward) <= LARGEST):
            reward = checks.rewards(reward, ())
        if not (terminated is False or terminated is True):
            terminated = checks.flags("terminated", terminated, ())
        if not (truncated is False or truncated is True):
            truncated = checks.flags("truncated", truncated, ())
        return row, reward, terminated, truncated


def raised(error: Exception) -> str:
    """Names an exception, as the end of a sentence."""
    return f"raised {type(error).__name__}: {error}"


class Checks:
    """What is expected of an environment's answers.

    Args:
        name: What messages call the environment.
        observation_space: Of one environment.
        explain: Says how a call of the environment failed, after "step() ".
            Defaults to naming what it raised.
    """

    def __init__(
        self,
        name: str,
        observation_space: gymnasium.Space[Any],
        explain: Callable[[Exception], str] = raised,
    ):
        self._name = name
        self._explain = explain
        self._flatten = Flattener(observation_space)
        self._method = "reset"
        self._steps = 0

    def call(self, method: str, env: Any, *args: Any, **kwargs: Any) -> Any:
        """Calls `env.reset` or `env.step`; returns the values it returned."""
        self._method = method
        self._steps += method == "step"
        try:
            result = getattr(env, method)(*args, **kwargs)
        except Exception as error:
            raise self._error(f"{method}() {self._explain(error)}") from error
        returns = _RETURNS[method]
        count = returns.count(",") + 1
        if not isinstance(result, tuple) or len(result) != count:
            raise self._expected(f"{method}() to return {returns}", result)
        return result

    def rows(
        self,
        observations: Any,
        batch: tuple[int, ...],
        where: np.ndarray | None = None,
    ) -> np.ndarray:
        """Returns observations as finite rows, `[*batch, O]`.

        Rows that are not in the mask `where` are not looked at, and zero.
        """
        try:
            rows = self._flatten(observations)
        except ValueError as error:
            raise self._error(str(error)) from error
        if rows.shape[:-1] != batch:
            raise self._expected(
                f"observations that flatten to the shape {(*batch, 'O')}",
                f"the shape {rows.shape}",
            )
        if where is not None:
            rows[~where] = 0
        if not all_finite(rows):
            i = np.argmin(np.isfinite(rows).all(axis=-1))
            raise self._expected(
                "finite observations, also as float32",
                f"{rows[i]} from sub-environment {i}" if batch else rows,
            )
        return rows

    def final_rows(self, infos: Any, ended: np.ndarray) -> np.ndarray:
        """Returns `[E, O]`, the final observations of those that ended."""
        final = infos.get("final_obs") if isinstance(infos, dict) else None
        if final is None:
            raise self._expected(
                "infos['final_obs'] at an episode's end, because the autoreset "
                "mode is SAME_STEP",
                infos,
            )
        if not (isinstance(final, np.ndarray) and final.dtype == object):
            return self.rows(final, ended.shape, where=ended)
        rows = np.zeros((len(ended), self._flatten.size), self._flatten.dtype)
        for i in np.flatnonzero(ended):
            rows[i] = self.rows(final[i], ())
        return rows

    def rewards(self, reward: Any, batch: tuple[int, ...]) -> np.ndarray:
        """Returns rewards as float64, `[*batch]`."""
        values = np.asarray(reward)
        if values.shape != batch or values.dtype.kind not in "fiub":
            what = (
                f"rewards of shape {batch}" if batch else "a number as reward"
            )
            raise self._expected(what, reward)
        values = values.astype(np.float64)
        is_fine = np.abs(values) <= LARGEST
        if not is_fine.all():
            i = np.argmin(is_fine)
            raise self._expected(
                "finite rewards, also as float32",
                f"{values[i]} from sub-environment {i}" if batch else reward,
            )
        return values

    def flags(self, name: str, flags: Any, batch: tuple[int, ...]) -> Any:
        """Returns `terminated` or `truncated` as bool, `[*batch]`."""
        values = np.asarray(flags)
        if values.shape != batch or values.dtype != bool:
            what = f"bools of shape {batch}" if batch else "a bool"
            raise self._expected(f"{name} to be {what}", flags)
        return values

    def _expected(self, what: str, received: Any) -> EnvError:
        return self._error(f"Expected {what}. Received: {received}")

    def _error(self, problem: str) -> EnvError:
        when = f"in step {self._steps}"
        if self._method == "reset":
            when = f"in the reset after {self._steps} steps"
        return EnvError(f"{self._name}, {when}: {problem}")
