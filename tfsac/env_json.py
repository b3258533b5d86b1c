"""Environments as JSON in saved agents, and which of them are believed.

Whoever makes an environment calls what its spec names. A saved agent may come
from anybody, so that its spec is made only of what this process knows: the
registered environments and Gymnasium's own wrappers.
"""

import sys
import warnings

import gymnasium
from gymnasium.envs.registration import EnvSpec

from tfsac.env import EnvLike, recipe

__all__ = ["env_from_json", "env_to_json"]

_WRAPPERS = "gymnasium.wrappers."


def env_to_json(env: EnvLike) -> str | None:
    """Describes how to make `env` again, or `None` if nothing tells how.

    Args:
        env: Id, spec or environment.

    Returns:
        An id, or what `gymnasium.envs.registration.EnvSpec.from_json` reads.
    """
    try:
        made_of = recipe(env)
        if isinstance(made_of, str):
            return made_of
        if made_of == gymnasium.registry.get(made_of.id):
            return made_of.id
        return made_of.to_json()
    except (TypeError, ValueError):
        # No spec, or one that JSON cannot hold: then `load` needs an env.
        return None


def env_from_json(text: str | None) -> str | EnvSpec | None:
    """Reads what `env_to_json` wrote; makes, imports and calls nothing.

    Args:
        text: What it wrote, or what somebody else did.

    Returns:
        The id or spec. `None`, with a warning, where making it would import
        a module or call a function that the text names.
    """
    if text is None:
        return None
    env = EnvSpec.from_json(text) if text.startswith("{") else text
    problem = _problem(env)
    if problem is None:
        return env
    warnings.warn(
        f"The file names {problem}, which it is not trusted to have run. "
        "Import its module first, or pass the environment as env=.",
        stacklevel=2,
    )
    return None


def _problem(env: str | EnvSpec) -> str | None:
    """Returns what making the environment would run that is not known."""
    if isinstance(env, str):
        module, colon, _ = env.rpartition(":")
        known = not colon or module in sys.modules
        return None if known else f"the module {module!r}"
    registered = gymnasium.registry.get(env.id)
    if (
        registered is None
        or registered.entry_point != env.entry_point
        or env.vector_entry_point not in (None, registered.vector_entry_point)
    ):
        return f"{env.entry_point!r} as the environment {env.id!r}"
    for wrapper in env.additional_wrappers:
        module, _, name = wrapper.entry_point.partition(":")
        kind = getattr(sys.modules.get(module), name, None)
        if not (
            module.startswith(_WRAPPERS)
            and isinstance(kind, type)
            and issubclass(kind, gymnasium.Wrapper)
        ):
            return f"the wrapper {wrapper.entry_point!r}"
    return None
