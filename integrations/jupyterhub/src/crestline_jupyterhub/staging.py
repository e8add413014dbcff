"""What a session finds on the system: a folder of its own, closed to others before a secret goes in."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyterhub.utils import url_path_join

from crestline.client import System
from crestline.model import JobSpec
from crestline.model.time_limits import seconds_of
from crestline.relay.tokens import HubKey
from crestline_jupyterhub import job
from crestline_jupyterhub.failures import SpawnFailedError
from crestline_jupyterhub.session.program import session_program

if TYPE_CHECKING:
    from crestline_jupyterhub.spawner import FirecRESTSpawner

PROGRAM, CONFIG, LOG, RUNS = "session.pyz", "session.json", "session.log", "session.runs"
SESSION_LIFETIME = 90 * 86400.0
"""seconds that a relay session is good for: the longest queue and the longest job"""

_OF_THE_HUB = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "CONDA_ROOT", "VIRTUAL_ENV", "HOME")
"""variables of no use elsewhere"""


async def stage(system: System, spawner: FirecRESTSpawner, spec: JobSpec) -> None:
    """Make the folder, with the session's program and its configuration.

    Raises:
        CrestlineError: the gateway refuses it.
        SpawnFailedError: the relay's key cannot be read.
    """
    config = _config(spawner, system) | {
        "time_limit": seconds_of(spec.time_limit),
        "warn_before_end": spawner.warn_before_end,
    }
    content = json.dumps(config).encode()
    folder = spawner.folder
    await system.mkdir(folder, parents=True)
    await system.chmod(folder, "700")
    with tempfile.TemporaryDirectory() as local:
        files = {PROGRAM: session_program(), CONFIG: content}
        for name, data in files.items():
            path = Path(local, name)
            path.touch(0o600)
            path.write_bytes(data)
        await asyncio.gather(*(system.upload(Path(local, name), f"{folder}/{name}") for name in files))
    await system.chmod(f"{folder}/{CONFIG}", "600")


_ADDRESS = ("ip", "port", "sock")
_APPS = ("", "ServerApp.", "NotebookApp.", "SingleUserNotebookApp.", "JupyterHubSingleUser.")


def without_address(command: Sequence[str]) -> list[str]:
    """A server's command without arguments that say where it listens: it listens on a socket of its own.

    Both forms are known, `--ip=0.0.0.0` and `--ip 0.0.0.0`.
    """
    options = {f"--{app}{name}" for app in _APPS for name in _ADDRESS}
    kept: list[str] = []
    words = iter(command)
    for word in words:
        name, equals, _ = word.partition("=")
        if name not in options:
            kept.append(word)
        elif not equals:
            next(words, None)
    return kept


def relay_key(file: str) -> HubKey:
    """The key that this hub signs relay sessions with.

    Raises:
        SpawnFailedError: it cannot be read.
    """
    try:
        return HubKey(Path(file).read_bytes())
    except (OSError, ValueError) as error:
        raise SpawnFailedError(
            "The relay's key cannot be read; tell your administrator.",
            log_message=f"relay_key_file: {error}",
            reason="configuration",
            status_code=500,
        ) from error


def _config(spawner: FirecRESTSpawner, system: System) -> dict[str, Any]:
    environment = job.texts(spawner.get_env())
    for name in _OF_THE_HUB:
        environment.pop(name, None)
    if spawner.use_user_token:
        environment = {"FIRECREST_URL": system.gateway_url, "FIRECREST_SYSTEM": system.name} | environment
    return {
        "command": without_address([*spawner.cmd, *spawner.get_args(), *spawner.server_args]),
        "environment": environment,
        "base_path": spawner.server.base_url,
        "hub_api": environment["JUPYTERHUB_API_URL"],
        "nonce": spawner.nonce,
        "shows_token": spawner.use_user_token,
        "relay": _open_relay_session(spawner, environment) if spawner.connect_mode == "relay" else None,
    }


def _open_relay_session(spawner: FirecRESTSpawner, environment: dict[str, str]) -> dict[str, Any]:
    session, token = relay_key(spawner.relay_key_file).new_session(
        user=spawner.user.name,
        path=spawner.server.base_url,
        hub_api=environment["JUPYTERHUB_API_URL"],
        lifetime=SESSION_LIFETIME,
    )
    spawner.relay_session = session.id
    url = url_path_join(spawner.relay_url, "agents")
    return {"url": url, "token": token, "ca_file": spawner.relay_ca_file or None}
