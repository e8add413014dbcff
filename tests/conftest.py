"""Fixtures that all parts share."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from harness import groups
from harness.certificates import trust_tests_alone
from harness.cluster import cluster, clusters
from harness.gateway import HOMES, RunningGateway, in_thread
from harness.oidc import oidc_provider
from harness.postgresql import postgresql
from harness.s3 import s3_server
from harness.secret_scanner import known_below, logs_below, shown_by
from harness.slurm_gateway import slurm_gateway

__all__ = ["cluster", "clusters", "oidc_provider", "postgresql", "s3_server", "slurm_gateway"]


def pytest_configure(config: pytest.Config) -> None:
    """Declare the groups of tests, time no example, trust one authority, let background runs get SIGINT.

    To read the public authorities takes 20 ms of each client and each program, which is a tenth of the whole run.

    The shell of a background run ignores SIGINT for what it starts, and programs inherit that, but no handler.
    """
    for marker, meaning in groups.MARKERS.items():
        config.addinivalue_line("markers", f"{marker}: {meaning}")
    hypothesis.settings.register_profile("untimed", deadline=None)
    hypothesis.settings.load_profile("untimed")
    if "SSL_CERT_FILE" not in os.environ:  # the workers of a run inherit it
        trust_tests_alone(HOMES)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda number, frame: None)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import no file of which `make test-fast` runs no test."""
    return groups.is_left_out(collection_path, config.option.markexpr) or None


@pytest.hookimpl(tryfirst=True)  # before pytest selects by marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests with their groups, and let the files that take longest come first."""
    for item in items:
        for marker in groups.marks_of(item):
            item.add_marker(marker)
    items[:] = groups.in_order(items)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def _no_secret_in_any_log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """At the end of the run: no log and no output of a job shows a secret of any gateway, hub or server of the run."""
    yield
    folder = tmp_path_factory.getbasetemp()
    shown = shown_by([*logs_below(folder), *logs_below(HOMES)], known_below(folder) | known_below(HOMES))
    assert not shown, "\n".join([_SHOWN, *shown])


_SHOWN = "secrets are shown in these places:"
_found = False


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember a secret that was shown, for the end of the run."""
    global _found
    _found = _found or (report.failed and _SHOWN in report.longreprtext)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A secret that was shown is not a failure of one test, which `make test AGAIN=1` would repeat."""
    if _found:
        session.exitstatus = pytest.ExitCode.INTERNAL_ERROR


@pytest.fixture(autouse=True)
def _no_site_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests neither read nor write the sites file and the variables of the user who runs them."""
    monkeypatch.setenv("CRESTLINE_SITES", str(tmp_path / "sites.toml"))
    for name in ("URL", "CLIENT_ID", "CLIENT_SECRET", "SYSTEM", "TOKEN", "API_KEY", "TOKEN_COMMAND"):
        monkeypatch.delenv(f"FIRECREST_{name}", raising=False)
    monkeypatch.delenv("AUTH_TOKEN_URL", raising=False)


@pytest.fixture(autouse=True)
def _no_token_of_an_earlier_test() -> None:
    """A stand-in may get the port of an earlier one, for which this process still has a token."""
    if (module := sys.modules.get("crestline.client.auth.token")) is not None:
        module._sources.clear()


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway on its embedded default, for tests that do not disturb it."""
    with in_thread(tmp_path_factory.mktemp("gateway") / "home") as running:
        yield running
