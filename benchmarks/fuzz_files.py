"""Damaged files of each kind that the library reads.

Half of the damage is found by checksums. The other half has them made right
afterwards, as somebody would who means harm.
"""

import hashlib
import json
import pathlib
import shutil
import struct
import sys
import tempfile
import zipfile
import zlib

import gymnasium
import keras
import numpy as np

import tfsac
from tfsac import checkpoint
from tfsac import manifest as manifests

sys.path.append(str(pathlib.Path(__file__).parent.parent / "tests"))
from replay_reference import make_buffer, numbered  # noqa: E402
from small_agent import SampledEnv, fit, make  # noqa: E402

INTEGERS = (0, 1, 2**15, 2**31 - 1, 2**32 - 1, 2**40, 2**62, 2**63, 2**64 - 1)
JUNK = (None, True, 0, -1, 2**31, 2**62, 1e308, float("nan"), "", "x" * 9_999)
INDEX_HEADER, SEGMENT_HEADER = 80, 64  # kernels/README.md
CLEAR_EVERY = 200


class Files:
    """Draws a file, damages a copy of it, and loads that."""

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory()
        self._root = pathlib.Path(self._folder.name)
        self._count = 0
        good = self._root / "good"
        spaces = gymnasium.spaces.Box(-1, 1, (3,))
        stopping = keras.callbacks.EarlyStopping(
            "q_mean", mode="max", restore_best_weights=True
        )
        fit(
            make(SampledEnv(spaces), replay_capacity=64),
            20,
            checkpoint_dir=good / "run",
            checkpoint_every=10,
            callbacks=[stopping],
        )
        make((spaces, gymnasium.spaces.Box(-2, 2, (1,)))).save(
            good / "agent" / "agent.keras"
        )
        buffer = make_buffer("kernels", 9, 3, 2)
        buffer.insert(numbered(0, 13))
        buffer.save(good / "replay")
        self._good = good
        self._buffers = {
            backend: make_buffer(backend, 9, 3, 2)
            for backend in ("kernels", "twin")
        }
        self._targets = {
            "agent.keras": (self._agent, 0.15),
            "a run's checkpoints": (self._run, 0.15),
            "replay buffer, kernels": (self._replay("kernels"), 0.35),
            "replay buffer, twin": (self._replay("twin"), 0.35),
        }

    def run(self, rng: np.random.Generator) -> tuple[str, str]:
        """Loads a damaged file; returns what it was and how that ended."""
        self._count += 1
        if self._count % CLEAR_EVERY == 0:
            keras.backend.clear_session()
        names = list(self._targets)
        odds = [self._targets[name][1] for name in names]
        name = names[int(rng.choice(len(names), p=odds))]
        folder = self._root / "damaged"
        is_forged = bool(rng.integers(2))
        load = self._targets[name][0](rng, folder, is_forged)
        if is_forged:
            name += ", checksums right"
        try:
            load()
        except Exception as error:
            return name, type(error).__name__
        finally:
            shutil.rmtree(folder)
        return name, "accepted"

    def _agent(self, rng, folder, is_forged):
        shutil.copytree(self._good / "agent", folder)
        path = folder / "agent.keras"
        if is_forged:
            forge_archive(rng, path)
        else:
            path.write_bytes(damage(rng, path.read_bytes()))
        return lambda: tfsac.load(path)

    def _run(self, rng, folder, is_forged):
        shutil.copytree(self._good / "run", folder)
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        newest = max(
            int(path.stem.split("-")[1]) for path in folder.glob("*.json")
        )
        path = pick(rng, paths)
        if not is_forged:
            path.write_bytes(damage(rng, path.read_bytes()))
            return lambda: tfsac.load(folder)
        manifest = folder / f"checkpoint-{newest}.json"
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
                path.write_bytes(damage(rng, path.read_bytes()))
            data = path.read_bytes()
            content["files"][name] = {
                "bytes": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
            }
        manifest.write_bytes(manifests.encode(content))

        def resume():
            tfsac.load(folder)
            # Which also reads what callbacks remember.
            use = checkpoint.Checkpoints(folder).newest
            use(lambda c: c.restore_callbacks([]))

        return resume

    def _replay(self, backend):
        def case(rng, folder, is_forged):
            shutil.copytree(self._good / "replay", folder)
            [index] = folder.glob("*.index")
            [segment] = folder.glob("*.segment")
            if not is_forged:
                path = pick(rng, [index, segment])
                path.write_bytes(damage(rng, path.read_bytes()))
            elif rng.integers(2):
                forge_index(rng, index)
            else:
                forge_segment(rng, segment, index)
            return lambda: self._buffers[backend].restore(folder)

        return case


def forge_archive(rng: np.random.Generator, path: pathlib.Path) -> None:
    """Damages a member of an archive, whose checksums are right again."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = pick(rng, list(members))
    if name.endswith(".json") and rng.random() < 0.8:
        content = damage_json(rng, json.loads(members[name]))
        members[name] = json.dumps(content).encode()
    else:
        members[name] = damage(rng, members[name])
    if rng.random() < 0.1:
        members[pick(rng, ["../x", "/x", "a/../../x", "x"])] = b"1"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def forge_index(rng: np.random.Generator, path: pathlib.Path) -> None:
    """Damages an index, whose checksums are right again."""
    data = bytearray(damage(rng, path.read_bytes()))
    if len(data) >= INDEX_HEADER:
        struct.pack_into("<I", data, 72, zlib.crc32(data[INDEX_HEADER:]))
        struct.pack_into("<I", data, 76, zlib.crc32(data[:76]))
    path.write_bytes(data)


def forge_segment(
    rng: np.random.Generator, path: pathlib.Path, index: pathlib.Path
) -> None:
    """Damages a segment, whose checksums are right again, here and there."""
    data = bytearray(damage(rng, path.read_bytes()))
    path.unlink()
    checksum = zlib.crc32(data[SEGMENT_HEADER:])
    if len(data) >= SEGMENT_HEADER:
        struct.pack_into("<I", data, 56, checksum)
        struct.pack_into("<I", data, 60, zlib.crc32(data[:60]))
    stem = path.stem.rpartition("-")[0]
    path.with_name(f"{stem}-{checksum:08x}.segment").write_bytes(data)
    other = bytearray(index.read_bytes())
    struct.pack_into("<I", other, INDEX_HEADER, checksum)
    struct.pack_into("<I", other, 72, zlib.crc32(other[INDEX_HEADER:]))
    struct.pack_into("<I", other, 76, zlib.crc32(other[:76]))
    index.write_bytes(other)


def damage(rng: np.random.Generator, good: bytes) -> bytes:
    """Flips, cuts, repeats or replaces a part."""
    data, kind = bytearray(good), rng.integers(6)
    at = int(rng.integers(max(1, len(data))))
    if rng.random() < 0.3:  # where headers are
        at %= 128
    if kind == 0:
        for _ in range(int(rng.choice([1, 1, 2, 8]))):
            data[at % len(data)] ^= 1 << int(rng.integers(8))
            at = int(rng.integers(len(data)))
    elif kind == 1:
        del data[at:]
    elif kind == 2:
        size = pick(rng, [4, 8])
        number = pick(rng, INTEGERS) % 2 ** (8 * size)
        data[at : at + size] = number.to_bytes(size, "little")
    elif kind == 3:
        data[at : at + 64] = rng.bytes(int(rng.integers(1, 64)))
    elif kind == 4:
        data[at:at] = data[: int(rng.integers(1, 200))]
    else:
        data[at : at + int(rng.integers(1, 200))] = b""
    return bytes(data)


def damage_json(rng: np.random.Generator, content):
    """Replaces, removes or repeats something at any depth."""
    if not isinstance(content, dict | list) or not content:
        return pick(rng, [*JUNK, [], {}, [content] * 3, {"a": content}])
    if rng.random() < 0.05:
        return pick(rng, [*JUNK, [], {}])
    keys = list(content) if isinstance(content, dict) else range(len(content))
    key = pick(rng, keys)
    changed = content.copy()
    how = rng.random()
    if how < 0.1:
        del changed[key]
    elif how < 0.15 and isinstance(changed, dict):
        changed[pick(rng, ["x", "../x", *keys])] = changed[key]
    elif isinstance(changed[key], int) and how < 0.6:
        changed[key] = pick(rng, [-1, 0, 2, *INTEGERS])
    else:
        changed[key] = damage_json(rng, changed[key])
    return changed


def pick(rng: np.random.Generator, options):
    """One of them."""
    return options[int(rng.integers(len(options)))]
