"""How well a policy does: whole episodes from fixed starts."""

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv

from tfsac.action_spaces import to_env_actions
from tfsac.checked_env import CheckedEnv, EnvLike, describe
from tfsac.env import EnvStream, make
from tfsac.env_batch import derive_seeds
from tfsac.spaces import check_same_spaces

# Rows of observations [n, O] to actions [n, A] in the environment's units, or
# to [n] integers where they are Discrete.
Act = Callable[[np.ndarray], np.ndarray]

# Those of observations and of actions.
Spaces = tuple[gymnasium.Space[Any], gymnasium.Space[Any]]


class Evaluation(NamedTuple):
    """What each episode of an evaluation came to, in the order of starts."""

    returns: np.ndarray  # [episodes] float64, undiscounted
    lengths: np.ndarray  # [episodes] int64, steps


def evaluate(
    env: EnvLike,
    act: Act,
    episodes: int,
    seed: int = 0,
    spaces: Spaces | None = None,
    max_envs: int = 50,
) -> Evaluation:
    """Runs a policy for whole episodes from fixed starts.

    Episode i starts from `env.reset(seed=episode_seeds(seed, episodes)[i])`.
    From an id or a spec, environments of its own are made, and many episodes
    run at once, so that `act` is called with a batch; the result does not
    depend on how many, but for the rounding in `act`. A `gymnasium.Env` runs
    them one after another.

    A `VectorEnv` is seeded once, and each of its E environments contributes
    its first episodes, as many as its share is: taking those that end first
    would favour short ones. Episode i is then number i // E of environment
    i % E.

    Each episode has to end: an environment without an end of its own needs
    `gymnasium.wrappers.TimeLimit`.

    Example:
    ```python
    rng = np.random.default_rng(0)
    evaluation = evaluate(
        "Pendulum-v1", lambda rows: rng.uniform(-2, 2, (len(rows), 1)), 50
    )
    evaluation.returns.mean()  # about -1200
    ```

    Args:
        env: What to evaluate in; it must not be an environment that is being
            trained in. One that was passed in is left open, where the last
            episode left it.
        act: The policy: `[n, O]` observations to `[n, A]` actions in the
            environment's units, `[n]` where they are `Discrete`. Each call has
            the same n; the rows of episodes that have ended are there still,
            and are not used.
        episodes: How many episodes to run.
        seed: Decides the starts, and what else the environments draw.
            Defaults to `0`.
        spaces: The observation and the action space that `act` was made for,
            to be compared with those of `env`. Defaults to `None`, which
            compares nothing.
        max_envs: At most so many environments are open at once. Defaults to
            `50`.

    Returns:
        Returns and lengths of the episodes.

    Raises:
        EnvError: If an environment fails.
        ValueError: If spaces do not fit, `episodes` is not positive, or `act`
            returns actions of a wrong shape, NaN or infinity, or none of a
            discrete space.
    """
    if episodes < 1:
        raise ValueError(f"Expected episodes >= 1. Received: {episodes}.")
    if isinstance(env, VectorEnv):
        stream = EnvStream(env)
        _check_spaces(stream, spaces, stream.name)
        return _evaluate_stream(stream, act, episodes, seed)
    seeds = episode_seeds(seed, episodes)
    if isinstance(env, gymnasium.Env):
        return _evaluate_envs([env], act, seeds, spaces)
    with contextlib.ExitStack() as stack:
        envs = []
        for _ in range(min(episodes, max_envs)):
            envs.append(make(env))
            stack.callback(envs[-1].close)
        return _evaluate_envs(envs, act, seeds, spaces)


def episode_seeds(seed: int, episodes: int) -> list[int]:
    """Returns the seeds from which the episodes of an evaluation start.

    The first n of them do not depend on `episodes`, so that others can be
    evaluated from the same starts.
    """
    return derive_seeds(seed, "evaluation", episodes)


def _evaluate_envs(
    unchecked: list[gymnasium.Env],
    act: Act,
    seeds: list[int],
    spaces: Spaces | None,
) -> Evaluation:
    envs = [CheckedEnv(env, describe(env)) for env in unchecked]
    _check_spaces(envs[0], spaces, describe(unchecked[0]))
    returns = np.zeros(len(seeds))
    lengths = np.zeros(len(seeds), np.int64)
    rows = np.stack([e.reset(s) for e, s in zip(envs, seeds, strict=False)])
    running = dict(enumerate(range(len(envs))))  # environment: its episode
    waiting = iter(range(len(envs), len(seeds)))
    while running:
        actions = to_env_actions(envs[0].action_space, act(rows), len(envs))
        rows = rows.copy()  # `act` may have kept the last ones
        for i, episode in list(running.items()):
            rows[i], reward, terminated, truncated = envs[i].step(actions[i])
            returns[episode] += reward
            lengths[episode] += 1
            if terminated or truncated:
                del running[i]
                following = next(waiting, None)
                if following is not None:
                    running[i] = following
                    rows[i] = envs[i].reset(seeds[following])
    return Evaluation(returns, lengths)


def _evaluate_stream(
    stream: EnvStream, act: Act, episodes: int, seed: int
) -> Evaluation:
    returns = np.zeros(episodes)
    lengths = np.zeros(episodes, np.int64)
    stream.reset(*derive_seeds(seed, "evaluation", 1))
    following = np.arange(stream.num_envs)  # the episode that each is in
    while (following < episodes).any():
        stream.step(act(stream.observation))
        for i, episode_return, length in stream.episodes:
            if following[i] < episodes:
                returns[following[i]] = episode_return
                lengths[following[i]] = length
            following[i] += stream.num_envs
    return Evaluation(returns, lengths)


def _check_spaces(
    env: EnvStream | CheckedEnv, spaces: Spaces | None, name: str
) -> None:
    if spaces is not None:
        received = env.observation_space, env.action_space
        check_same_spaces(received, spaces, name)
