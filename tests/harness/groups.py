"""Which group a test belongs to (`make test-fast` leaves some out), and which files run first.

A test gets its marks from its folder, from the fixtures that it needs and from the backends that it is parametrised
over; nothing is marked by hand.
"""

from __future__ import annotations

import re
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
    "file_system/test_abstract_suite.py",
    "gateway/test_slurm_jobs.py",
    "airflow/test_live.py",
    "reframe/test_scheduling.py",
    "jupyterhub/test_slurm.py",
    "docs/test_code_blocks.py",
    "security/test_ci_payloads.py",
    "reframe/test_outages.py",
    "security/test_connections.py",
    "security/test_injection.py",
    "core/test_cli_plain.py",
    "chaos/test_everything_at_once.py",
    "core/test_files_odd_names.py",
    "reframe/test_pipeline.py",
    "security/test_sign_in.py",
    "gateway/test_survives.py",
    "jupyterhub/test_oidc.py",
    "cli_slurm/test_same_as_slurm.py",
    "core/test_iri_commands.py",
    "core/test_iri.py",
    "gitlab_runner/test_cancel.py",
    "reframe/test_registration.py",
    "gitlab_runner/test_contract.py",
    "core/test_cli_files.py",
    "gitlab_runner/test_leftovers.py",
    "gateway/test_slurm_outages.py",
    "jupyterhub/test_outages.py",
    "airflow/test_task_firecrest.py",
    "gateway_iri/test_schema.py",
    "gateway/test_s3.py",
    "airflow/test_waiting.py",
    "airflow/test_examples.py",
    "end_to_end/test_demo.py",
    "gateway_page/test_jobs.py",
    "gateway/test_replicas.py",
    "reframe/test_resuming.py",
    "core/test_cli_jobs.py",
    "cli_slurm/test_engines.py",
    "security/test_archive_limits.py",
    "reframe/test_submit_limit.py",
    "core/test_submit.py",
    "gateway_iri/test_jobs.py",
    "gateway_iri/test_files.py",
    "cli_slurm/test_anywhere.py",
    "reframe/test_requests.py",
    "gateway/test_schema.py",
    "reframe/test_pbs.py",
    "jupyterhub/test_sessions.py",
    "simulation/test_simulation.py",
    "gitlab_runner/test_example.py",
    "gateway/test_pbs_jobs.py",
    "gitlab_runner/test_stages.py",
    "gateway_page/test_files.py",
    "gitlab_runner/test_chaos.py",
    "reframe/test_iri.py",
    "gitlab_runner/test_hostile.py",
    "security/test_hostile_run.py",
    "jupyterhub/test_browser.py",
    "security/test_event_loop.py",
    "gateway/test_memory.py",
    "gitlab_runner/test_sources.py",
    "security/test_held_threads.py",
    "jupyterhub/test_spawn.py",
    "core/test_federation.py",
    "gateway/test_operation.py",
    "gateway/test_authorization.py",
    "jupyterhub/test_oldest_hub.py",
    "core/test_cli_commands.py",
    "core/test_job_stream.py",
    "gitlab_runner/test_shared.py",
    "gitlab_runner/test_images.py",
    "end_to_end/test_wheels.py",
    "security/test_symlink_race.py",
    "jupyterhub/test_notice.py",
    "security/test_endpoint_chains.py",
    "security/test_injection_adapters.py",
    "security/test_denied_later.py",
    "cli_slurm/test_options.py",
    "security/test_shared_account.py",
    "gateway/test_reachable.py",
    "reframe/test_facility_backend.py",
    "gateway/test_site_examples.py",
    "gateway/test_transfers_large.py",
)
"""files that take a worker longest, the longest first; all are `slow`

A worker takes whole files. If one of these came last, the others would wait for it. See `--durations=100`.
"""


def is_left_out(path: Path, expression: str) -> bool:
    """Whether a selection such as `not (a or b)` leaves out all tests of a file, which need not be imported then."""
    left_out = re.fullmatch(r"not \(([\w ]+)\)", expression)
    marks = {*_OF_FOLDERS.get(path.parent.name, ()), *(("slow",) if _name(path) in LONGEST else ())}
    return left_out is not None and not marks.isdisjoint(left_out[1].split(" or "))


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
