"""What comes in: bounded in number, in bytes, in rows and in time."""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import grpc
import tensorflow as tf

from tfsac.serving.errors import ServingError

__all__ = ["Intake", "Limits", "check_rows"]

_Convert = Callable[..., Awaitable[Any]]

# What is converted on the event loop: it takes some milliseconds.
_SMALL = 2**15
# Of the largest size, half read. Clients that send slowly fill little of it.
_BODIES_BEING_READ = 16


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a client may ask for; all of it bounds memory or time.

    Attributes:
        max_batch_rows: Of one request, and of a batch of several.
        max_requests: Waiting or running at the same time. One more gets
            `UNAVAILABLE`.
        max_payload: Of one request, in bytes.
        timeout: Of one request, in seconds.
    """

    max_batch_rows: int = 1_000
    max_requests: int = 256
    max_payload: int = 16 * 2**20
    timeout: float = 30.0


class Intake:
    """Reads and converts requests within limits.

    Args:
        limits: Which.

    Attributes:
        requests: How many are waiting or running.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.requests = 0
        self._bytes = 0  # of bodies that are not whole
        # Big requests are converted one after another, since JSON becomes
        # objects of ten times its size.
        self._big = asyncio.Lock()
        self._thread = concurrent.futures.ThreadPoolExecutor(
            1, thread_name_prefix="convert"
        )

    @contextlib.contextmanager
    def slot(self) -> Iterator[None]:
        """Surrounds a request that has come as a whole.

        Raises:
            ServingError: `UNAVAILABLE`, if there are too many.
        """
        if self.requests >= self._limits.max_requests:
            raise _overloaded()
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    async def read(
        self, chunks: AsyncIterator[bytes], deadline: float
    ) -> bytes:
        """Reads a body; a client that sends it slowly takes no slot.

        Args:
            chunks: Of the body.
            deadline: In the event loop's time.

        Returns:
            The body.

        Raises:
            ServingError: If it is too large, or comes too late; `UNAVAILABLE`
                if those that are being read hold too many bytes.
        """
        body = bytearray()
        try:
            async with asyncio.timeout_at(deadline):
                async for chunk in chunks:
                    body += chunk
                    self._bytes += len(chunk)
                    self._check_bytes(len(body))
        except TimeoutError:
            raise _late("Timed out while reading the request") from None
        finally:
            self._bytes -= len(body)
        return bytes(body)

    def _check_bytes(self, of_body: int) -> None:
        largest = self._limits.max_payload
        if of_body > largest:
            raise ServingError(
                f"Expected a request of at most {largest} bytes",
                http_status=413,
            )
        if self._bytes > _BODIES_BEING_READ * largest:
            raise _overloaded()

    @contextlib.asynccontextmanager
    async def converter(
        self, size: int, deadline: float
    ) -> AsyncIterator[_Convert]:
        """What converts a request without keeping others from being answered.

        Args:
            size: Of the request, in bytes.
            deadline: In the event loop's time.

        Yields:
            What calls a function with arguments: at once for a small request,
            on a thread for a big one.

        Raises:
            ServingError: `DEADLINE_EXCEEDED`.
        """
        if size <= _SMALL:
            yield _here
            return
        try:
            async with asyncio.timeout_at(deadline), self._big:
                yield self._on_thread
        except TimeoutError:
            raise _late("Timed out while converting the request") from None

    async def _on_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._thread, _without_collections, function, *args
        )

    def close(self) -> None:
        """Ends the thread."""
        self._thread.shutdown()


def _without_collections(function: Callable[..., Any], *args: Any) -> Any:
    """Calls a function that makes millions of objects, and no cycles.

    Looking at them again and again, which is done for cycles, would take ten
    times as long, and would stop everybody.
    """
    gc.disable()
    try:
        return function(*args)
    finally:
        gc.enable()


async def _here(function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)


def check_rows(spec: tf.TensorSpec, rows: int, max_rows: float) -> None:
    """Refuses more rows than a request may have, before they are converted.

    Args:
        spec: Of the input. If it does not begin with a dimension of any size
            it has no rows, and its shape is for the kernels to check.
        rows: The size of the first dimension.
        max_rows: The bound.

    Raises:
        ServingError: In TensorFlow Serving's words.
    """
    if spec.shape.rank and spec.shape[0] is None and rows > max_rows:
        raise ServingError(
            f"Task size {rows} is larger than maximum input batch size "
            f"{max_rows}"
        )


def _overloaded() -> ServingError:
    return ServingError(
        "The batch scheduling queue to which this task was submitted is full",
        grpc.StatusCode.UNAVAILABLE,
    )


def _late(message: str) -> ServingError:
    return ServingError(message, grpc.StatusCode.DEADLINE_EXCEEDED)
