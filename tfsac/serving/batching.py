"""Requests of many clients that become one call of the model.

One call at a time runs on a thread; what arrives meanwhile waits, and runs
together next. So a request that comes alone never waits for others, and the
more there are, the larger the batches.
"""

import asyncio
import collections
import concurrent.futures
import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence

import grpc
import numpy as np

from tfsac.serving.errors import ServingError, from_exception
from tfsac.serving.savedmodel import Signature

__all__ = ["Batcher"]

_Outputs = list[np.ndarray]


@dataclasses.dataclass(slots=True, eq=False)
class _Task:
    signature: Signature
    inputs: Sequence[np.ndarray]
    rows: int | None  # None: shares its call with no other
    answer: "asyncio.Future[_Outputs]"
    started: bool = False

    def joins(self, other: "_Task") -> bool:
        """Whether both can be one call: what numpy can put together."""
        return (
            self.rows is not None
            and other.rows is not None
            and self.signature is other.signature
            and all(
                mine.shape[1:] == its.shape[1:] and mine.dtype == its.dtype
                for mine, its in zip(self.inputs, other.inputs, strict=True)
            )
        )


class Batcher:
    """Runs the signatures of one version of a model.

    Requests share a call if they want the same signature, follow one another,
    fit it and are alike but for their rows: a request with a wrong shape runs
    by itself, so that nobody else gets its error. If a call of several fails
    all the same, each of them is tried alone.

    Args:
        max_rows: The largest batch. 1 runs each request by itself.
        on_batch: Told of the rows of each batch.
    """

    def __init__(self, max_rows: int, on_batch: Callable[[int], None]) -> None:
        self._max_rows = max_rows
        self._on_batch = on_batch
        self._waiting: collections.deque[_Task] = collections.deque()
        self._running = False
        self._holders = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._thread = concurrent.futures.ThreadPoolExecutor(
            1, thread_name_prefix="model"
        )

    async def run(
        self,
        signature: Signature,
        inputs: Sequence[np.ndarray],
        deadline: float,
    ) -> _Outputs:
        """Runs a signature, with whoever else waits.

        Args:
            signature: One of the model's.
            inputs: One array for each of its inputs.
            deadline: When to give up, in the event loop's time.

        Returns:
            One array for each of its outputs: the rows of this request.

        Raises:
            ServingError: What a kernel found wrong; `DEADLINE_EXCEEDED`;
                `RESOURCE_EXHAUSTED` if the deadline passed in the queue.
        """
        rows = len(inputs[0]) if signature.fits(inputs) else None
        loop = asyncio.get_running_loop()
        task = _Task(signature, inputs, rows, loop.create_future())
        self._waiting.append(task)
        if not self._running:
            self._start(loop)
        try:
            async with asyncio.timeout_at(deadline):
                return await task.answer
        except TimeoutError:
            if task.started:
                raise ServingError(
                    "Timed out waiting for notification",
                    grpc.StatusCode.DEADLINE_EXCEEDED,
                ) from None
            raise ServingError(
                "Run() timeout exceeded while waiting in batching queue",
                grpc.StatusCode.RESOURCE_EXHAUSTED,
            ) from None

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Surrounds a request, from when it finds this version."""
        self._holders += 1
        self._note()
        try:
            yield
        finally:
            self._holders -= 1
            self._note()

    async def close(self) -> None:
        """Waits until nobody needs it; nothing may be run after that."""
        await self._idle.wait()
        self._thread.shutdown()

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Runs the next batch, if somebody waits."""
        batch = self._next_batch()
        self._running = bool(batch)
        self._note()
        if not batch:
            return
        self._on_batch(sum(task.rows or 1 for task in batch))

        def run() -> None:
            answers = _run(batch)
            loop.call_soon_threadsafe(self._finish, loop, batch, answers)

        self._thread.submit(run)

    def _note(self) -> None:
        """Notes whether somebody needs this version."""
        if self._running or self._holders:
            self._idle.clear()
        else:
            self._idle.set()

    def _next_batch(self) -> list[_Task]:
        batch: list[_Task] = []
        rows = 0
        while self._waiting:
            task = self._waiting[0]
            if task.answer.done():  # nobody waits for it any more
                self._waiting.popleft()
                continue
            rows += task.rows or 0
            if batch and (rows > self._max_rows or not task.joins(batch[0])):
                break
            self._waiting.popleft()
            task.started = True
            batch.append(task)
        return batch

    def _finish(
        self,
        loop: asyncio.AbstractEventLoop,
        batch: list[_Task],
        answers: list[_Outputs | Exception],
    ) -> None:
        self._start(loop)
        for task, answer in zip(batch, answers, strict=True):
            if task.answer.done():  # its deadline passed, or it was cancelled
                continue
            if isinstance(answer, Exception):
                task.answer.set_exception(answer)
            else:
                task.answer.set_result(answer)


def _run(batch: list[_Task]) -> list[_Outputs | Exception]:
    """Runs a batch; returns each one's own rows, or why there are none.

    It raises nothing: somebody waits for each answer.
    """
    if len(batch) > 1:
        try:
            return list(_run_together(batch))
        except Exception:  # each gets its own error, or none
            pass
    return [_run_one(task) for task in batch]


def _run_together(batch: list[_Task]) -> list[_Outputs]:
    rows = [task.rows or 0 for task in batch]
    joined = [
        np.concatenate(arrays)
        for arrays in zip(*(task.inputs for task in batch), strict=True)
    ]
    outputs = batch[0].signature(joined)
    if any(len(output) != sum(rows) for output in outputs):
        raise ValueError("Expected outputs with a row for each of the inputs.")
    ends = list(itertools.accumulate(rows))[:-1]
    parts = [np.split(output, ends) for output in outputs]
    return [list(part) for part in zip(*parts, strict=True)]


def _run_one(task: _Task) -> _Outputs | Exception:
    try:
        return task.signature(task.inputs)
    except Exception as error:
        return from_exception(error)
