"""The client without `await`: the same code, run by an event loop in its own thread.

All blocking connections of a process share this thread, and with it sockets, tokens and the job monitor.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Protocol, Self, TypeVar

from anyio.from_thread import BlockingPortal, BlockingPortalProvider

from crestline.client.backends.capabilities import Capability
from crestline.client.system import System
from crestline.client.traffic import Traffic

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Items(Protocol[T_co]):
    """An asynchronous iterator that can be closed."""

    def __aiter__(self) -> AsyncIterator[T_co]: ...

    def __anext__(self) -> Coroutine[Any, Any, T_co]: ...

    def aclose(self) -> Coroutine[Any, Any, None]: ...


@functools.cache
def _portals(process: int) -> BlockingPortalProvider:
    """The event loop of this process; a forked child cannot use its parent's."""
    return BlockingPortalProvider(backend="asyncio")


def _run(portal: BlockingPortal, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run to the end, or cancel what runs when this thread is interrupted (Ctrl-C)."""
    future: Future[T] = portal.start_task_soon(function)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def _blocking(
    method: Callable[Concatenate[System, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[BlockingSystem, P], T]:
    def call(self: BlockingSystem, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return _run(self._portal, functools.partial(method, self._system, *args, **kwargs))

    return _named(call, method)


def _iterating(
    method: Callable[Concatenate[System, P], Items[T]],
) -> Callable[Concatenate[BlockingSystem, P], BlockingIterator[T]]:
    def call(self: BlockingSystem, /, *args: P.args, **kwargs: P.kwargs) -> BlockingIterator[T]:
        return BlockingIterator(self._portal, method(self._system, *args, **kwargs))

    return _named(call, method)


def _named(call: Callable[Q, R], method: Callable[..., object]) -> Callable[Q, R]:
    """`call` with the name, the signature and the docstring of `method`."""
    functools.update_wrapper(call, method)
    return call


class BlockingIterator(Iterator[T]):
    """An asynchronous iterator that is used without `await`.

    Attributes:
        items: the asynchronous iterator, for its further attributes (the `position` of a follower).
    """

    def __init__(self, portal: BlockingPortal, items: Items[T]) -> None:
        self._portal = portal
        self.items = items

    def __next__(self) -> T:
        try:
            return _run(self._portal, self._next)
        except StopAsyncIteration:
            raise StopIteration from None

    async def _next(self) -> T:
        return await anext(self.items)

    def close(self) -> None:
        """End the iteration early and release its resources."""
        _run(self._portal, self.items.aclose)


class BlockingSystem:
    """`System` without `await`; `crestline.connect_blocking` creates it, and `with` opens and closes it.

    Example::

        with crestline.connect_blocking("daint@cscs") as daint:
            job = daint.submit(JobSpec(script=script), key="campaign/42")
            print(daint.wait(job, check=True).exit_code)
    """

    def __init__(self, system: System) -> None:
        self._system = system
        self._stack = contextlib.ExitStack()
        self._entered: BlockingPortal | None = None

    def __enter__(self) -> Self:
        self._entered = self._stack.enter_context(_portals(os.getpid()))
        try:
            _run(self._entered, self._system.open)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> Self:
        """Open the connection without `with`. Call `close` afterwards. See `System.open` for the errors."""
        return self.__enter__()

    def close(self) -> None:
        """Close the connection. Jobs and transfers on the system continue."""
        if self._entered is not None:
            portal, self._entered = self._entered, None
            try:
                _run(portal, self._system.close)
            finally:
                self._stack.close()

    @property
    def _portal(self) -> BlockingPortal:
        if self._entered is None:
            raise RuntimeError("The connection is not open; use it in a `with`.")
        return self._entered

    @property
    def name(self) -> str:
        """Name of the system, as in its gateway's URLs."""
        return self._system.name

    @property
    def target(self) -> str:
        """The target `system@site`, as `connect_blocking` accepts it."""
        return self._system.target

    @property
    def api(self) -> str:
        """Name of the site's facility API, as `System.api`."""
        return self._system.api

    @property
    def gateway_url(self) -> str:
        """Base URL of the gateway's API."""
        return self._system.gateway_url

    @property
    def scheduler_type(self) -> str:
        """Scheduler whose states and options the gateway uses for this system, `slurm` or `pbs`."""
        return self._system.scheduler_type

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Features that the gateway offers beyond FirecREST v2; empty on plain FirecREST."""
        return self._system.capabilities

    @property
    def max_direct_size(self) -> int:
        """Largest size in bytes that `read_direct` and `write_direct` transfer in one request."""
        return self._system.max_direct_size

    @property
    def supports_ranges(self) -> bool:
        """True if the gateway serves byte ranges of files (`read_range`)."""
        return self._system.supports_ranges

    @property
    def traffic(self) -> Traffic:
        """Counters of what all users of this connection have sent and received."""
        return self._system.traffic

    def __repr__(self) -> str:
        return f"Blocking{self._system!r}"

    submit = _blocking(System.submit)
    submit_many = _blocking(System.submit_many)
    job = _blocking(System.job)
    array_tasks = _blocking(System.array_tasks)
    jobs = _blocking(System.jobs)
    find = _blocking(System.find)
    watch = _iterating(System.watch)
    wait = _blocking(System.wait)
    cancel = _blocking(System.cancel)
    hold = _blocking(System.hold)
    release = _blocking(System.release)
    usage = _blocking(System.usage)
    metadata = _blocking(System.metadata)
    describe = _blocking(System.describe)
    nodes = _blocking(System.nodes)
    partitions = _blocking(System.partitions)
    accounts = _blocking(System.accounts)
    allocations = _blocking(System.allocations)
    remaining_submissions = _blocking(System.remaining_submissions)
    reservations = _blocking(System.reservations)
    default_workdir = _blocking(System.default_workdir)
    resolve_path = _blocking(System.resolve_path)
    ls = _blocking(System.ls)
    glob = _blocking(System.glob)
    wait_for_path = _blocking(System.wait_for_path)
    stat = _blocking(System.stat)
    watch_directory = _iterating(System.watch_directory)
    checksum = _blocking(System.checksum)
    mkdir = _blocking(System.mkdir)
    remove = _blocking(System.remove)
    symlink = _blocking(System.symlink)
    chmod = _blocking(System.chmod)
    copy = _blocking(System.copy)
    move = _blocking(System.move)
    follow = _iterating(System.follow)
    output = _iterating(System.output)
    upload = _blocking(System.upload)
    download = _blocking(System.download)
    read_range = _blocking(System.read_range)
    upload_bundle = _blocking(System.upload_bundle)
    download_bundle = _blocking(System.download_bundle)
    read_direct = _blocking(System.read_direct)
    write_direct = _blocking(System.write_direct)
    read_bytes = _blocking(System.read_bytes)
    read_text = _blocking(System.read_text)
    write_bytes = _blocking(System.write_bytes)
    write_text = _blocking(System.write_text)
