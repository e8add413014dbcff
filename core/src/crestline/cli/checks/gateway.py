"""A gateway's configuration, without starting it."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from crestline.cli.checks import Check, Verdict, failed
from crestline.gateway.config import GatewayConfig, load_config
from crestline.gateway.home import Home
from crestline.model import ConfigError, CrestlineError


async def check_gateway(file: Path) -> AsyncIterator[Check]:
    """All checks, until one makes the next ones pointless."""
    try:
        config = load_config(file)
    except ConfigError as error:
        yield failed("configuration", error)
        return
    yield Check("configuration", Verdict.OK, f"{file} can be read.")
    yield _home(Home(config.home))
    for name, system in config.systems.items():
        for each in system.file_systems or []:
            yield _file_system(name, Path(each.path))
    try:
        names = await _build(config)
    except CrestlineError as error:
        yield failed("systems", error)
    except ModuleNotFoundError as error:
        message = f"The gateway needs {error.name}, which is not installed."
        yield Check("systems", Verdict.FAIL, message, "Run: pip install 'crestline[gateway]'")
    else:
        yield Check("systems", Verdict.OK, f"{', '.join(names)}.")
    for check in _exposure(config):
        yield check


def _home(home: Home) -> Check:
    exposed = [file for file in (home.private, home.first_client) if file.exists() and _mode(file) & 0o077]
    if exposed:
        listed = " ".join(map(str, exposed))
        return Check("home", Verdict.FAIL, f"{listed} can be read by others.", f"Run: chmod go= {listed}")
    place = home.path
    while not place.exists():
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        return Check("home", Verdict.FAIL, f"{place} cannot be written.", "Name another home.")
    return Check("home", Verdict.OK, f"{home.path}{'' if place == home.path else ' will be made'}.")


def _file_system(system: str, path: Path) -> Check:
    name = f"file system {path} of {system}"
    if not path.is_dir():
        return Check(name, Verdict.FAIL, "It is no directory.", "Make it, or correct the path.")
    if not os.access(path, os.W_OK | os.X_OK):
        return Check(name, Verdict.WARN, "You cannot write there.", "Users may; if nobody can, jobs find no place.")
    return Check(name, Verdict.OK, "It is there and can be written.")


async def _build(config: GatewayConfig) -> list[str]:
    """Make the systems as the gateway does, in a home that is thrown away."""
    from crestline.gateway.store import Store
    from crestline.gateway.systems import build_systems

    with tempfile.TemporaryDirectory(prefix="crestline-") as place:
        home = Home(Path(place, "home"))
        home.create()
        store = await Store.open(home.database)
        try:
            return [system.name for system in build_systems(config, home, store, lambda: "http://127.0.0.1")]
        finally:
            await store.close()


def _exposure(config: GatewayConfig) -> Iterator[Check]:
    if config.public_url is None:
        yield Check("public_url", Verdict.OK, "Not set: clients use the address that the gateway listens on.")
    elif config.public_url.startswith("https://"):
        yield Check("public_url", Verdict.OK, f"{config.public_url}.")
    else:
        hint = "Put a proxy with TLS before the gateway."
        yield Check("public_url", Verdict.WARN, f"{config.public_url} is plain HTTP.", hint)


def _mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)
