"""Connections of clients: as many as there are descriptors for, none for ever.

A client that connects and says nothing costs a descriptor. So REST and gRPC get
a third of them each, and close what is idle; the rest is for models.
"""

import asyncio
import resource
from typing import cast

from aiohttp import web

__all__ = ["IDLE_SECONDS", "listen", "most"]

IDLE_SECONDS = 75
_MOST = 10_000
_REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
    b"Connection: close\r\nContent-Length: 33\r\n\r\n"
    b'{"error": "Too many connections"}'
)


def most() -> int:
    """How many connections each protocol may have.

    Returns:
        A third of the descriptors that this process may open.
    """
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        return _MOST
    return min(_MOST, descriptors // 3)


async def listen(
    runner: web.AppRunner, host: str, port: int
) -> tuple[asyncio.Server, int]:
    """Listens for HTTP; one connection more than `most` is told 503.

    Args:
        runner: Is set up, and has the application.
        host: A name or an address.
        port: 0 is any that is free.

    Returns:
        What listens, and its port.

    Raises:
        OSError: If the port is taken.
    """
    server, bound = cast(web.Server, runner.server), most()
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(
        lambda: _Entrance(server, bound), host, port
    )
    return listening, listening.sockets[0].getsockname()[1]


class _Entrance(asyncio.Protocol):
    """Counts when a connection is made: several are accepted before that."""

    def __init__(self, server: web.Server, bound: int) -> None:
        self._server, self._bound = server, bound

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        writing = cast(asyncio.Transport, transport)
        if len(self._server.connections) >= self._bound:
            writing.write(_REFUSAL)
            writing.close()
            return
        protocol = self._server()
        writing.set_protocol(protocol)
        protocol.connection_made(writing)
