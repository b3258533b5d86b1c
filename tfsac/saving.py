"""Saving an agent to go on with later."""

import contextlib
import dataclasses
import hashlib
import os
import pathlib
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import keras
import tensorflow as tf

from tfsac import export_trainable, files, keras_file, replay_files
from tfsac.checkpoint import Checkpoint, Checkpoints, is_run
from tfsac.env_json import env_from_json, env_to_json
from tfsac.spaces_json import space_from_dict, space_to_dict

if TYPE_CHECKING:
    from tfsac.agent import Agent

__all__ = ["agent_config", "agent_from_config", "load", "save"]

_AgentT = TypeVar("_AgentT", bound="Agent")

_AGENT = "agent.keras"
_REPLAY = "replay"

# What Keras raises of a config that is none.
_FROM_KERAS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RecursionError,
    TypeError,
    ValueError,
)


def save(
    agent: "Agent",
    path: str,
    overwrite: bool,
    include_replay: bool,
    **kwargs: Any,
) -> None:
    """Writes a `.keras` file, or `agent.keras` and `replay/` in a directory.

    Each file is written under another name, synced and renamed. Transitions
    are saved under a name that tells which `agent.keras` they belong to, and
    before it: renaming that takes both from the old save to the new, at once.

    Args:
        agent: What to save.
        path: Where to.
        overwrite: Whether what is there may be replaced.
        include_replay: Whether to save the replay buffer too.
        **kwargs: As for `keras.Model.save`.

    Raises:
        FileExistsError: If `path` exists and `overwrite` is false.
        ValueError: If the replay buffer should go into a `.keras` file, or the
            directory holds the checkpoints of a run.
    """
    to = pathlib.Path(path)
    is_file = path.endswith(".keras")
    if is_file and include_replay:
        raise ValueError(
            "Expected a directory to save the replay buffer in. Received: "
            f"path={path!r}, a single file, with include_replay=True."
        )
    if not overwrite and to.exists():
        raise FileExistsError(
            "Expected a path that does not exist yet, since overwrite=False. "
            f"Received: path={path!r}, which exists."
        )
    if is_run(to):
        raise ValueError(
            "Expected a directory without the checkpoints of a run, since "
            f"these are what tfsac.load would load. Received: path={path!r}. "
            f"Pass another one, or a file: {str(to / _AGENT)!r}."
        )
    folder = to.parent if is_file else to
    files.make_directory(folder)
    files.sync_above(folder)
    if is_file:
        with files.replacing(to) as aside:
            keras.Model.save(agent, aside, **kwargs)
        files.sync_directory(folder)
    else:
        _save_directory(agent, to, include_replay, kwargs)


def _save_directory(
    agent: "Agent",
    root: pathlib.Path,
    include_replay: bool,
    options: dict[str, Any],
) -> None:
    """Replaces only what is ours: others may keep their logs beside it."""
    replay = root / _REPLAY
    before, name = _replay_names(replay), None
    try:
        with files.replacing(root / _AGENT) as aside:
            keras.Model.save(agent, aside, **options)
            if include_replay:
                name = _replay_name(aside)
                agent.replay.save(replay, name)
                files.sync_directory(root)
    except BaseException:
        with contextlib.suppress(tf.errors.OpError):
            _remove_replay(replay, _replay_names(replay) - before)
        raise
    files.sync_directory(root)
    _remove_replay(replay, before - {name})


def _replay_name(agent_file: pathlib.Path) -> str:
    """The name of the transitions that belong to an agent's file."""
    with agent_file.open("rb") as file:
        return f"agent-{hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"


def _replay_names(replay: pathlib.Path) -> set[str]:
    """Names of saves of ours; "replay" is one of before they told the agent."""
    found = [*replay.glob("agent-*.index"), *replay.glob("replay.index")]
    return {path.stem for path in found}


def _remove_replay(replay: pathlib.Path, names: Iterable[str]) -> None:
    """Removes saves of the replay buffer, and a folder that is empty then."""
    if not replay.is_dir():
        return
    for name in names:
        files.remove(replay / f"{name}.index")
    replay_files.remove_unnamed(replay)
    with contextlib.suppress(OSError):
        replay.rmdir()


def _restore_replay(agent: "Agent", root: pathlib.Path) -> None:
    """Gives a loaded agent its transitions, if they were saved with it."""
    replay = root / _REPLAY
    names = _replay_names(replay)
    if not names:
        return
    name = _replay_name(root / _AGENT)
    if name not in names and names != {"replay"}:
        warnings.warn(
            f"{replay} holds the transitions of another save than "
            f"{root / _AGENT}; they are left out.",
            stacklevel=3,
        )
    else:
        agent.replay.restore(replay, name if name in names else "replay")


def agent_config(agent: "Agent") -> dict[str, Any]:
    """Returns what `agent_from_config` makes an equal, untrained agent of."""
    serialize = keras.saving.serialize_keras_object
    return {
        "observation_space": space_to_dict(agent.observation_space),
        "action_space": space_to_dict(agent.action_space),
        "env": None if agent.env is None else env_to_json(agent.env),
        "config": dataclasses.asdict(agent.config),
        "seed": agent.seed,
        "num_envs": agent.num_envs,
        "actor": serialize(agent.actor),
        "critic": serialize(agent.critic),
        "name": agent.name,
    }


def agent_from_config(
    cls: type[_AgentT], config: dict[str, Any], custom_objects: Any
) -> _AgentT:
    """Makes an agent of what `agent_config` returned.

    Args:
        cls: The agent's class.
        config: What `agent_config` returned.
        custom_objects: Classes of the user's own models by name.
    """
    deserialize = keras.saving.deserialize_keras_object
    construct: Any = cls  # algorithms take the same arguments
    agent: _AgentT = construct(
        (
            space_from_dict(config["observation_space"]),
            space_from_dict(config["action_space"]),
        ),
        cls.CONFIG(**config["config"]),
        seed=config["seed"],
        num_envs=config["num_envs"],
        actor=deserialize(config["actor"], custom_objects),
        critic=deserialize(config["critic"], custom_objects),
        name=config["name"],
    )
    # Not made yet: whoever loads the agent may not have this environment.
    agent.env = env_from_json(config["env"])
    return agent


def load(
    path: str | os.PathLike[str],
    env: Any = None,
    custom_objects: dict[str, Any] | None = None,
) -> "Agent":
    """Loads an agent that `agent.save` or a checkpoint of `fit` wrote.

    Or what an agent saved that `agent.export(format="trainable")` had written;
    this sees no environment, and so its `env_steps` are those of the export.

    Weights, target critics, optimizers, temperature, config, counters and
    random generators come back; the replay buffer too, from a checkpoint, or
    if it was saved with `include_replay=True`. Nothing in the files is run, so
    that they may come from anybody: an environment is made of the saved spec
    only if it is registered here.

    Example:

    ```python
    agent.save("runs/cheetah", include_replay=True)
    agent = tfsac.load("runs/cheetah")
    agent.fit(epochs=10, steps_per_epoch=10_000)
    ```

    Args:
        path: A directory or a `.keras` file. Of a run's checkpoints, the
            newest one that is whole is loaded; a warning tells of others. Or
            the path that an exported agent's signature `save` was given.
        env: The environment to go on with, as for `tfsac.SAC`; its spaces must
            be those that were saved. Defaults to a fresh one of the saved
            spec, if there was one.
        custom_objects: Classes of one's own models by name, as for
            `keras.saving.load_model`. Defaults to `None`.

    Returns:
        The agent.

    Raises:
        FileNotFoundError: If there is no agent at `path`.
        ValueError: If the file is damaged or holds something else, or `env`
            has other spaces.
        tf.errors.OpError: If the transitions are damaged, or all checkpoints.
    """
    root = pathlib.Path(path)
    if loaded := load_run(root, env, custom_objects):
        return loaded[0]
    file = root / _AGENT if root.is_dir() else root
    if not file.is_file() and not export_trainable.is_saved(file):
        raise FileNotFoundError(
            f"Expected an agent that agent.save wrote: a .keras file, a "
            f"directory with {_AGENT} in it, or one of checkpoints; or what an "
            f"exported agent saved. Received: {str(path)!r}."
        )
    agent = _load_agent(file, env, custom_objects)
    if root.is_dir():
        _restore_replay(agent, root)
    return agent


def load_run(
    folder: pathlib.Path,
    env: Any = None,
    custom_objects: dict[str, Any] | None = None,
) -> "tuple[Agent, Checkpoint] | None":
    """Loads the agent of a run's newest good checkpoint.

    Args:
        folder: The run's.
        env: As for `load`.
        custom_objects: As for `load`.

    Returns:
        The agent and the checkpoint, or `None` if there is none.
    """

    def use(checkpoint: Checkpoint) -> "tuple[Agent, Checkpoint]":
        agent = _load_agent(checkpoint.agent_file, env, custom_objects)
        checkpoint.restore_replay(agent)
        return agent, checkpoint

    return Checkpoints(folder).newest(use)


def _load_agent(
    file: pathlib.Path, env: Any, custom_objects: dict[str, Any] | None
) -> "Agent":
    from tfsac.agent import Agent  # agent.py imports this file

    agent: Any
    try:
        if file.is_file():
            keras_file.check(file, custom_objects)
            agent = keras.saving.load_model(
                file, custom_objects, safe_mode=True
            )
        else:
            agent = export_trainable.load(file, custom_objects)
    except _FROM_KERAS as error:
        if str(file) in str(error):
            raise
        raise ValueError(
            f"Expected a file that tfsac wrote. Received: {str(file)!r}, of "
            f"which Keras makes no agent: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(agent, Agent):
        raise ValueError(
            "Expected a file that tfsac wrote. Received: "
            f"{str(file)!r}, which holds a {type(agent).__name__}."
        )
    if env is not None:
        agent.attach(env)
    return agent
