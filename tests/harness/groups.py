"""Which group a test belongs to (`make test-fast` leaves some out), and which files run first.

A test gets its marks from its folder, from the fixtures that it needs and from the backends that it is parametrised
over; nothing is marked by hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

MARKERS = {
    "docker": "needs a container: the cluster or another machine",
    "slurm": "needs a real Slurm",
    "browser": "needs Chromium",
    "airflow": "needs Airflow, whose import and database alone take a while",
    "slow": "runs whole programs, or takes long",
}

_OF_FOLDERS = {
    "airflow": ("airflow",),
    "chaos": ("slow",),
    "end_to_end": ("slow",),
    "gateway_page": ("browser",),
}
_OF_FIXTURES = {
    "alone": ("slow",),
    "browser": ("browser",),
    "chromium": ("browser",),
    "cluster": ("docker", "slurm"),
    "crestline": ("slow",),
    "example_hub": ("slow",),
    "hub": ("slow",),
    "oidc_provider": ("slow",),
    "on_local": ("slow",),
    "on_own": ("slow",),
    "on_plain": ("slow",),
    "own_gateway": ("slow",),
    "postgresql": ("slow",),
    "site": ("slow",),
    "s3_server": ("slow",),
}
_OF_BACKENDS = {"slurm": ("docker", "slurm"), "ssh": ("docker",)}

LONGEST = (
    "docs/test_code_blocks.py",
    "jupyterhub/test_slurm.py",
    "airflow/test_live.py",
    "chaos/test_everything_at_once.py",
    "gateway/test_slurm_jobs.py",
    "security/test_ci_payloads.py",
    "end_to_end/test_demo.py",
    "end_to_end/test_wheels.py",
    "cli_slurm/test_same_as_slurm.py",
    "core/test_cli_plain.py",
    "jupyterhub/test_oidc.py",
    "security/test_connections.py",
    "gateway/test_pbs_jobs.py",
    "gitlab_runner/test_chaos.py",
    "jupyterhub/test_outages.py",
    "gateway/test_s3.py",
    "gitlab_runner/test_cancel.py",
    "gitlab_runner/test_example.py",
    "jupyterhub/test_sessions.py",
    "jupyterhub/test_spawn.py",
    "gitlab_runner/test_contract.py",
    "gitlab_runner/test_leftovers.py",
    "gateway/test_replicas.py",
    "security/test_hostile_run.py",
    "gitlab_runner/test_hostile.py",
    "gitlab_runner/test_sources.py",
    "jupyterhub/test_oldest_hub.py",
    "reframe/test_outages.py",
    "reframe/test_resuming.py",
    "reframe/test_requests.py",
    "reframe/test_pipeline.py",
    "gitlab_runner/test_stages.py",
    "jupyterhub/test_browser.py",
    "core/test_cli_commands.py",
    "core/test_federation.py",
    "gateway/test_schema.py",
    "gateway/test_survives.py",
    "gateway/test_memory.py",
    "gitlab_runner/test_shared.py",
    "jupyterhub/test_notice.py",
    "gitlab_runner/test_images.py",
    "core/test_job_stream.py",
    "core/test_files_odd_names.py",
    "gateway/test_operation.py",
    "gateway/test_authorization.py",
    "security/test_event_loop.py",
    "security/test_symlink_race.py",
    "security/test_held_threads.py",
    "security/test_endpoint_chains.py",
    "security/test_injection_adapters.py",
)
"""files that take a worker longest, the longest first; all are `slow`

A worker takes whole files. If one of these came last, the others would wait for it. See `--durations=100`.
"""


def marks_of(item: pytest.Item) -> Iterator[str]:
    """The groups of a test."""
    yield from _OF_FOLDERS.get(item.path.parent.name, ())
    if _name(item.path) in LONGEST:
        yield "slow"
    for fixture in getattr(item, "fixturenames", ()):
        yield from _OF_FIXTURES.get(fixture, ())
    callspec = getattr(item, "callspec", None)
    for value in callspec.params.values() if callspec is not None else ():
        if isinstance(value, str):
            yield from _OF_BACKENDS.get(value, ())


def in_order(items: Iterable[pytest.Item]) -> list[pytest.Item]:
    """The tests, those of long files first, else as collected."""
    rank = {name: number for number, name in enumerate(LONGEST)}
    return sorted(items, key=lambda item: rank.get(_name(item.path), len(rank)))


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"
