"""The subject `simulation.spawning:Spawning`: a server's life while its hub is killed and started again.

The hub is a model that calls the spawner as JupyterHub 5's `app.py` (`check_spawner`), `user.py` (`spawn`, `stop`) and
its API's handler (`DELETE .../server`) do; the session in the job is one of what the session's program says to its hub.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from unittest import mock

from jupyterhub.spawner import Spawner

from crestline import clock
from crestline.client import Policy, PollPolicy, System
from crestline.testing.simulation import Process, Scenario, World
from crestline.testing.simulation.cluster import SimulatedJob
from crestline_jupyterhub import FirecRESTSpawner, background, callback
from crestline_jupyterhub.session.main import HUB_CHECK_INTERVAL, MAX_DISOWNED
from jupyterhub import orm

STOP_BOUND = 120.0
"""Seconds in which a living hub has stopped a server, whatever the gateway does."""
GONE_BOUND = MAX_DISOWNED * HUB_CHECK_INTERVAL + 300.0
"""Seconds after a stop and the last fault in which no job of the server is left."""
READY_BOUND = 300.0
"""Seconds after the last fault, the hub's start and the session's in which the server can be used."""


class _Access:
    """The system with one identity, as `Connections` opens it."""

    def __init__(self, system: System) -> None:
        self._system = system

    async def as_user(self) -> System:
        return self._system

    as_service = as_observer = as_user

    @property
    def identities(self) -> list[Callable[[], Awaitable[System]]]:
        return [self.as_user]


class _WithoutClock(Spawner):  # type: ignore[misc]
    """The base, without tornado's periodic callbacks, which read the wall clock."""

    def start_polling(self) -> None:
        self.poll_task = asyncio.create_task(self._poll_on())

    def stop_polling(self) -> None:
        if self.poll_task not in (None, asyncio.current_task()):
            self.poll_task.cancel()
        self.poll_task = None

    async def start(self) -> None: ...

    async def stop(self, now: bool = False) -> None: ...

    async def poll(self) -> None: ...

    async def _poll_on(self) -> None:
        while True:
            await asyncio.sleep(self.poll_interval)
            await self.poll_and_notify()

    poll_task: asyncio.Task[None] | None = None


class _Spawner(FirecRESTSpawner, _WithoutClock):
    life: Spawning
    system_open: System

    @property
    def server(self) -> Any:
        return self.life.server

    def access(self) -> Any:
        return _Access(self.system_open)

    def _session_config(self, system: System, spec: Any) -> dict[str, Any]:
        return {"nonce": self.nonce}

    async def _is_node(self, host: str) -> bool:
        return True


class Spawning(Scenario):
    """One user who starts and stops a server of a hub."""

    lives = 5

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.server: Any = None
        self._orm = orm.Spawner(name="")
        self._spawner: _Spawner | None = None
        self._hub: Process | None = None
        self._hub_began = 0.0
        self._requests: asyncio.Queue[Callable[[], Coroutine[Any, Any, None]]] = asyncio.Queue()
        self._listening: dict[int, tuple[str, float]] = {}
        """addresses of sessions by their job's number, and since when they listen"""
        self._sessions: list[asyncio.Task[None]] = []
        self._is_wanted = False
        self._was_killed_at_work = False
        self._is_over = False
        self._start_timeout = self.random.choice((60, 300, 900))
        self.cluster.length = lambda random: random.choice((30.0, 900.0))
        self.cluster.on_start = lambda job: self._sessions.append(world.start(self._session(job)))

    async def play(self) -> None:
        callback._receivers.clear()
        background._running.clear()
        with _injected(self._reaches):
            async with asyncio.TaskGroup() as group:
                group.create_task(self.program("hub", self._hub_life))
                group.create_task(self._user())
        for session in self._sessions:
            session.cancel()

    def check_end(self) -> None:
        left = [job.number for job in self.cluster.jobs if not job.is_over]
        self.world.check(self._was_killed_at_work or not left, f"Jobs {left} are left of a server that was stopped.")

    # the user

    async def _user(self) -> None:
        random = self.world.adversary.random("user")
        for _ in range(random.choice((1, 1, 2))):
            await asyncio.sleep(random.uniform(0, 5))
            self._is_wanted = True
            await self._ask(self._start)
            await asyncio.sleep(random.choice((2, 20, 120, 600)) * random.uniform(0.5, 1.5))
            self._check_ready()
            self.world.note("user", "wants the server stopped")
            self._is_wanted = False
            while self.server is not None:
                await self._ask(self._delete)
                await asyncio.sleep(5)
        await asyncio.sleep(max(0.0, self.calm_at - self.world.now) + GONE_BOUND)
        await self._ask(self._shut_down)

    async def _ask(self, request: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Send a request to the hub, again and again while there is none."""
        while not self._is_over:
            hub, done = self._hub, asyncio.Event()
            if hub is not None and hub.is_alive:

                async def work(done: asyncio.Event = done) -> None:
                    await request()
                    done.set()

                self._requests.put_nowait(work)
                began = self.world.now
                while hub.is_alive and not done.is_set():
                    await asyncio.sleep(1)
                    self.bounds.check("a request", hub, began, STOP_BOUND)
                if done.is_set():
                    return
            await asyncio.sleep(2)

    def _check_ready(self) -> None:
        hub, spawner = self._hub, self._spawner
        if hub is None or not hub.is_alive or spawner is None or self.server is None:
            return
        alive = [since for number, (_, since) in self._listening.items() if not self._job(number).is_over]
        if alive and self.world.now > max(alive[-1], self._hub_began, self.calm_at) + READY_BOUND:
            self.world.check(spawner.ready, f"A session listens, and the server is pending: {spawner.pending}.")

    # the hub

    async def _hub_life(self, process: Process) -> None:
        self._spawner = self._hub = None
        callback._receivers.clear()
        self._was_killed_at_work |= bool(background._running)
        background._running.clear()
        self._requests = asyncio.Queue()
        async with self.connect(
            process, policy=Policy(poll=PollPolicy(min_interval=5.0, unseen_timeout=None))
        ) as system:
            self._spawner = spawner = _Spawner(hub_name="hub", start_timeout=self._start_timeout)
            spawner.life, spawner.system_open, spawner.orm_spawner = self, system, self._orm
            spawner.user, spawner.hub = SimpleNamespace(name="alice"), SimpleNamespace(api_url="http://hub/api")
            spawner.load_state(self._orm.state or {})
            self._hub, self._hub_began = process, self.world.now
            work = {asyncio.create_task(self._check(spawner))} if self.server is not None else set()
            while not self._is_over:
                request = await self._requests.get()
                work.add(asyncio.create_task(request()))
                await asyncio.sleep(0.001)  # it may be the one that shuts the hub down
            await asyncio.gather(*work)
            await asyncio.gather(*background._running)
            spawner.stop_polling()
            if spawner._watching is not None:
                spawner._watching.cancel()

    async def _check(self, spawner: _Spawner) -> None:
        """`check_spawner`"""
        spawner._check_pending = True
        status = await spawner.poll()
        if status is None:
            try:
                url = await spawner.get_url()
            except Exception as error:
                self.world.check(False, f"get_url raised, which ends the hub: {type(error).__name__}: {error}")
                raise
            self.server.url = url
            if not await self._is_up(spawner):
                status = -1
        else:
            self._check_ended(spawner, "poll() says so")
        if status is None:
            spawner._callbacks = []
            spawner.add_poll_callback(self._died, spawner)
            spawner.start_polling()
        elif self.server is not None:
            await self._stop(spawner)
        spawner._check_pending = False

    async def _start(self) -> None:
        """The handler of `POST .../server`, and `User.spawn` beside it."""
        spawner = self._spawner
        assert spawner is not None
        if spawner.active:
            return
        spawner._spawn_pending = True
        self.server = SimpleNamespace(base_url="/user/alice/", url="", ip="", port=0)
        self._orm.started = datetime.fromtimestamp(clock.time(), UTC).replace(tzinfo=None)
        task = spawner._spawn_future = asyncio.create_task(self._spawn(spawner))
        task.add_done_callback(lambda done: setattr(spawner, "_spawn_pending", False))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def _spawn(self, spawner: _Spawner) -> None:
        try:
            self.server.url = await asyncio.wait_for(spawner.start(), spawner.start_timeout)
        except Exception as error:
            self.world.note("hub", f"start failed: {type(error).__name__}: {error}")
            await self._stop(spawner)
            raise
        spawner._callbacks = []
        spawner.add_poll_callback(self._died, spawner)
        spawner.start_polling()
        self._orm.state = spawner.get_state()
        if not await self._is_up(spawner):
            await self._stop(spawner)

    async def _is_up(self, spawner: _Spawner) -> bool:
        """`Server.wait_up`"""
        end = self.world.now + spawner.http_timeout
        while not self._reaches(self.server.url):
            if self.world.now >= end:
                return False
            await asyncio.sleep(1)
        self.world.note("hub", f"the server is ready at {self.server.url}")
        return True

    def _reaches(self, url: str) -> bool:
        return any(
            url.startswith(address) and not self._job(number).is_over
            for number, (address, _) in self._listening.items()
        )

    async def _died(self, spawner: _Spawner) -> None:
        """`user_stopped`"""
        self._check_ended(spawner, "poll_and_notify() says so")
        await self._stop(spawner)

    def _check_ended(self, spawner: _Spawner, why: str) -> None:
        """No session is ended while its job lives, unless the user wants that."""
        alive = [job.number for job in self.cluster.jobs if spawner.attempt in job.name and not job.is_over]
        self.world.check(not self._is_wanted or not alive, f"The server is ended ({why}), and job {alive} lives.")

    async def _stop(self, spawner: _Spawner) -> None:
        """`User.stop`"""
        spawner._spawn_pending = spawner._check_pending = False
        spawner.stop_polling()
        spawner._stop_pending = True
        try:
            if await spawner.poll() is None:
                await spawner.stop()
        finally:
            self.world.note("hub", "the server is stopped")
            self.server = self._orm.started = None
            spawner.clear_state()
            self._orm.state = spawner.get_state()
            spawner._stop_pending = False

    async def _delete(self) -> None:
        """The handler of `DELETE .../server`, and `stop_single_user`."""
        spawner = self._spawner
        assert spawner is not None
        if spawner.pending == "stop" or self.server is None:
            return
        if spawner.pending:
            if spawner._spawn_future:
                spawner._spawn_future.cancel()
            await asyncio.sleep(1)
            self.world.check(not spawner.pending, f"The user cannot stop the server: pending {spawner.pending}.")
            await self._stop(spawner)
        elif await spawner.poll() is None:
            await self._stop(spawner)
        else:
            await self._died(spawner)

    async def _shut_down(self) -> None:
        self._is_over = True

    # the session

    async def _session(self, job: SimulatedJob) -> None:
        random = self.world.adversary.random(f"session {job.number} {len(job.moments)}")
        run = sum(1 for moment in job.moments if moment.state == "RUNNING")
        await asyncio.sleep(random.choice((1, 20)) * random.random())
        nonce = self._nonce(job)
        address = ("10.0.0.1", 40000 + len(self._sessions))
        if job.at(self.world.now).state != "RUNNING":
            return
        self._listening[job.number] = f"http://{address[0]}:{address[1]}", self.world.now
        delay, is_heard, strange = 0.5, False, 0
        while job.at(self.world.now).state == "RUNNING":
            status = await self._call_back(nonce, address, run)
            if status == 204:
                is_heard = True
            strange = strange + 1 if status == 403 else 0
            if (not is_heard and status in (403, 409)) or strange >= MAX_DISOWNED:
                self.world.note("session", f"ends: the hub answers {status}")
                return self.cluster.end(job, "FAILED")
            await asyncio.sleep(HUB_CHECK_INTERVAL if is_heard else delay)
            delay = min(2 * delay, 15.0)
        return None

    def _nonce(self, job: SimulatedJob) -> str:
        paths = [path for path in self.cluster.files.nodes if path.endswith("/session.json")]
        config = next((path for path in paths if path.split("/")[-2] in job.name), None)
        return json.loads(self.cluster.files.nodes[config].content)["nonce"] if config else ""

    async def _call_back(self, nonce: str, address: tuple[str, int], run: int) -> int | None:
        """The hub's answer to a session; None without one."""
        hub, answer = self._hub, asyncio.get_running_loop().create_future()
        if hub is None or not hub.is_alive:
            return None

        async def work() -> None:
            receiver = callback._receivers.get(nonce)
            taken = await receiver.set_address(address, run, mock.AsyncMock()) if receiver else None
            if not answer.done():
                answer.set_result(403 if taken is None else 204 if taken else 409)

        self._requests.put_nowait(work)
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(answer, 30)
        return None

    def _job(self, number: int) -> SimulatedJob:
        return next(job for job in self.cluster.jobs if job.number == number)


@contextlib.contextmanager
def _injected(reaches: Callable[[str], bool]) -> Iterator[None]:
    """The spawner's connections to sessions from the model."""

    async def listens(url: str) -> bool:
        await asyncio.sleep(0.1)
        return reaches(url)

    with mock.patch("crestline_jupyterhub.spawner.listens", listens):
        yield
