"""The systems of one gateway: what the configuration names, brought to life."""

from __future__ import annotations

import getpass
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from crestline.gateway.config import FileSystemConfig, GatewayConfig, SystemConfig, wire_file_systems
from crestline.gateway.home import Home
from crestline.gateway.hosts import Files, Host
from crestline.gateway.hosts.registry import HostSetup, create_host
from crestline.gateway.identity import Caller
from crestline.gateway.paths import PathGuard
from crestline.gateway.schedulers import Scheduler
from crestline.gateway.schedulers.registry import SchedulerSetup, create_scheduler
from crestline.gateway.store import Store
from crestline.gateway.submissions import Submissions
from crestline.gateway.transfers import TransferService
from crestline.model import ConfigError, SystemNotFoundError
from crestline.wire.status import FileSystem


class SystemRuntime:
    """One system: its scheduler, its machine, and what works on them."""

    def __init__(
        self,
        name: str,
        config: SystemConfig,
        scheduler: Scheduler,
        host: Host,
        store: Store,
        *,
        signing_key: bytes,
        public_url: Callable[[], str],
        guard: PathGuard,
    ) -> None:
        self.name = name
        self.config = config
        self.scheduler = scheduler
        self.host = host
        self.file_systems: list[FileSystem] = wire_file_systems(config)
        self.guard = guard
        self.submissions = Submissions(store, name, scheduler)
        self.transfers = TransferService(self, store, signing_key=signing_key, public_url=public_url)

    def files(self, caller: Caller) -> Files:
        """The machine's files as the caller sees them."""
        return self.host.files(caller.username)

    def default_directory(self, caller: Caller) -> str:
        """`<default file system>/<user>`, where FirecREST's clients expect to work."""
        default = next((each for each in self.file_systems if each.default_work_dir), self.file_systems[0])
        return f"{default.path.rstrip('/')}/{caller.username}"

    async def start(self) -> None:
        """Take up work."""
        await self.host.start()
        await self.scheduler.start()
        await self.transfers.start()

    async def stop(self) -> None:
        """Let go; jobs go on."""
        await self.transfers.stop()
        await self.scheduler.stop()
        await self.host.stop()


class Systems:
    """All systems by name; names match without regard to case."""

    def __init__(self, systems: list[SystemRuntime]) -> None:
        self._by_name = {system.name.lower(): system for system in systems}

    def __iter__(self) -> Iterator[SystemRuntime]:
        return iter(self._by_name.values())

    def get(self, name: str) -> SystemRuntime:
        """The system called `name`.

        Raises:
            SystemNotFoundError: there is none.
        """
        try:
            return self._by_name[name.lower()]
        except KeyError:
            names = ", ".join(sorted(self._by_name))
            raise SystemNotFoundError("System not found", hint=f"This gateway has: {names}.") from None


def build_systems(config: GatewayConfig, home: Home, store: Store, public_url: Callable[[], str]) -> Systems:
    """The configured systems, not yet started.

    Raises:
        ConfigError: a scheduler or a file system cannot be used.
    """
    systems = []
    for name, system in config.systems.items():
        if not system.file_systems:
            system.file_systems = _default_file_systems(name, system, home)
        guard = PathGuard(
            name, [each.path for each in system.file_systems], denied=[str(home.private), str(home.first_client)]
        )
        directory = home.private / "systems" / name
        host = create_host(HostSetup(name, guard, system.host, directory))
        options = {"type": "local"} | system.scheduler
        kind = str(options.pop("type"))
        systems.append(
            SystemRuntime(
                name,
                system,
                create_scheduler(kind, SchedulerSetup(name, options, host, directory)),
                host,
                store,
                signing_key=home.secret("transfer_key"),
                public_url=public_url,
                guard=guard,
            )
        )
    return Systems(systems)


def _default_file_systems(name: str, system: SystemConfig, home: Home) -> list[FileSystemConfig]:
    if system.host.get("type", "this_machine") != "this_machine":
        raise ConfigError(
            f"The system {name!r} has no file systems.", hint=f"List them under [[systems.{name}.file_systems]]."
        )
    (home.files / getpass.getuser()).mkdir(parents=True, exist_ok=True)
    return [
        FileSystemConfig(path=str(home.files), data_type="scratch", default_work_dir=True),
        FileSystemConfig(path=str(Path.home()), data_type="users"),
        FileSystemConfig(path=tempfile.gettempdir(), data_type="scratch"),
    ]
