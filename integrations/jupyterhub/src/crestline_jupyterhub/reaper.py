"""Finds what a hub has left on a system without a server: jobs of sessions, and sessions' folders.

    python -m crestline_jupyterhub.reaper --hub-name main --target daint@service           # says what it would do
    python -m crestline_jupyterhub.reaper --hub-name main --target daint@service --delete  # does it

Runs once, or again and again with `--every`, until the hub that started it has gone (`--hub-pid`). As a service of the
hub it finds the hub's URL and its token in its environment (`JUPYTERHUB_API_URL`, `JUPYTERHUB_API_TOKEN`; scopes
`list:users`, `read:servers`, `admin:server_state`).
A job counts as orphaned if no server of the hub has its attempt in its state, in two looks `--grace` seconds apart.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import httpx

from crestline.bounded import MAX_ANSWER, BoundedClient, decode
from crestline.client import Policy, PollPolicy, System, connect
from crestline.model import CrestlineError, FileMissingError, FileType, PermissionDeniedError
from crestline_jupyterhub.job import hub_slug, parse_name

logger = logging.getLogger("crestline_jupyterhub.reaper")

PAGE = 200
_PAGINATED = "application/jupyterhub-pagination+json"


@dataclass(frozen=True)
class Orphan:
    """A job, or with `path` a folder, of an attempt that no server has."""

    attempt: str
    job_id: str = ""
    path: str = ""

    def __str__(self) -> str:
        return f"job {self.job_id}" if self.job_id else f"folder {self.path}"


class HubUnavailableError(CrestlineError):
    """The hub does not say which servers it has; nothing is an orphan then."""


async def owned_attempts(hub_url: str, token: str) -> set[str]:
    """The attempts of all servers that the hub has, in whatever state they are.

    Raises:
        HubUnavailableError: it does not answer, or does not show the servers' state to this token.
    """
    attempts: set[str] = set()
    headers = {"Authorization": f"token {token}", "Accept": _PAGINATED}
    url: str | None = f"{hub_url.rstrip('/')}/users?limit={PAGE}"
    try:
        async with BoundedClient(limit=MAX_ANSWER, seconds=60, headers=headers) as http:
            while url is not None:
                answer = await http.get(url)
                page = decode(answer.raise_for_status().content, dict[str, Any])
                for user in page["items"]:
                    for server in user["servers"].values():
                        attempts.add(str((server["state"] or {}).get("attempt", "")))
                following = page["_pagination"]["next"]
                url = following["url"] if following else None
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise HubUnavailableError(f"The hub does not list its servers: {error}", hint="Try again.") from error
    except (KeyError, TypeError) as error:
        raise HubUnavailableError(
            "The hub does not show its servers' state.",
            hint="The token needs the scopes list:users, read:servers and admin:server_state.",
        ) from error
    return attempts - {""}


async def find_leftovers(system: System, hub_name: str, folders: str = "", days: float = 14) -> list[Orphan]:
    """Find jobs that this hub has started, and folders of ended ones; only the hub knows whether a server owns them.

    Args:
        folders: directory of the sessions' folders; empty: the default of the identity in use.
        days: folders that have changed since then stay, with their logs.
    """
    ours = hub_slug(hub_name)
    jobs = [(parse_name(job.name), job) for job in await system.jobs(all_users=True)]
    alive = {parsed[1]: job for parsed, job in jobs if parsed and parsed[0] == ours and not job.is_finished}
    base = folders or f"{await system.default_workdir()}/.crestline/jupyterhub"
    try:
        entries = await system.ls(base)
    except FileMissingError:
        entries = []
    latest = (datetime.now() - timedelta(days=days)).isoformat()
    old = [
        Orphan(parsed[1], path=f"{base}/{entry.name}")
        for entry in entries
        if entry.type is FileType.DIRECTORY and entry.modified <= latest
        if (parsed := parse_name(entry.name)) and parsed[0] == ours and parsed[1] not in alive
    ]
    return [Orphan(attempt, job_id=job.job_id) for attempt, job in alive.items()] + old


async def remove(system: System, orphan: Orphan) -> None:
    """End the job, or delete the folder; what is another user's and not ours to touch stays, with a warning."""
    try:
        if orphan.job_id:
            await system.cancel(orphan.job_id)
        else:
            await system.remove(orphan.path, force=True)
        logger.info("removed %s", orphan)
    except PermissionDeniedError as error:
        logger.warning("%s cannot be removed: %s", orphan, error)


async def reap(arguments: argparse.Namespace, hub_url: str, token: str) -> list[Orphan]:
    """One run: two looks, and what both of them found is removed or told. Returns that."""
    everybody = Policy(poll=PollPolicy(all_users=True))
    async with connect(arguments.target, policy=everybody) as system:

        async def look() -> list[Orphan]:
            # The hub is asked after the scheduler: an attempt is in its state before there is a job of it.
            found = await find_leftovers(system, arguments.hub_name, arguments.session_dir, arguments.days)
            owned = await owned_attempts(hub_url, token)
            return [orphan for orphan in found if orphan.attempt not in owned]

        first = set(await look())
        if first:
            await asyncio.sleep(arguments.grace)
        confirmed = [orphan for orphan in (await look() if first else []) if orphan in first]
        for orphan in confirmed:
            if arguments.delete:
                await remove(system, orphan)
            else:
                logger.info("would remove %s", orphan)
    return confirmed


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line of `python -m crestline_jupyterhub.reaper`."""
    parser = argparse.ArgumentParser(
        prog="python -m crestline_jupyterhub.reaper", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--hub-name", required=True, help="the spawner's hub_name; no other hub may have the same")
    parser.add_argument("--target", help="system@site that sees the jobs; else FIRECREST_* or the default site")
    parser.add_argument("--session-dir", default="", help="the spawner's session_dir")
    parser.add_argument("--grace", type=float, default=120.0, help="seconds between the two looks (default: 120)")
    parser.add_argument("--days", type=float, default=14.0, help="how long the folder of a session that ended stays")
    parser.add_argument("--every", type=float, help="seconds between two runs; else one run")
    parser.add_argument("--hub-pid", type=int, metavar="PID", help="end when this process has gone; with --every")
    parser.add_argument("--delete", action="store_true", help="remove it; else it is only told")
    return parser.parse_args(argv)


async def run(argv: Sequence[str]) -> int:
    """Reap once or, with `--every`, until the hub has gone; returns the exit code."""
    arguments = parse(argv)
    url, token = (os.environ.get(f"JUPYTERHUB_API_{name}", "") for name in ("URL", "TOKEN"))
    if not url or not token:
        logger.error("JUPYTERHUB_API_URL and JUPYTERHUB_API_TOKEN are not set: run it as a service of the hub")
        return 2
    while True:
        try:
            found = await reap(arguments, url, token)
            logger.info("%d orphans", len(found))
        except CrestlineError as error:
            logger.error("%s", error)
            if arguments.every is None:
                return 1
        if arguments.every is None:
            return 0
        await asyncio.sleep(arguments.every)
        if arguments.hub_pid is not None and os.getppid() != arguments.hub_pid:
            logger.info("the hub that started this service has gone, and its next one starts another")
            return 0


def main() -> None:
    """Run as a command, with a log on standard error."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    sys.exit(asyncio.run(run(sys.argv[1:])))


if __name__ == "__main__":
    main()
