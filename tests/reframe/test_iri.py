"""A suite on an IRI facility: the site is all that differs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from crestline.client import Site, register_site
from harness.reframe_suite import Suite
from iri_facility import TOKEN, Deviations, serve

CHECKS = Path(__file__).parent / "checks"
UNUSED = ("url", "token_url", "client_id", "client_secret_file", "system")


@pytest.mark.parametrize("version", [1, 2])
def test_suite(tmp_path: Path, version: int) -> None:
    place = tmp_path / "facility"
    place.mkdir()
    with serve(place, Deviations(versions=(version,))) as facility:
        suite = Suite(
            tmp_path / "suite",
            Site(url=facility.url, api="iri"),
            firecrest=dict.fromkeys(UNUSED) | {"site": "doe"},
        )
        register_site(
            "doe",
            file=Path(os.environ["CRESTLINE_SITES"]),
            url=facility.url,
            api="iri",
            token=TOKEN,
            options={"workdir": str(place)},
        )
        done = suite.run("-c", CHECKS / "pipeline.py", "-r", "-n", "Reads|Fails")
    assert done.results == {
        "Sum": "pass",
        "Data ~remote": "pass",
        "LocalData ~remote": "pass",
        "Writes": "pass",
        "Reads": "pass",
        "Contained": "pass",
        "Fails": "fail",
    }, done.output
    assert "yes" in done.cases["Fails"]["fail_reason"]
