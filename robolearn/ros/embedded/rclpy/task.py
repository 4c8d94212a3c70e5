"""`rclpy.task`: futures, and tasks that an executor runs."""

from __future__ import annotations

import inspect
import threading
import weakref
from collections.abc import Callable, Generator
from typing import Any


class Future:
    """The outcome of something that is not over yet."""

    def __init__(self, *, executor: Any = None) -> None:
        self._lock = threading.Lock()
        self._done = False
        self._cancelled = False
        self._result: Any = None
        self._exception: BaseException | None = None
        self._exception_fetched = False
        self._callbacks: list[Callable[[Future], Any]] = []
        self._executor: weakref.ref[Any] | None = None
        if executor is not None:
            self._set_executor(executor)

    def __await__(self) -> Generator[Future, None, Any]:
        while not self._done and not self._cancelled:
            yield self
        return self.result()

    def _set_executor(self, executor: Any) -> None:
        self._executor = None if executor is None else weakref.ref(executor)

    def done(self) -> bool:
        return self._done

    def cancelled(self) -> bool:
        return self._cancelled

    def cancel(self) -> None:
        with self._lock:
            if self._done:
                return
            self._cancelled = True
        self._run_callbacks()

    def result(self) -> Any:
        """The result, or None while there is none. Raises the exception if there was one."""
        if self._exception is not None:
            self._exception_fetched = True
            raise self._exception
        return self._result

    def exception(self) -> BaseException | None:
        self._exception_fetched = True
        return self._exception

    def set_result(self, result: Any) -> None:
        with self._lock:
            self._result = result
            self._done, self._cancelled = True, False
        self._run_callbacks()

    def set_exception(self, exception: BaseException) -> None:
        with self._lock:
            self._exception = exception
            self._exception_fetched = False
            self._done, self._cancelled = True, False
        self._run_callbacks()

    def add_done_callback(self, callback: Callable[[Future], Any]) -> None:
        """Call `callback(self)` when done: by the executor if there is one, else at once."""
        with self._lock:
            if not self._done:
                self._callbacks.append(callback)
                return
        self._call(callback)

    def remove_done_callback(self, callback: Callable[[Future], Any]) -> int:
        with self._lock:
            before = len(self._callbacks)
            self._callbacks = [c for c in self._callbacks if c is not callback]
            return before - len(self._callbacks)

    def _run_callbacks(self) -> None:
        with self._lock:
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            self._call(callback)
        executor = self._executor() if self._executor is not None else None
        if executor is not None:
            executor.wake()

    def _call(self, callback: Callable[[Future], Any]) -> None:
        executor = self._executor() if self._executor is not None else None
        if executor is None:
            callback(self)
        else:
            executor.create_task(callback, self)


class Task(Future):
    """A function or a coroutine that an executor carries on until it is done."""

    def __init__(self, handler: Any, args: Any = None, kwargs: Any = None, executor: Any = None) -> None:
        super().__init__(executor=executor)
        args, kwargs = args or (), kwargs or {}
        self._coroutine: Any = handler(*args, **kwargs) if inspect.iscoroutinefunction(handler) else None
        if inspect.iscoroutine(handler):
            self._coroutine = handler
        self._handler: Callable[[], Any] | None = None if self._coroutine else lambda: handler(*args, **kwargs)
        self._executing = threading.Lock()

    def __call__(self) -> None:
        """Carry on. A coroutine runs up to its next wait, and is scheduled again when that is over."""
        if self._done or self._cancelled or not self._executing.acquire(blocking=False):
            return
        try:
            if self._handler is not None:
                result = self._handler()
                if not inspect.iscoroutine(result):
                    self.set_result(result)
                    return
                self._coroutine, self._handler = result, None
            waited_for = self._coroutine.send(None)
        except StopIteration as stop:
            self.set_result(stop.value)
            return
        except Exception as error:  # noqa: BLE001  whatever the user's code raises is the task's outcome
            self.set_exception(error)
            return
        finally:
            self._executing.release()
        self._go_on_after(waited_for)  # not before: another thread may run it the moment that it is scheduled

    def _go_on_after(self, waited_for: Any) -> None:
        executor = self._executor() if self._executor is not None else None
        if executor is None:
            return
        if isinstance(waited_for, Future):
            waited_for.add_done_callback(lambda _: executor._schedule(self))
        else:
            executor._schedule(self)

    def executing(self) -> bool:
        return self._executing.locked()

    def cancel(self) -> None:
        super().cancel()
        if self._coroutine is not None and not self.executing():
            self._coroutine.close()
