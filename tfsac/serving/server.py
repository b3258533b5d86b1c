"""The server: REST and gRPC in one process, on one event loop."""

import asyncio
import contextlib
import dataclasses
import gc
import logging
import pathlib
import signal
import sys
from collections.abc import AsyncIterator, Mapping

import grpc
from aiohttp import web

from tfsac.serving import connections, rest, rpc
from tfsac.serving.intake import Limits
from tfsac.serving.metrics import Metrics
from tfsac.serving.models import Model
from tfsac.serving.service import Service

__all__ = ["Addresses", "run", "serve"]

_log = logging.getLogger(__name__)

_GRACE_SECONDS = 10.0
# Loading a version is Python on another thread: the event loop gets the
# interpreter back within this, instead of 5 ms.
_SWITCH_SECONDS = 5e-4


@dataclasses.dataclass(frozen=True)
class Addresses:
    """Where the server listens.

    Attributes:
        host: A name or an address.
        rest_port: That of REST; 0 is any that is free.
        grpc_port: The same of gRPC.
    """

    host: str = "127.0.0.1"
    rest_port: int = 8501
    grpc_port: int = 8500


@contextlib.asynccontextmanager
async def serve(
    folders: Mapping[str, pathlib.Path],
    addresses: Addresses,
    limits: Limits,
    batching: bool = True,
    poll_seconds: float = 1.0,
) -> AsyncIterator[tuple[Service, Addresses]]:
    """Serves models while the context lasts.

    What is under way at its end is answered, for at most 10 seconds.

    Args:
        folders: That of each model, by name.
        addresses: Where to listen.
        limits: What clients may ask for.
        batching: Whether requests of several clients share a call. Defaults
            to `True`.
        poll_seconds: How often to look for new versions. Defaults to 1.0.

    Yields:
        What answers, and the addresses with the ports that were free.

    Raises:
        OSError: If a port is taken.
    """
    metrics = Metrics(list(folders))
    max_rows = limits.max_batch_rows if batching else 1
    models = {
        name: Model(name, folder, max_rows, metrics)
        for name, folder in folders.items()
    }
    service = Service(models, limits, metrics)
    for model in models.values():
        await model.poll()
    runner = web.AppRunner(
        rest.application(service),
        access_log=None,
        keepalive_timeout=connections.IDLE_SECONDS,
        shutdown_timeout=_GRACE_SECONDS,
    )
    grpc_server = rpc.server(service)
    polling: list[asyncio.Task[None]] = []
    rest_server = None
    try:
        await runner.setup()
        rest_server, rest_port = await connections.listen(
            runner, addresses.host, addresses.rest_port
        )
        grpc_port = await _listen(
            grpc_server, addresses.host, addresses.grpc_port
        )
        polling = [
            asyncio.create_task(_poll(model, poll_seconds))
            for model in models.values()
        ]
        yield service, Addresses(addresses.host, rest_port, grpc_port)
    finally:
        for task in polling:
            task.cancel()
        await asyncio.gather(*polling, return_exceptions=True)
        if rest_server:
            rest_server.close()
        await asyncio.gather(grpc_server.stop(_GRACE_SECONDS), runner.cleanup())
        for model in models.values():
            await model.close()
        service.intake.close()


async def _listen(server: grpc.aio.Server, host: str, port: int) -> int:
    host = f"[{host}]" if ":" in host else host
    try:
        port = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError as error:
        raise OSError(f"Cannot listen on {host}:{port}: {error}") from error
    await server.start()
    return port


async def _poll(model: Model, seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            await model.poll()
        except Exception:  # what is loaded goes on, and so does looking
            _log.exception("Cannot look for versions of %s", model.name)


def run(
    folders: Mapping[str, pathlib.Path],
    addresses: Addresses,
    limits: Limits,
    batching: bool = True,
    poll_seconds: float = 1.0,
) -> None:
    """Serves until SIGINT or SIGTERM, and tells where.

    Args:
        folders: That of each model, by name.
        addresses: Where to listen.
        limits: What clients may ask for.
        batching: Whether requests of several clients share a call. Defaults
            to `True`.
        poll_seconds: How often to look for new versions. Defaults to 1.0.

    Raises:
        OSError: If a port is taken, or a folder cannot be read.
    """

    async def main() -> None:
        # What is here now stays: a collection need not look at it, which would
        # stop all requests for tens of milliseconds. Models come later, since
        # what is frozen is never freed.
        gc.collect()
        gc.freeze()
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        async with serve(
            folders, addresses, limits, batching, poll_seconds
        ) as (service, listening):
            _tell(service, listening)
            await stop.wait()
            print("Stopping", flush=True)

    sys.setswitchinterval(_SWITCH_SECONDS)
    asyncio.run(main())


def _tell(service: Service, listening: Addresses) -> None:
    for name, model in sorted(service.models.items()):
        print(f"{name} from {model.folder}")
    host = listening.host
    host = f"[{host}]" if ":" in host else host
    print(f"REST  http://{host}:{listening.rest_port}/v1/models")
    print(f"gRPC  {host}:{listening.grpc_port}")
    print(f"Status  http://{host}:{listening.rest_port}/", flush=True)
