"""Damaged files of each kind that the library reads.

Half of the damage is found by checksums, where the file has some: what is
accepted nevertheless has to be what was saved. The other half has them made
right afterwards, and may be something else.
"""

import hashlib
import json
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Callable

import gymnasium
import keras
import numpy as np
import tensorflow as tf
from fuzz_damage import (
    damage,
    damage_json,
    forge_archive,
    forge_checkpoint,
    forge_index,
    forge_segment,
    pick,
)

import tfsac
from tfsac import checkpoint
from tfsac import manifest as manifests
from tfsac.serving.savedmodel import SavedModel

sys.path.append(str(pathlib.Path(__file__).parent.parent / "tests"))
from replay_reference import make_buffer, numbered  # noqa: E402
from small_agent import SampledEnv, fit, make, state  # noqa: E402

CLEAR_EVERY = 200
SPACE = gymnasium.spaces.Box(-1, 1, (3,))
RUN = {"steps_per_epoch": 20, "checkpoint_every": 10}
ROWS = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)


class Files:
    """Draws a file, damages a copy of it, and loads that."""

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory()
        self._root = pathlib.Path(self._folder.name)
        self._count = 0
        self._good = good = self._root / "good"
        agent = make(SampledEnv(SPACE), replay_capacity=64)
        fit(agent, checkpoint_dir=good / "run", callbacks=[stopping()], **RUN)
        agent.save(good / "agent" / "agent.keras")
        exported = agent.export(str(good / "trainable"), "trainable")
        model = tf.saved_model.load(exported)
        (good / "saved").mkdir()
        model.signatures["save"](path=tf.constant(f"{good}/saved/agent"))
        agent.export(str(good / "model"))
        buffer = make_buffer("kernels", 9, 3, 2)
        buffer.insert(numbered(0, 13))
        buffer.save(good / "replay")
        self._agent = agent
        self._buffers = {
            backend: make_buffer(backend, 9, 3, 2)
            for backend in ("kernels", "twin")
        }
        # How likely, how to damage it, how to load it.
        self._targets = {
            "agent.keras": (0.1, self._damage_agent, load_agent),
            "a run, loaded": (0.15, self._damage_run, load_run),
            "a run, resumed": (0.1, self._damage_run, self._resume),
            "replay buffer, kernels": self._replay("kernels"),
            "replay buffer, twin": self._replay("twin"),
            "what an exported agent saved": (
                0.1,
                self._damage_saved,
                lambda folder: digest(tfsac.load(folder / "agent")),
            ),
            "SavedModel": (0.15, self._damage_model, serve),
        }
        self._expected = {
            name: self._of_good(name, load)
            for name, (_, _, load) in self._targets.items()
        }

    def run(self, rng: np.random.Generator) -> tuple[str, str]:
        """Loads a damaged file; returns what it was and how that ended."""
        self._count += 1
        if self._count % CLEAR_EVERY == 0:
            keras.backend.clear_session()
        names = list(self._targets)
        odds = [self._targets[name][0] for name in names]
        name = names[int(rng.choice(len(names), p=odds))]
        folder = self._root / "damaged"
        is_forged = bool(rng.integers(2))
        _, harm, load = self._targets[name]
        harm(rng, folder, is_forged)
        try:
            found = load(folder)
        except Exception as error:
            outcome = type(error).__name__
        else:
            is_same = is_forged or found in self._expected[name]
            outcome = "accepted" if is_same else "accepted but different"
        finally:
            shutil.rmtree(folder)
        return name + ", checksums right" * is_forged, outcome

    def _of_good(
        self, name: str, load: Callable[[pathlib.Path], str]
    ) -> set[str]:
        """What may be loaded: of a run, also the checkpoint before."""
        folder = self._root / "whole"
        harm = self._targets[name][1]
        harm(None, folder, False)
        found = {load(folder)}
        if name == "a run, loaded":
            newest(folder).unlink()
            found.add(load(folder))
        shutil.rmtree(folder)
        return found

    def _resume(self, folder):
        # One agent for all: what it goes on from decides all that it does.
        self._agent.progress.env_steps = 0
        fit(self._agent, checkpoint_dir=folder, callbacks=[stopping()], **RUN)
        return digest(self._agent)

    def _damage_agent(self, rng, folder, is_forged):
        shutil.copytree(self._good / "agent", folder)
        path = folder / "agent.keras"
        if is_forged:
            forge_archive(rng, path)
        else:
            spoil(rng, path)

    def _damage_saved(self, rng, folder, is_forged):
        shutil.copytree(self._good / "saved", folder)
        if is_forged:
            forge_checkpoint(rng, folder / "agent")
        else:
            spoil_some(rng, folder, "agent.*")

    def _damage_model(self, rng, folder, is_forged):
        shutil.copytree(self._good / "model" / "1", folder)
        # Of its files only the variables have checksums that are looked at.
        spoil_some(rng, folder, "**/*.pb" if is_forged else "variables/*")

    def _damage_run(self, rng, folder, is_forged):
        shutil.copytree(self._good / "run", folder)
        if not is_forged:
            spoil_some(rng, folder, "**/*")
            return
        manifest = newest(folder)
        content = json.loads(manifest.read_text())["content"]
        name = pick(rng, ["manifest", *content["files"]])
        if name == "manifest":
            content = damage_json(rng, content)
        else:
            path = folder / name
            if path.suffix in (".keras", ".npz") and rng.integers(2):
                forge_archive(rng, path)
            elif path.suffix == ".index":
                forge_index(rng, path)
            else:
                spoil(rng, path)
            data = path.read_bytes()
            content["files"][name] = {
                "bytes": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
            }
        manifest.write_bytes(manifests.encode(content))

    def _replay(self, backend):
        def damage_replay(rng, folder, is_forged):
            shutil.copytree(self._good / "replay", folder)
            [index] = folder.glob("*.index")
            [segment] = folder.glob("*.segment")
            if not is_forged:
                spoil_some(rng, folder, "*")
            elif rng.integers(2):
                forge_index(rng, index)
            else:
                forge_segment(rng, segment, index)

        def load(folder):
            buffer = self._buffers[backend]
            buffer.restore(folder)
            return digest_of(buffer.inserted, *buffer.sample(2, 20))

        return 0.2, damage_replay, load


def load_agent(folder: pathlib.Path) -> str:
    """Loads the agent of a folder that has no checkpoints."""
    return digest(tfsac.load(folder / "agent.keras"))


def load_run(folder: pathlib.Path) -> str:
    """Loads a run's newest checkpoint, with what callbacks remember."""
    found = digest(tfsac.load(folder))
    callbacks = [stopping()]
    use = checkpoint.Checkpoints(folder).newest
    use(lambda c: c.restore_callbacks(callbacks))
    return found


def serve(folder: pathlib.Path) -> str:
    """Loads a model as `tfsac serve` does, and acts."""
    model = SavedModel(str(folder))
    try:
        return digest_of(*model.signatures["serving_default"]([ROWS]))
    finally:
        model.close()


def stopping() -> keras.callbacks.Callback:
    """A callback that remembers weights."""
    return keras.callbacks.EarlyStopping(
        "q_mean", mode="max", restore_best_weights=True
    )


def newest(folder: pathlib.Path) -> pathlib.Path:
    """The newest manifest of a run."""
    return max(folder.glob("*.json"), key=lambda p: int(p.stem.split("-")[1]))


def digest(agent: tfsac.SAC) -> str:
    """A digest of all that decides what an agent does next."""
    rows = agent.replay.sample(2, 20) if len(agent.replay) else ()
    settings = agent.config, agent.seed, agent.num_envs, agent.progress
    noise = agent.learning_noise.counter.numpy()
    return digest_of(repr(settings), noise, *state(agent).values(), *rows)


def digest_of(*values) -> str:
    """A digest of anything that NumPy takes."""
    found = hashlib.sha256()
    for value in values:
        array = np.asarray(value)
        found.update(f"{array.dtype} {array.shape}".encode())
        found.update(array.tobytes())
    return found.hexdigest()


def spoil(rng: np.random.Generator | None, path: pathlib.Path) -> None:
    """Damages a file; without `rng` it stays as it is."""
    if rng is not None:
        path.write_bytes(damage(rng, path.read_bytes()))


def spoil_some(rng, folder: pathlib.Path, pattern: str) -> None:
    """Damages one of the files that a pattern finds."""
    if rng is not None:
        paths = sorted(p for p in folder.glob(pattern) if p.is_file())
        spoil(rng, pick(rng, paths))
