"""Check each system: its host, the login there, its directories, its batch system and its object store."""

from __future__ import annotations

import getpass
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

from crestline.cli.checks import Check, Verdict, failed
from crestline.cli.checks.gateway import batch_systems
from crestline.cli.checks.gateway.setup import Setup
from crestline.gateway.config import SystemConfig
from crestline.gateway.state_directory import StateDirectory
from crestline.model import CrestlineError

if TYPE_CHECKING:
    from crestline.gateway.store import Store
    from crestline.gateway.systems import SystemRuntime

_TIMEOUT = 15.0


async def check(setup: Setup) -> AsyncIterator[Check]:
    """Check all systems, one after the other."""
    from crestline.gateway.store import Store

    if not setup.config.systems:
        yield Check("systems", Verdict.FAIL, "There are none.", "Give at least one [systems.NAME].")
    for name, system in setup.config.systems.items():
        with tempfile.TemporaryDirectory(prefix="crestline-") as place:
            state_dir = StateDirectory(Path(place, "home"))
            state_dir.create()
            store = await Store.open(state_dir.database)
            try:
                async for each in _system(setup, name, system, state_dir, store):
                    yield each
            finally:
                await store.close()


async def _system(
    setup: Setup, name: str, config: SystemConfig, state_dir: StateDirectory, store: Store
) -> AsyncIterator[Check]:
    from crestline.gateway.replicas import Replicas
    from crestline.gateway.systems import build_system, check_shareable

    is_configured = bool(config.file_systems)  # otherwise they are created in the state directory
    try:
        runtime = build_system(name, config, state_dir, store, lambda: "http://127.0.0.1", Replicas(store))
        new_secrets, known_secrets = [], []
        for file in runtime.host.secret_files:
            real = StateDirectory(setup.config.state_dir).private / "systems" / name / file.name
            if real.exists():
                known_secrets.append(shutil.copyfile(real, file))
            else:
                new_secrets.append(file.name)
        if known_secrets:  # build again to load the copied secrets
            runtime = build_system(name, config, state_dir, store, lambda: "http://127.0.0.1", Replicas(store))
        if setup.config.database is not None:
            check_shareable(name, runtime.scheduler)
    except CrestlineError as error:
        yield failed(f"system {name}", error)
        return
    except OSError as error:
        message = f"{error.filename or 'A file'} cannot be used: {error.strerror}."
        yield Check(f"system {name}", Verdict.FAIL, message, "Correct the path, or its owner and mode.")
        return
    user = setup.user or config.host.get("observer") or config.scheduler.get("observer")
    if runtime.host.acts_as_gateway:
        user = user or getpass.getuser()
    try:
        await runtime.host.start()
        async for each in _machine(runtime, user, new_secrets=new_secrets, is_configured=is_configured):
            yield each
            if each.verdict is not Verdict.OK and each.name.startswith(("machine", "login")):
                return
        if user is not None and not runtime.scheduler.is_exclusive:
            async for each in batch_systems.check(runtime, config.scheduler, user):
                yield each
        if (objects := runtime.transfers.object_store) is not None:
            yield await _object_store(name, objects.ping())
    finally:
        await runtime.host.stop()


async def _machine(
    runtime: SystemRuntime, user: str | None, *, new_secrets: list[str], is_configured: bool
) -> AsyncIterator[Check]:
    name = runtime.name
    if not runtime.host.acts_as_gateway:
        async for each in runtime.host.diagnose(f"machine of {name}"):
            yield each
            if each.verdict is Verdict.FAIL:
                return
        if new_secrets:
            message = (
                f"The gateway makes {', '.join(new_secrets)} at the first start; the machine has to trust it then."
            )
            yield Check(f"login on {name}", Verdict.WARN, message, "Start it once, then look again.")
            return
        if user is None:
            message = "No login was tried: the configuration names no observer."
            yield Check(f"login on {name}", Verdict.WARN, message, "Give --user NAME.")
            return
        try:
            done = await runtime.host.run(user, ["true"], timeout=_TIMEOUT)
        except CrestlineError as error:
            yield failed(f"login on {name}", error)
            return
        if done.exit_status:
            message = f"{user} can log in, but not run commands (exit status {done.exit_status})."
            yield Check(f"login on {name}", Verdict.FAIL, message, "What is the login shell, and what do its files do?")
            return
        yield Check(f"login on {name}", Verdict.OK, f"{user} logs in, and the host key is the known one.")
    for served in runtime.file_systems if is_configured else []:
        yield await _file_system(runtime, served.path, str(user), is_default=served.default_work_dir)


async def _file_system(runtime: SystemRuntime, path: str, user: str, *, is_default: bool) -> Check:
    name = f"file system {path} of {runtime.name}"

    async def holds(flag: str, where: str) -> bool:
        return (await runtime.host.run(user, ["test", flag, where], timeout=_TIMEOUT)).exit_status == 0

    try:
        if not await holds("-d", path):
            return Check(name, Verdict.FAIL, "It is not a directory.", "Make it, or correct the path.")
        if not await holds("-x", path):
            return Check(name, Verdict.FAIL, f"{user} may not enter it.", "Change its mode.")
        own = f"{path.rstrip('/')}/{user}"
        if await holds("-w", path) or await holds("-w", own):
            return Check(name, Verdict.OK, f"It is there, and {user} can write.")
    except CrestlineError as error:
        return failed(name, error)
    if is_default:
        hint = f"Make {own} for each user, or let users write to {path}."
        return Check(name, Verdict.FAIL, f"{user} can write neither to it nor to {own}, where work goes.", hint)
    return Check(name, Verdict.WARN, f"{user} cannot write there.", "Let users write there, or remove the path.")


async def _object_store(system: str, ping: object) -> Check:
    try:
        said = await ping  # type: ignore[misc]
    except CrestlineError as error:
        return failed(f"object store of {system}", error)
    return Check(f"object store of {system}", Verdict.OK, f"{said or 'It answers'}.")
