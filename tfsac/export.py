"""The policy for where there is no tfsac, in one of several formats."""

import dataclasses
import importlib.metadata
import json
import pathlib
import platform
import shutil
import uuid
from typing import TYPE_CHECKING, Any

from tfsac import (
    export_litert,
    export_native,
    export_onnx,
    export_saved_model,
    export_trainable,
    parity,
)
from tfsac.checked_env import env_id
from tfsac.spaces_json import space_to_dict

if TYPE_CHECKING:
    from tfsac.agent import Agent

__all__ = ["FORMATS", "export"]

# Each writes into a folder, and returns what runs what it wrote.
FORMATS = {
    "tf_saved_model": export_saved_model.write,
    "litert": export_litert.write,
    "onnx": export_onnx.write,
    "native": export_native.write,
    "trainable": export_trainable.write,
}
_PACKAGES = (
    "tensorflow",
    "keras",
    "tensorflow-probability",
    "gymnasium",
    "numpy",
)


def export(agent: "Agent", directory: str, format: str, **options: Any) -> str:
    """Writes the policy as the next version of a model.

    The layout is TensorFlow Serving's: `directory/<highest version + 1>/`,
    written under another name and renamed, so that a server never sees half a
    model. Beside the model, and for a SavedModel in its `assets.extra`:

    - `tfsac.json` tells spaces, config, versions and training;
    - `parity.json` how far its actions are from the agent's (`parity.report`).

    Args:
        agent: Whose policy.
        directory: The model's folder; made if need be.
        format: One of `FORMATS`.
        **options: Those of the format's `write`.

    Returns:
        The folder of the version written.

    Raises:
        ValueError: If there is no such format, or it cannot hold the policy.
        ImportError: If the format needs a package that is missing.
    """
    if format not in FORMATS:
        raise ValueError(
            f"Expected one of the formats {', '.join(FORMATS)}. "
            f"Received: format={format!r}."
        )
    base = pathlib.Path(directory)
    base.mkdir(parents=True, exist_ok=True)
    # A name of its own, since others may be exporting into the same folder.
    aside = base / f".{uuid.uuid4().hex}.tmp"
    aside.mkdir()
    try:
        act = FORMATS[format](agent, aside, **options)
        extra = aside / "assets.extra"  # where a SavedModel has room for it
        notes = extra if extra.exists() else aside
        _write_json(notes / "tfsac.json", _card(agent, format, options))
        _write_json(notes / "parity.json", parity.report(agent, act))
        return str(_publish(aside, base))
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _publish(aside: pathlib.Path, base: pathlib.Path) -> pathlib.Path:
    """Renames a whole version to the next number, which it returns."""
    while True:
        versions = [int(p.name) for p in base.iterdir() if p.name.isdecimal()]
        final = base / str(max(versions, default=0) + 1)
        try:
            return aside.rename(final)
        except OSError:
            if not final.exists():  # else another one came first
                raise


def _write_json(path: pathlib.Path, content: dict[str, Any]) -> None:
    def plain(value: Any) -> Any:
        """What JSON knows: a config may hold NumPy's numbers."""
        return value.item() if hasattr(value, "item") else str(value)

    path.write_text(json.dumps(content, indent=2, default=plain) + "\n")


def _card(
    agent: "Agent", format: str, options: dict[str, Any]
) -> dict[str, Any]:
    from tfsac import __version__  # __init__.py imports this file

    return {
        "format": 1,
        "export": {"format": format, **options},
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
