"""Check a gateway's configuration without starting the gateway: each module checks one area.

The checks change nothing. They create systems in a temporary state directory.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

from crestline.cli.checks import Check, Verdict, failed
from crestline.cli.checks.gateway import database, identity, listening, state_directory, systems
from crestline.cli.checks.gateway.setup import Setup
from crestline.gateway.config import load_config
from crestline.model import ConfigError

ROOMS: list[Callable[[Setup], AsyncIterator[Check]]] = [
    state_directory.check,
    listening.check,
    database.check,
    identity.check,
    systems.check,
]
"""The checks, in this order."""


async def check_gateway(file: Path, user: str | None = None) -> AsyncIterator[Check]:
    """Run all checks.

    Args:
        file: the configuration file.
        user: a POSIX user of the systems, to test logins, commands and directories with.
    """
    try:
        config = load_config(file)
    except ConfigError as error:
        yield failed("configuration", error)
        return
    yield Check("configuration", Verdict.OK, f"{file} can be read.")
    for room in ROOMS:
        try:
            async for check in room(Setup(config, user)):
                yield check
        except ModuleNotFoundError as error:
            message = f"The gateway needs {error.name}, which is not installed."
            yield Check("packages", Verdict.FAIL, message, "Run: pip install 'crestline[gateway]'")
