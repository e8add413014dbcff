"""The files of a session on the system: a folder of its own, closed to other users before a secret is written."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jupyterhub.utils import url_path_join

from crestline.client import System
from crestline.model.time_limits import seconds_of
from crestline.relay.tokens import HubKey
from crestline_jupyterhub.failures import SpawnFailedError
from crestline_jupyterhub.session.program import session_program

PROGRAM, CONFIG, LOG, RUNS = "session.pyz", "session.json", "session.log", "session.runs"
SESSION_LIFETIME = 90 * 86400.0
"""Lifetime of a relay session in seconds: the longest queue and the longest job."""

_OF_THE_HUB = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "CONDA_ROOT", "VIRTUAL_ENV", "HOME")
"""Variables that have no meaning on another machine."""


async def stage(system: System, folder: str, config: Mapping[str, Any]) -> None:
    """Create a session's folder, with its program and its configuration.

    Args:
        system: the system.
        folder: absolute path on the system.
        config: from `session_config`.

    Raises:
        CrestlineError: the gateway refuses it.
    """
    await system.mkdir(folder, parents=True)
    await system.chmod(folder, "700")
    files = {PROGRAM: session_program(), CONFIG: json.dumps(config).encode()}
    await asyncio.gather(*(system.write_bytes(f"{folder}/{name}", data) for name, data in files.items()))
    await system.chmod(f"{folder}/{CONFIG}", "600")


def session_config(
    *,
    command: Sequence[str],
    environment: Mapping[str, str],
    base_path: str,
    nonce: str,
    shows_token: bool,
    relay: Mapping[str, Any] | None,
    time_limit: str | int | None,
    warn_before_end: int,
) -> dict[str, Any]:
    """Build the configuration that the session's program reads when its job starts.

    Args:
        command: command of the single-user server, whose arguments for the address are removed.
        environment: variables of the single-user server, without those of the hub's own machine.
        base_path: path below which the hub's proxy leads to the server.
        nonce: the secret with which the session calls back.
        shows_token: whether notebooks can read the user's token for the gateway.
        relay: connection to the relay, from `open_relay_session`; None: the session listens on its node.
        time_limit: the job's time limit, as in `JobSpec`.
        warn_before_end: seconds before it at which the user is warned.
    """
    return {
        "command": without_address(command),
        "environment": {name: value for name, value in environment.items() if name not in _OF_THE_HUB},
        "base_path": base_path,
        "hub_api": environment["JUPYTERHUB_API_URL"],
        "nonce": nonce,
        "shows_token": shows_token,
        "relay": relay,
        "time_limit": seconds_of(time_limit),
        "warn_before_end": warn_before_end,
    }


_ADDRESS = ("ip", "port", "sock")
_APPS = ("", "ServerApp.", "NotebookApp.", "SingleUserNotebookApp.", "JupyterHubSingleUser.")


def without_address(command: Sequence[str]) -> list[str]:
    """Return a server's command without arguments for the address, because it listens on a socket of its own.

    Both forms are recognised, `--ip=0.0.0.0` and `--ip 0.0.0.0`.
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
    """Return the key with which this hub signs relay sessions.

    Raises:
        SpawnFailedError: the key cannot be read.
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


def open_relay_session(
    key_file: str, *, user: str, base_path: str, hub_api: str, url: str, ca_file: str
) -> tuple[str, dict[str, Any]]:
    """Sign a session of the relay.

    Args:
        key_file: file with the hub's key.
        user: the user's name at the hub.
        base_path: path below which the hub's proxy leads to the server.
        hub_api: URL of the hub's API.
        url: URL of the relay for jobs.
        ca_file: on the compute nodes: PEM file of the relay's authority; empty: the nodes' own.

    Returns:
        the session's id, and the settings with which the session's program reaches the relay.

    Raises:
        SpawnFailedError: the key cannot be read.
    """
    key = relay_key(key_file)
    session, token = key.new_session(user=user, path=base_path, hub_api=hub_api, lifetime=SESSION_LIFETIME)
    return session.id, {"url": url_path_join(url, "agents"), "token": token, "ca_file": ca_file or None}
