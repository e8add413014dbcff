"""The running systems of a gateway, created from the configuration."""

from __future__ import annotations

import asyncio
import getpass
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import msgspec

from crestline.gateway.config import DEFAULT_SCHEDULER, FileSystemConfig, GatewayConfig, SystemConfig, wire_file_systems
from crestline.gateway.hosts import Files, Host
from crestline.gateway.hosts.base import HostSetup
from crestline.gateway.hosts.registry import create_host
from crestline.gateway.identity import Principal
from crestline.gateway.identity.users import DeniedUserError
from crestline.gateway.isolation import acts_as_gateway, check_served_trees, without_secrets
from crestline.gateway.job_events import JobFeeds
from crestline.gateway.paths import PathGuard
from crestline.gateway.replicas import Replicas
from crestline.gateway.schedulers.base import Scheduler
from crestline.gateway.schedulers.cli_scheduler import CommandScheduler
from crestline.gateway.schedulers.instrumented import InstrumentedCommands
from crestline.gateway.schedulers.registry import SchedulerSetup, create_scheduler
from crestline.gateway.schedulers.shared_lists import SharedLists
from crestline.gateway.state_directory import StateDirectory
from crestline.gateway.store import Store
from crestline.gateway.submissions import Submissions
from crestline.gateway.transfers import TransferService
from crestline.gateway.transfers.unfinished import UnfinishedUploads
from crestline.model import ConfigError, GatewayUnavailableError, SystemNotFoundError
from crestline.wire.status import FileSystem

_UID_KEPT = 600.0
"""Seconds after which a system is asked again for the uid of a user."""
_MOST_UIDS = 10_000


class SystemRuntime:
    """One system: its scheduler, its host, and the services on top of them."""

    def __init__(
        self,
        name: str,
        config: SystemConfig,
        scheduler: Scheduler,
        host: Host,
        store: Store,
        replicas: Replicas,
        unfinished: UnfinishedUploads,
        *,
        signing_key: bytes,
        public_url: Callable[[], str],
    ) -> None:
        self.name = name
        self.config = config
        self.scheduler = scheduler
        self.host = host
        self.file_systems: list[FileSystem] = wire_file_systems(config)
        self.submissions = Submissions(store, name, scheduler, replicas)
        self.feeds = JobFeeds(scheduler)
        self.transfers = TransferService(
            name, unfinished, host.files, self.default_directory, config.s3, store, replicas, signing_key, public_url
        )
        self._uids: dict[str, tuple[float, int]] = {}
        self._started = AsyncExitStack()
        self._patience = 0.0

    def files(self, caller: Principal) -> Files:
        """Return the machine's files as the caller sees them."""
        return self.host.files(caller.username)

    async def check_user(self, caller: Principal) -> None:
        """Refuse a user whose uid on the system is below the minimum of the caller's identity provider.

        Raises:
            DeniedUserError: the uid is too small.
            GatewayUnavailableError: the system, which must be asked, does not respond.
        """
        if caller.min_uid <= 0:
            return
        uid = await self._uid(caller.username)
        if uid is not None and uid < caller.min_uid:
            raise DeniedUserError(
                f"The uid of {caller.username[:64]!r} on {self.name} is below {caller.min_uid}.",
                caller,
                hint="For a person's account, the operator changes the identity provider's min_uid.",
            )

    async def _uid(self, user: str) -> int | None:
        until, uid = self._uids.get(user, (0.0, None))
        if uid is not None and time.monotonic() < until:
            return uid
        try:
            found = await self.host.uid(user)
        except GatewayUnavailableError:
            if uid is None:
                raise
            return uid
        if found is not None:
            if len(self._uids) >= _MOST_UIDS:
                self._uids.clear()
            self._uids[user] = time.monotonic() + _UID_KEPT, found
        return found

    def default_directory(self, caller: Principal) -> str:
        """Return `<default file system>/<user>`, the default directory of FirecREST's clients."""
        default = next((each for each in self.file_systems if each.default_work_dir), self.file_systems[0])
        return f"{default.path.rstrip('/')}/{caller.username}"

    async def start(self) -> None:
        """Start all parts. If one fails, stop those that were started."""
        async with AsyncExitStack() as stack:
            for part in (self.host, self.scheduler):
                stack.push_async_callback(part.stop)
                await part.start()
            stack.push_async_callback(lambda: self.transfers.stop(self._patience))
            await self.transfers.start()
            stack.push_async_callback(self.feeds.close)
            self._started = stack.pop_all()

    async def stop(self, patience: float = 0.0) -> None:
        """Close all resources after up to `patience` seconds for running transfers. Jobs continue."""
        self._patience = patience
        await self._started.aclose()


class SystemRegistry:
    """All systems by name. Names match without regard to case."""

    def __init__(self, systems: list[SystemRuntime]) -> None:
        self._by_name = {system.name.lower(): system for system in systems}
        self._paused: set[str] = set()
        self._retiring: dict[SystemRuntime, tuple[asyncio.Event, asyncio.Task[None]]] = {}
        """System -> the event that ends its time, and the task that stops it."""

    def __iter__(self) -> Iterator[SystemRuntime]:
        return iter(self._by_name.values())

    def get(self, name: str) -> SystemRuntime:
        """Return the system with this name.

        Raises:
            SystemNotFoundError: unknown system.
            GatewayUnavailableError: the system is being replaced.
        """
        try:
            return self._by_name[name.lower()]
        except KeyError:
            if name.lower() in self._paused:
                raise GatewayUnavailableError(
                    f"The system {name!r} is taking up another configuration.", hint="Try again soon.", retry_after=1
                ) from None
            names = ", ".join(sorted(self._by_name))
            raise SystemNotFoundError("System not found", hint=f"This gateway has: {names}.") from None

    def find(self, name: str) -> SystemRuntime | None:
        """Return the system with this name, or None."""
        return self._by_name.get(name.lower())

    def add(self, system: SystemRuntime) -> None:
        """Serve a system, in place of one with the same name."""
        self._by_name[system.name.lower()] = system
        self._paused.discard(system.name.lower())

    def suspend(self, system: SystemRuntime) -> None:
        """Stop serving a system. Requests get 503 until another one takes its place."""
        self._claim(system)
        self._paused.add(system.name.lower())

    def retire(self, system: SystemRuntime, patience: float) -> None:
        """Stop serving a system, and stop it after `patience` seconds for its running work."""
        self._claim(system)
        now = asyncio.Event()
        task = asyncio.create_task(_retire(system, patience, now))
        self._retiring[system] = now, task
        task.add_done_callback(lambda _: self._retiring.pop(system, None))

    async def stop_retired(self, name: str | None = None) -> None:
        """Stop the retired systems with this name now, or all of them."""
        for system, (now, task) in list(self._retiring.items()):
            if name is None or system.name.lower() == name.lower():
                now.set()
                await asyncio.wait([task])

    def exchange(self, systems: list[SystemRuntime], names: Iterable[str], patience: float) -> None:
        """Serve `systems`, and keep the others with one of `names`. The rest is retired, see `retire`."""
        for system in systems:
            if (before := self.find(system.name)) is not None:
                self.retire(before, patience)
            self.add(system)
        kept = {name.lower() for name in names}
        for system in list(self):
            if system.name.lower() not in kept:
                self.retire(system, patience)

    async def close(self, patience: float = 0.0) -> None:
        """Stop all systems, even if one of them fails; see `SystemRuntime.stop`."""
        stops = [self.stop_retired(), *(system.stop(patience) for system in self)]
        failed = [each for each in await asyncio.gather(*stops, return_exceptions=True) if each is not None]
        if failed:
            raise failed[0]

    def _claim(self, system: SystemRuntime) -> None:
        if self._by_name.get(system.name.lower()) is system:
            del self._by_name[system.name.lower()]


async def _retire(system: SystemRuntime, patience: float, now: asyncio.Event) -> None:
    await system.feeds.close()  # their watchers reconnect, and find the new systems
    with suppress(TimeoutError):
        await asyncio.wait_for(now.wait(), patience)
    await system.stop()


def build_systems(
    config: GatewayConfig,
    state_dir: StateDirectory,
    store: Store,
    public_url: Callable[[], str],
    replicas: Replicas | None = None,
) -> SystemRegistry:
    """Create the configured systems, without starting them.

    Raises:
        ConfigError: a scheduler or a file system cannot be used.
    """
    check_served_trees(config)
    replicas = replicas or Replicas(store)
    return SystemRegistry(
        [build_system(name, system, state_dir, store, public_url, replicas) for name, system in config.systems.items()]
    )


def build_system(
    name: str,
    config: SystemConfig,
    state_dir: StateDirectory,
    store: Store,
    public_url: Callable[[], str],
    replicas: Replicas,
) -> SystemRuntime:
    """Create one system, without starting it.

    Raises:
        ConfigError: its scheduler, host or a file system cannot be used.
    """
    if not config.file_systems:
        config = msgspec.structs.replace(config, file_systems=_default_file_systems(name, config, state_dir))
    roots = [each.path for each in config.file_systems or []]
    guard = PathGuard(name, roots)
    directory = state_dir.private / "systems" / name
    unfinished = UnfinishedUploads(store.engine, name)
    host = create_host(HostSetup(name, guard, config.host, directory, config.archives, unfinished))
    options = dict(config.scheduler)
    kind = str(options.pop("type", DEFAULT_SCHEDULER))
    commands = InstrumentedCommands(name, host)
    scheduler = create_scheduler(kind, SchedulerSetup(name, options, commands, directory))
    if scheduler.acts_as_gateway and not host.acts_as_gateway:
        raise ConfigError(
            f"The scheduler {kind!r} of the system {name!r} would run its users' jobs as the gateway, beside its keys.",
            hint=f"Name the batch system of its host: type under [systems.{name}.scheduler].",
        )
    if store.shared:
        check_shareable(name, scheduler)
        if isinstance(scheduler, CommandScheduler):
            scheduler.share_lists(SharedLists(store, name))
    return SystemRuntime(
        name,
        config,
        scheduler,
        host,
        store,
        replicas,
        unfinished,
        signing_key=state_dir.transfer_key(),
        public_url=public_url,
    )


def check_shareable(name: str, scheduler: Scheduler) -> None:
    """Refuse a system that several gateways serve but whose jobs belong to one of them.

    Raises:
        ConfigError: the system is refused.
    """
    if scheduler.is_exclusive:
        raise ConfigError(
            f"The jobs of the system {name!r} belong to one gateway, and the database to several.",
            hint="Take `database` out, or give the system another type of scheduler.",
        )


def _default_file_systems(name: str, system: SystemConfig, state_dir: StateDirectory) -> list[FileSystemConfig]:
    if not acts_as_gateway(system):
        raise ConfigError(
            f"The system {name!r} has no file systems.", hint=f"List them under [[systems.{name}.file_systems]]."
        )
    (state_dir.files / getpass.getuser()).mkdir(parents=True, exist_ok=True)
    others = [
        FileSystemConfig(path=str(Path.home()), data_type="users"),
        FileSystemConfig(path=tempfile.gettempdir(), data_type="scratch"),
    ]
    own = FileSystemConfig(path=str(state_dir.files), data_type="scratch", default_work_dir=True)
    return [own, *without_secrets(others, state_dir)]
