"""The versions of a model: found on disk, loaded, swapped, unloaded."""

import asyncio
import concurrent.futures
import dataclasses
import gc
import logging
import os
import pathlib
import re

import grpc
from tensorflow_serving.apis import get_model_status_pb2

from tfsac.serving.batching import Batcher
from tfsac.serving.errors import ServingError, from_exception
from tfsac.serving.metrics import Metrics
from tfsac.serving.savedmodel import SavedModel

__all__ = ["Model", "Servable", "State", "Version", "not_found"]

_log = logging.getLogger(__name__)

State = get_model_status_pb2.ModelVersionStatus.State

# TensorFlow Serving's: a version that is being copied is whole at last.
_MAX_RETRIES = 5
_RETRY_SECONDS = 60.0


@dataclasses.dataclass(frozen=True, eq=False)
class Servable:
    """What a request gets: a version that is loaded.

    Attributes:
        number: Its number.
        model: Its signatures.
        batcher: What runs them.
    """

    number: int
    model: SavedModel
    batcher: Batcher


@dataclasses.dataclass(eq=False)
class Version:
    """One version of a model.

    Attributes:
        number: Its number.
        folder: Where it is.
        state: As TensorFlow Serving tells it.
        error: Why it could not be loaded.
        servable: It, while it is available.
        attempts: How often it was tried.
        next_attempt: When it is tried again, in the event loop's time.
    """

    number: int
    folder: pathlib.Path
    state: int = State.START
    error: ServingError | None = None
    servable: Servable | None = None
    attempts: int = 0
    next_attempt: float = 0.0


class Model:
    """A model whose highest version is served.

    A new version is loaded and warmed up while the old one answers. When it
    is available the old one takes no more requests, ends those that it has,
    and is unloaded. If it cannot be loaded the old one stays.

    Args:
        name: What clients call it.
        folder: Has a folder for each version, named by its number.
        max_rows: The largest batch.
        metrics: Is told.
    """

    def __init__(
        self,
        name: str,
        folder: pathlib.Path,
        max_rows: int,
        metrics: Metrics,
    ) -> None:
        self.name = name
        self.folder = folder
        self.versions: dict[int, Version] = {}
        self._max_rows = max_rows
        self._metrics = metrics
        self._latest: Version | None = None
        # One thread, so that loading takes at most a core from the others.
        self._loader = concurrent.futures.ThreadPoolExecutor(
            1, thread_name_prefix="loader"
        )

    def find(self, number: int | None = None) -> Servable:
        """The version that a request gets.

        Args:
            number: Defaults to `None`, the latest that is available.

        Returns:
            It, loaded.

        Raises:
            ServingError: If there is none.
        """
        version = self._latest
        if number is not None:
            version = self.versions.get(number)
        if version is None or version.servable is None:
            raise not_found(self.name, number)
        return version.servable

    async def poll(self) -> None:
        """Looks at the folder, and loads and unloads what that asks for."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(
            self._loader, _find_versions, self.folder
        )
        if found:
            await self._load_if_due(max(found), found[max(found)])
        newest = self._latest.number if found and self._latest else None
        for version in list(self.versions.values()):
            if version.state == State.AVAILABLE and version.number != newest:
                await self._unload(version)
            elif version.state == State.END and version.number not in found:
                del self.versions[version.number]

    async def close(self) -> None:
        """Unloads everything, once what is under way has ended."""
        for version in self.versions.values():
            if version.state == State.AVAILABLE:
                await self._unload(version)
        self._loader.shutdown()

    async def _load_if_due(self, number: int, folder: pathlib.Path) -> None:
        loop = asyncio.get_running_loop()
        version = self.versions.setdefault(number, Version(number, folder))
        if version.state == State.END and version.error is None:
            version.attempts = 0  # served before; its successor went
        elif version.state == State.AVAILABLE or (
            version.attempts > _MAX_RETRIES
            or loop.time() < version.next_attempt
        ):
            return
        version.state, version.error = State.LOADING, None
        version.attempts += 1
        try:
            model = await loop.run_in_executor(
                self._loader, SavedModel, str(version.folder)
            )
        except Exception as error:
            version.state = State.END
            version.error = from_exception(error)
            version.next_attempt = loop.time() + _RETRY_SECONDS
            _log.error("Cannot load %s: %s", version.folder, error)
            return
        batcher = Batcher(
            self._max_rows, lambda rows: self._metrics.batch(self.name, rows)
        )
        version.servable = Servable(number, model, batcher)
        version.state = State.AVAILABLE
        self._latest = version
        self._metrics.version(self.name, number, True)
        _log.info("Serving %s", version.folder)

    async def _unload(self, version: Version) -> None:
        servable, version.servable = version.servable, None
        if servable is None:
            raise RuntimeError(f"{version} is not available")
        version.state = State.UNLOADING
        if version is self._latest:
            self._latest = None
        await servable.batcher.close()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._loader, servable.model.close)
        del servable
        gc.collect()  # a graph has cycles
        version.state = State.END
        self._metrics.version(self.name, version.number, False)
        _log.info("Unloaded %s", version.folder)


def not_found(name: str, number: int | None) -> ServingError:
    """The error for a model or a version that is not there.

    Args:
        name: Which was asked for.
        number: The version, or `None` for the latest.

    Returns:
        It, in TensorFlow Serving's words.
    """
    wanted = f"Latest({name})"
    if number is not None:
        wanted = f"Specific({name}, {number})"
    return ServingError(
        f"Servable not found for request: {wanted}", grpc.StatusCode.NOT_FOUND
    )


def _find_versions(folder: pathlib.Path) -> dict[int, pathlib.Path]:
    """The folders that are named by a number; all others are skipped."""
    with os.scandir(folder) as entries:
        return {
            int(entry.name): pathlib.Path(entry.path)
            for entry in entries
            if re.fullmatch("[0-9]{1,18}", entry.name) and entry.is_dir()
        }
