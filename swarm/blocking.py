"""Wait for a coroutine where there is no loop, or one is running already; and in a loop for what would block it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Executor
from types import FrameType
from typing import Any, Generic, TypeVar

T = TypeVar("T")


def wait_for(work: Callable[[], Coroutine[Any, Any, T]], signals: Iterable[signal.Signals] = (signal.SIGINT,)) -> T:
    """Run a coroutine to its end: in a loop here, or beside the loop that runs here, in a thread.

    The first of the signals cancels it, and is raised when it has ended; a second one has its usual effect. Handlers
    of signals, and the loop of this thread, are afterwards what they were before.

    Args:
        work: Makes the coroutine.
        signals: What cancels it, where this is the main thread: only that one is told.

    Raises:
        KeyboardInterrupt: It was cancelled by a signal.
    """
    waiting = _Waiting(work)
    with waiting.listening(signals):
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            beside = False
        else:
            beside = True
        return waiting.in_thread() if beside else waiting.here()


async def in_thread(executor: Executor | None, work: Callable[[], T]) -> T:
    """Do what takes its time in a thread of the executor, while the loop goes on; or here, if there is none.

    What was begun is done to its end, and if this is cancelled meanwhile, only then.
    """
    if executor is None:
        return work()
    future = asyncio.get_running_loop().run_in_executor(executor, work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        with contextlib.suppress(Exception):
            await future
        raise


async def in_daemon(work: Callable[[], T], seconds: float) -> T:
    """Do what may never end in a thread of its own, which nobody waits for at this process's end.

    Args:
        work: What to do.
        seconds: How long to wait for it; it goes on all the same.

    Raises:
        TimeoutError: It took longer.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(found: Callable[[], T]) -> None:
        if not future.done():
            try:
                future.set_result(found())
            except Exception as error:
                future.set_exception(error)

    def body() -> None:
        try:
            done = work()
        except BaseException as error:
            caught = error
            outcome: Callable[[], T] = lambda: _raise(caught)  # noqa: E731
        else:
            outcome = lambda: done  # noqa: E731
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, outcome)

    threading.Thread(target=body, name="swarm-beside", daemon=True).start()
    async with asyncio.timeout(seconds):
        return await future


class Turns:
    """Long work in a loop, in pieces: between two of them everybody else has a turn.

    Args:
        seconds: How long a piece may be.
        clock: Gives the time in seconds.
    """

    def __init__(self, seconds: float = 0.005, clock: Callable[[], float] = time.perf_counter) -> None:
        self._seconds = seconds
        self._clock = clock
        self._since = clock()

    async def give(self) -> bool:
        """Let the others have their turn, if this piece is long enough; whether they had one."""
        if self._clock() - self._since < self._seconds:
            return False
        await asyncio.sleep(0)
        self._since = self._clock()
        return True


class _Waiting(Generic[T]):
    """A coroutine that a signal cancels.

    Args:
        work: Makes it.
    """

    def __init__(self, work: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._work = work
        self._received: int | None = None
        self._cancelled = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[T] | None = None

    @contextlib.contextmanager
    def listening(self, signals: Iterable[signal.Signals]) -> Iterator[None]:
        """Cancel it on the first of the signals."""
        handlers: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            found = {number: signal.getsignal(number) for number in signals}
            handlers = {number: handler for number, handler in found.items() if handler is not None}

        def give_back() -> None:
            while handlers:
                signal.signal(*handlers.popitem())

        def stop(number: int, frame: FrameType | None) -> None:
            self._received = number
            give_back()
            self.cancel()

        for number in handlers:
            signal.signal(number, stop)
        try:
            yield
        finally:
            give_back()

    def here(self) -> T:
        """Run it in this thread."""
        try:
            # With a factory, the runner leaves this thread's own loop alone.
            with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
                found = runner.run(self._main())
        except (Exception, asyncio.CancelledError) as error:
            if self._received is None:
                raise
            raise KeyboardInterrupt from (None if isinstance(error, asyncio.CancelledError) else error)
        if self._received is not None:  # it was ending just then
            raise KeyboardInterrupt
        return found

    def in_thread(self) -> T:
        """Run it in a thread of its own; this one stays where it is, so that it hears signals."""
        ended: list[Callable[[], T]] = []
        over = threading.Event()  # not thread.join(): in Python 3.11 that is over for good once it was interrupted
        claim = threading.Lock()  # by whoever is first: the thread that begins, or an interrupt amid its start

        def body() -> None:
            if not claim.acquire(blocking=False):
                return
            try:
                found = self.here()
            except BaseException as error:
                caught = error
                ended.append(lambda: _raise(caught))
            else:
                ended.append(lambda: found)
            over.set()

        thread = threading.Thread(target=contextvars.copy_context().run, args=(body,), name="swarm", daemon=True)
        try:
            thread.start()
            over.wait()
        except BaseException:  # not by a signal that we listen to, or by the second one
            if self._received is None and not claim.acquire(blocking=False):
                self.cancel()
                over.wait()
            raise
        thread.join()
        return ended[0]()

    def cancel(self) -> None:
        """Cancel it, or see that it is not begun; from any thread, and amid anything."""
        self._cancelled = True
        if self._loop is not None and self._task is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: it has ended
                self._loop.call_soon_threadsafe(self._task.cancel)

    async def _main(self) -> T:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        if self._cancelled:
            raise asyncio.CancelledError
        return await self._work()


def _raise(error: BaseException) -> Any:
    raise error
