"""Sessions by other APIs than FirecREST: the site's `api` is all that differs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal

from crestline.client import register_site
from crestline.testing.iri import TOKEN, Deviations, running
from harness import workstation
from harness.hub import Hub
from harness.hub_settings import HUB, QUICK, TINY
from harness.relay import serving

OVER = ("canceled", "completed", "failed")


@contextmanager
def way_to(folder: Path, mode: str) -> Iterator[str]:
    """The hub's settings for reaching its sessions."""
    if mode == "direct":
        yield ""
        return
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(serving(folder)) as relay:
        yield f"""
c.FirecRESTSpawner.connect_mode = "relay"
c.FirecRESTSpawner.relay_key_file = "{folder}/relay.key"
c.FirecRESTSpawner.relay_ingress = "http://127.0.0.1:{relay.ingress}"
c.FirecRESTSpawner.relay_url = "{relay.url}"
"""


@pytest.mark.parametrize(("version", "mode"), [(1, "direct"), (2, "relay")])
def test_a_session_starts_answers_and_ends(tmp_path: Path, version: int, mode: str) -> None:
    place, folder = tmp_path / "facility", tmp_path / "hub"
    place.mkdir()
    folder.mkdir()
    with running(place, Deviations(versions=(version,))) as facility, way_to(folder, mode) as settings:
        sites = folder / "sites.toml"
        options = {"workdir": str(place)}
        register_site("doe", file=sites, url=facility.url, api="iri", token=TOKEN, system="Pearl", options=options)
        with Hub(folder, HUB + TINY + QUICK + settings, {"CRESTLINE_SITES": str(sites)}) as hub:
            assert hub.spawn("anna").status_code in (201, 202)
            hub.ready("anna")
            with hub.http() as http:
                assert http.get("/user/anna/api").status_code == 200
            hub.stop_server("anna")
            [job] = facility.jobs.values()
            hub.wait(
                lambda: job.show(reports_scheduler_states=False)["status"]["state"] in OVER, "the job was not cancelled"
            )


def test_a_session_on_a_backend_of_others(tmp_path: Path) -> None:
    place, folder = tmp_path / "facility", tmp_path / "hub"
    place.mkdir()
    folder.mkdir()
    sites = folder / "sites.toml"
    register_site("desk", file=sites, url=f"workstation:{place}", api="workstation", token="unused")
    paths = os.pathsep.join(map(str, workstation.install(tmp_path / "installed")))
    with Hub(folder, HUB + TINY + QUICK, {"CRESTLINE_SITES": str(sites), "PYTHONPATH": paths}) as hub:
        assert hub.spawn("anna").status_code in (201, 202)
        hub.ready("anna")
        with hub.http() as http:
            assert http.get("/user/anna/api").status_code == 200
        hub.stop_server("anna")
        hub.wait((place / ".workstation/1/cancelled").exists, "the job was not cancelled")
        hub.wait((place / ".workstation/1/status").exists, "the job did not end")
