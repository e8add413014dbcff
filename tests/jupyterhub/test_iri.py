"""A session on an IRI facility: the site's `api` is all that differs."""

from __future__ import annotations

from pathlib import Path

import pytest

from crestline.client import register_site
from harness.hub import Hub
from harness.hub_settings import HUB, QUICK, TINY
from iri_facility import TOKEN, Deviations, serve


@pytest.mark.parametrize("version", [1, 2])
def test_a_session_starts_answers_and_ends(tmp_path: Path, version: int) -> None:
    place, folder = tmp_path / "facility", tmp_path / "hub"
    place.mkdir()
    folder.mkdir()
    with serve(place, Deviations(versions=(version,))) as facility:
        sites = folder / "sites.toml"
        options = {"workdir": str(place)}
        register_site("doe", file=sites, url=facility.url, api="iri", token=TOKEN, system="Pearl", options=options)
        with Hub(folder, HUB + TINY + QUICK, {"CRESTLINE_SITES": str(sites)}) as hub:
            assert hub.spawn("anna").status_code in (201, 202)
            hub.ready("anna")
            with hub.http() as http:
                assert http.get("/user/anna/api").status_code == 200
            hub.stop_server("anna")
            [job] = facility.jobs.values()
            hub.wait(
                lambda: job.show(says_scheduler_words=False)["status"]["state"] in ("canceled", "completed", "failed"),
                "the job was not cancelled",
            )
