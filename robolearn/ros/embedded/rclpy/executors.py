"""`rclpy.executors`."""

from __future__ import annotations

import inspect
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from robolearn.ros.transport import Waiter

from .context import Context
from .exceptions import InvalidHandle
from .signals import raise_waiting
from .task import Future, Task
from .utilities import get_default_context

Work = tuple[Callable[[], Any], Any]  # a task of the user and None, or an entity's callback and the entity
LONGEST_WAIT_S = 3600.0


class TimeoutException(Exception):
    """Nothing became ready in time."""


class ShutdownException(Exception):
    """The executor was shut down."""


class ExternalShutdownException(Exception):
    """The context was shut down while the executor was spinning."""

    def __init__(self, *_: object) -> None:
        super().__init__("The passed context was shut down.")


class ConditionReachedException(Exception):
    """The condition of a wait holds."""


class Executor:
    """Runs the callbacks of its nodes. A subclass says in which thread."""

    def __init__(self, *, context: Context | None = None) -> None:
        self._context = get_default_context() if context is None else context
        self._nodes: list[Any] = []
        self._nodes_lock = threading.RLock()
        self._tasks: deque[Task] = deque()
        self._round: deque[Any] = deque()  # entities that were ready at the last look, in their order
        self._looked = False  # since the last round, at what came over the network
        self._waiter_or_none: Waiter | None = None
        self._is_shutdown = False
        self._spinning_thread: int | None = None
        self._context._wakers.add(self)

    @property
    def context(self) -> Context:
        return self._context

    @property
    def _waiter(self) -> Waiter:
        """Made on first use, because an executor may be older than the context's init."""
        if self._waiter_or_none is None:
            self._waiter_or_none = self._context.handle.transport.create_waiter()
        return self._waiter_or_none

    def wake(self) -> None:
        """Have a waiting spin look again. What is called by it does not find it waiting."""
        if self._waiter_or_none is not None and not self._runs_in_this_thread():
            self._waiter_or_none.wake()

    def _watch(self, entity: Any) -> None:
        """Wake up for what arrives at the entity from now on."""
        if entity._source is not None and self._context.ok():
            self._waiter.attach(entity._source, entity)
        self.wake()

    def _ignore(self, entity: Any) -> None:
        if entity._source is not None:
            self._waiter.detach(entity._source)

    def create_task(self, callback: Any, *args: Any, **kwargs: Any) -> Task:
        """Run a function or a coroutine in this executor."""
        task = Task(callback, args, kwargs, executor=self)
        self._schedule(task)
        return task

    def _schedule(self, task: Task) -> None:
        self._tasks.append(task)
        self.wake()

    def add_node(self, node: Any) -> bool:
        """Whether the node is new here. A node belongs to one executor; it leaves the one before."""
        with self._nodes_lock:
            if node in self._nodes:
                return False
            before = node.executor
            if before is not None and before is not self:
                before.remove_node(node)
            self._nodes.append(node)
            node._rclpy.set_executor(self)
            for entity in node._rclpy.watched():
                self._watch(entity)
        return True

    def remove_node(self, node: Any) -> None:
        with self._nodes_lock:
            if node in self._nodes:
                self._nodes.remove(node)
                node._rclpy.set_executor(None)
                if self._context.ok():
                    for entity in node._rclpy.watched():
                        self._ignore(entity)
        self.wake()

    def get_nodes(self) -> list[Any]:
        return list(self._nodes)

    def shutdown(self, timeout_sec: float | None = None) -> bool:
        self._is_shutdown = True
        for node in self.get_nodes():
            self.remove_node(node)
        self.wake()
        return True

    def _runs_in_this_thread(self) -> bool:
        return self._spinning_thread == threading.get_ident()

    def _ready_entities(self) -> list[Any]:
        return [
            entity
            for node in self.get_nodes()
            for entity in node._rclpy.waitables()
            if entity._is_ready() and entity.callback_group.can_execute(entity)
        ]

    def _next_timer_s(self) -> float:
        """Time until the next timer is due. One whose group is busy waits for the wake that comes when it is free."""
        waits_ns = [
            wait_ns
            for node in self.get_nodes()
            for timer in node._rclpy.timers
            if (wait_ns := timer._wall_wait_ns()) is not None and timer.callback_group.can_execute(timer)
        ]
        return min(waits_ns) / 1e9 if waits_ns else LONGEST_WAIT_S

    def _drain(self, timeout_ns: int) -> list[Any]:
        """Have every entity that something has arrived for take it over, once there is one or `wake` was called."""
        arrived = self._waiter.wait(timeout_ns)
        for entity in arrived:
            entity._drain()
        self._looked = True
        return arrived

    def _poll(self) -> Work | None:
        """The next thing to run now, or None. Every ready entity has its turn before any has a second one."""
        while self._tasks:
            task = self._tasks.popleft()
            if not task.done() and not task.cancelled():
                return task, None
        while self._round or self._look():
            entity = self._round.popleft()
            group = entity.callback_group
            if not entity._is_ready() or not group.beginning_execution(entity):
                continue
            try:
                callback = entity._take()
            except InvalidHandle:  # destroyed meanwhile
                callback = None
            if callback is not None:
                return callback, entity
            group.ending_execution(entity)  # what it had was nothing to call back with, such as malformed bytes
        return None

    def _look(self) -> bool:
        """Begin a round, if anything is ready."""
        self._round.extend(self._ready_entities())
        if self._round and not self._looked:  # or what this process sends itself would keep all else waiting
            self._drain(0)
            self._round = deque(self._ready_entities())
        self._looked = False
        return bool(self._round)

    def _wait(self, timeout_sec: float | None, condition: Callable[[], bool] = lambda: False) -> Work:
        """The next thing to run. Raises what ended the wait."""
        deadline = None if timeout_sec is None or timeout_sec < 0 else time.monotonic() + timeout_sec
        waited = False
        while True:
            if not self._context.ok():
                raise_waiting()
                raise ExternalShutdownException
            if self._is_shutdown:
                raise ShutdownException
            if condition():
                raise ConditionReachedException
            work = self._poll()
            if work is not None:
                return work
            wait_s = self._next_timer_s()
            if deadline is not None:
                remaining_s = max(deadline - time.monotonic(), 0.0)
                if waited and not remaining_s:
                    raise TimeoutException
                wait_s = min(wait_s, remaining_s)
            self._round.extend(self._drain(int(wait_s * 1e9)))  # nothing else was ready before
            waited = True

    def _run(self, work: Work) -> None:
        """Run one piece of work, free its callback group, and raise what it raised.

        A callback is called as it is; only what turns out to be a coroutine becomes a task, and keeps the group until
        its end.
        """
        callback, entity = work
        task = callback if isinstance(callback, Task) else None
        try:
            result = callback()
            if inspect.iscoroutine(result):
                task = Task(result, executor=self)
                task()
        finally:
            if entity is not None:
                if task is None or task.done() or task.cancelled():
                    entity.callback_group.ending_execution(entity)
                else:
                    task.add_done_callback(lambda _: entity.callback_group.ending_execution(entity))
        if task is not None:
            self._raise_unhandled(task)

    def _raise_unhandled(self, task: Task) -> None:
        if task.done() and task._exception is not None and not task._exception_fetched:
            error = task.exception()
            assert error is not None
            raise error

    def spin(self) -> None:
        """Run until the executor or the context is shut down."""
        while self._context.ok() and not self._is_shutdown:
            self._spin_once_impl()
        raise_waiting()

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """Run one callback, or return after the time."""
        self._spin_once_impl(timeout_sec)

    def spin_until_future_complete(self, future: Future, timeout_sec: float | None = None) -> None:
        future.add_done_callback(lambda _: self.wake())
        deadline = None if timeout_sec is None or timeout_sec < 0 else time.monotonic() + timeout_sec
        while self._context.ok() and not future.done() and not future.cancelled() and not self._is_shutdown:
            remaining = None if deadline is None else deadline - time.monotonic()
            if remaining is not None and remaining < 0:
                return
            self._spin_once_impl(remaining, lambda: future.done() or future.cancelled())
        raise_waiting()

    def spin_once_until_future_complete(self, future: Future, timeout_sec: float | None = None) -> None:
        future.add_done_callback(lambda _: self.wake())
        self._spin_once_impl(timeout_sec, lambda: future.done() or future.cancelled())

    def _spin_once_impl(self, timeout_sec: float | None = None, condition: Callable[[], bool] = lambda: False) -> None:
        try:
            work = self._wait(timeout_sec, condition)
        except (ShutdownException, TimeoutException, ConditionReachedException):
            return
        self._dispatch(work)

    def _dispatch(self, work: Work) -> None:
        raise NotImplementedError

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()


class SingleThreadedExecutor(Executor):
    """Runs everything in the thread that spins."""

    def _dispatch(self, work: Work) -> None:
        before, self._spinning_thread = self._spinning_thread, threading.get_ident()
        try:
            self._run(work)
        finally:
            self._spinning_thread = before


class MultiThreadedExecutor(Executor):
    """Runs callbacks in a pool of threads, as their callback groups allow."""

    def __init__(self, num_threads: int | None = None, *, context: Context | None = None) -> None:
        super().__init__(context=context)
        count = num_threads or len(os.sched_getaffinity(0)) or 1
        self._pool = ThreadPoolExecutor(max_workers=count, thread_name_prefix="ros-executor")
        self._failed: deque[BaseException] = deque()

    def _dispatch(self, work: Work) -> None:
        self._pool.submit(self._run_in_pool, work)
        self._raise_failed()

    def _run_in_pool(self, work: Work) -> None:
        try:
            self._run(work)
        except BaseException as error:  # noqa: BLE001  for the thread that spins
            self._failed.append(error)
        self.wake()

    def _raise_failed(self) -> None:
        while self._failed:
            raise self._failed.popleft()

    def _poll(self) -> Work | None:
        self._raise_failed()
        return super()._poll()

    def shutdown(self, timeout_sec: float | None = None) -> bool:
        done = super().shutdown(timeout_sec)
        self._pool.shutdown(wait=timeout_sec is None)
        return done
