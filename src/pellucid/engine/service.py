"""A scheduler in a thread of its own: requests come from any thread, or from asyncio, and each gets a stream of steps.

    with Service(lm.runner, lm.tokenizer) as service:
        stream = service.submit(request)             a thread: for step in stream
        stream.cancel()                              asyncio: async for step in stream

That one thread alone touches the scheduler. Whoever asks leaves a note for it and wakes it; it looks at the notes
between two steps. So a request that is cancelled is gone within one step. The queue is bounded: where too many wait, a
new request is refused at once, so that whoever sends it can go elsewhere.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from types import TracebackType

from pellucid.counts import counted
from pellucid.engine.choices import Choices
from pellucid.engine.generate import Generation, prepare
from pellucid.engine.request import Request
from pellucid.engine.runners.runner import Runner
from pellucid.engine.scheduler import Job, Scheduler
from pellucid.engine.settings import SchedulerSettings
from pellucid.engine.step import Completion, Step
from pellucid.errors import CancelledRequestError, OutOfPagesError, QueueFullError
from pellucid.events import NULL, Recorder
from pellucid.planning.machine import inspect_machine
from pellucid.tokens.tokenizer import Tokenizer

PLAIN = SchedulerSettings()


class StepStream:
    """The steps of one request as they come, for a thread (`for`) or for asyncio (`async for`).

    Iterating raises what ended the request before its time; CancelledRequestError when it was cancelled.
    """

    def __init__(self, generation: Generation, service: Service) -> None:
        self.generation, self._service = generation, service
        self.job = generation if generation.request.num_choices == 1 else Choices(generation)
        self._changed = threading.Condition()
        self._steps: deque[Step] = deque()
        self._is_over = False
        self._texts: tuple[Completion, ...] | None = None
        self._error: Exception | None = None
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    def cancel(self) -> None:
        """Give the request up; safe from any thread, and when it has ended already."""
        self._service.cancel(self)

    def complete(self) -> tuple[Completion, ...]:
        """Wait for the end; all texts that the request asked for, in their order. Ask for them, or iterate: not both."""
        if self._texts is not None:
            return self._texts
        steps: list[list[Step]] = [[] for _ in range(self.generation.request.num_choices)]
        for step in self:
            steps[step.choice].append(step)
        self.generation.report()
        texts = self.job.texts if isinstance(self.job, Choices) else [self.job]
        self._texts = tuple(text.collect(own) for text, own in zip(texts, steps, strict=True))
        return self._texts

    def __iter__(self) -> Iterator[Step]:
        return self

    def __next__(self) -> Step:
        with self._changed:
            self._changed.wait_for(lambda: self._steps or self._is_over)
            step = self._fetch()
        if step is None:
            raise StopIteration
        return step

    def __aiter__(self) -> AsyncIterator[Step]:
        return self

    async def __anext__(self) -> Step:
        loop = asyncio.get_running_loop()
        while True:
            with self._changed:
                if self._steps or self._is_over:
                    step = self._fetch()
                    break
                told = loop.create_future()
                self._waiting.append((loop, told))
            await told
        if step is None:
            raise StopAsyncIteration
        return step

    def _fetch(self) -> Step | None:
        """The next step; None after the last."""
        if self._steps:
            return self._steps.popleft()
        if self._error is not None:
            raise self._error
        return None

    def hand_over(self, error: Exception | None = None) -> bool:
        """Take what the job has made since (in the scheduler's thread); whether it has ended."""
        with self._changed:
            while self.job.steps:
                self._steps.append(self.job.steps.popleft())
            self._error = self.job.error or error
            self._is_over = self.job.is_over or self._error is not None
            self._changed.notify_all()
            waiting, self._waiting = self._waiting, []
        for loop, told in waiting:
            with suppress(RuntimeError):  # a loop that has been closed: nobody waits there any more
                loop.call_soon_threadsafe(_wake, told)
        return self._is_over


class Service:
    """Answers requests side by side until it is closed."""

    def __init__(
        self,
        runner: Runner,
        tokenizer: Tokenizer,
        settings: SchedulerSettings = PLAIN,
        *,
        memory_bytes: int | None = None,
        recorder: Recorder = NULL,
    ) -> None:
        """`memory_bytes` is what keys and values may take (None: a quarter of the memory that is free now)."""
        if memory_bytes is None:
            memory_bytes = inspect_machine().memory_available_bytes // 4
        self.runner, self.tokenizer, self.settings = runner.set_aside(memory_bytes), tokenizer, settings
        if self.runner.pool is not None and not self.runner.pool.has_room([1], 0):
            hint = "give the cache more memory, or ask for fewer texts at once"
            raise OutOfPagesError(
                "no memory for keys and values is left", found=f"memory_bytes={memory_bytes}", hint=hint
            )
        self._scheduler = Scheduler(self.runner, settings, recorder=recorder)
        self._changed = threading.Condition()
        self._streams: dict[Job, StepStream] = {}
        self._new: list[tuple[StepStream, int]] = []
        self._cancelled: dict[Job, None] = {}
        self._is_open = True
        self._thread = threading.Thread(target=self._serve, name="pellucid scheduler", daemon=True)
        self._thread.start()

    @property
    def num_open(self) -> int:
        """Requests that are not finished, those that wait among them."""
        return len(self._streams)

    def submit(self, request: Request, *, priority: int = 0, recorder: Recorder = NULL) -> StepStream:
        """Ask for a text, from any thread; of equal priority, whoever came first is served first.

        Raises what `generate` raises, QueueFullError when too many wait, CancelledRequestError when the service is
        closed.
        """
        stream = StepStream(prepare(self.runner, self.tokenizer, request, recorder=recorder), self)
        with self._changed:
            if not self._is_open:
                raise CancelledRequestError("the service is closed", hint="start another one")
            most = self.settings.max_running + self.settings.max_waiting
            if len(self._streams) >= most:
                raise QueueFullError(
                    "too many requests wait",
                    found=counted(len(self._streams), "request"),
                    where=f"max_running={self.settings.max_running}, max_waiting={self.settings.max_waiting}",
                    hint="ask again in a while",
                )
            self._streams[stream.job] = stream
            self._new.append((stream, priority))
            self._changed.notify_all()
        return stream

    def cancel(self, stream: StepStream) -> None:
        """Give a request up, from any thread."""
        with self._changed:
            self._cancelled[stream.job] = None
            self._changed.notify_all()

    def close(self) -> None:
        """End what is in progress, and the thread."""
        with self._changed:
            self._is_open = False
            self._changed.notify_all()
        self._thread.join()

    def __enter__(self) -> Service:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _serve(self) -> None:
        """The scheduler's thread: whatever goes wrong in it, nobody is left waiting."""
        error: Exception = CancelledRequestError("the service was closed before the text had ended")
        try:
            while self._look_at_notes():
                self._step()
        except Exception as unexpected:
            error = unexpected
        with self._changed:
            self._is_open = False
        self._end(list(self._streams), error)

    def _look_at_notes(self) -> bool:
        """Wait for something to do, let new requests join and cancelled ones leave; False when the service is closed."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._new or self._cancelled or not self._scheduler.is_idle or not self._is_open
            )
            new, self._new, cancelled, self._cancelled = self._new, [], self._cancelled, {}
        for stream, priority in new:
            self._scheduler.add(stream.job, priority=priority)
        self._end(list(cancelled), CancelledRequestError("the request was cancelled"))
        return self._is_open

    def _step(self) -> None:
        try:
            moved = self._scheduler.step()
        except Exception as error:  # of the pass itself: nothing that takes part in it can go on
            self._end(list(self._streams), error)
            return
        for job in moved:
            stream = self._streams.get(job)
            if stream is not None and stream.hand_over():
                del self._streams[job]

    def _end(self, jobs: list[Job], error: Exception) -> None:
        """End some requests before their time; those that have ended already are left alone."""
        for job in jobs:
            stream = self._streams.pop(job, None)
            if stream is not None:
                self._scheduler.drop(job)
                stream.hand_over(error)


def _wake(told: asyncio.Future[None]) -> None:
    if not told.done():
        told.set_result(None)
