"""A real hub before the stand-in of plain FirecREST, and what the tests look for there."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from crestline.testing.firecrest import PlainFirecrest, running
from harness.hub import Hub
from harness.hub_settings import HUB, QUICK, TINY, variables


@contextmanager
def hub_before_firecrest(
    folder: Path, settings: str = "", *, base: str = HUB + TINY + QUICK, python: str = sys.executable
) -> Iterator[tuple[Hub, PlainFirecrest]]:
    """A hub in `folder` with `settings`, before a facility of its own."""
    with running(cpus_per_node=8) as plain, Hub(folder, base + settings, variables(plain), python=python) as hub:
        yield hub, plain


def active_jobs(plain: PlainFirecrest, part: str) -> list[str]:
    """Ids of the jobs with `part` in their names that have not ended; the name has the user as `-user-`."""
    return [job.id for job in plain.jobs() if part in job.name and not job.is_over]


def session_of(plain: PlainFirecrest, user: str) -> dict[str, Any]:
    """The private file of a user's session."""
    (file,) = (plain.home / ".crestline/jupyterhub").glob(f"*-{user}-*/session.json")
    return dict(json.loads(file.read_text()))


def spawn_queued(hub: Hub, plain: PlainFirecrest, user: str) -> str:
    """Start a server whose job stays in the queue; returns the job's id once the hub knows it."""
    plain.settings.start_delay = 3600
    hub.spawn(user)
    hub.wait(lambda: active_jobs(plain, f"-{user}-"), "no job")
    (job_id,) = active_jobs(plain, f"-{user}-")
    hub.wait(lambda: f"is job {job_id}" in hub.log(), "the hub does not know its job")
    return job_id


def spawn_started(hub: Hub, plain: PlainFirecrest, user: str) -> None:
    """Start a server whose job starts at once, and stop it when it is ready."""
    plain.settings.start_delay = 0
    hub.spawn(user)
    hub.ready(user)
    hub.stop_server(user)
