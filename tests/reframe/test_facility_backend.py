"""A suite on a facility API other than FirecREST: the example of "Write a facility backend"."""

from __future__ import annotations

import os
from pathlib import Path

from crestline.client import Site
from harness import workstation
from harness.reframe_suite import Suite

CHECKS = Path(__file__).parent / "checks"
UNUSED = ("url", "token_url", "client_id", "client_secret_file", "system")


def test_suite_on_another_facility_api(tmp_path: Path) -> None:
    place = tmp_path / "facility"
    place.mkdir()
    paths = [*workstation.install(tmp_path / "installed"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    url = f"workstation:{place}"
    suite = Suite(
        tmp_path / "suite",
        Site(url=url, api="workstation"),
        firecrest=dict.fromkeys(UNUSED) | {"site": "desk"},
        variables={"PYTHONPATH": os.pathsep.join(str(path) for path in paths if path)},
    )
    sites = Path(os.environ["CRESTLINE_SITES"])
    sites.write_text(f'[sites.desk]\napi = "workstation"\nurl = "{url}"\ntoken = "unused"\n')
    sites.chmod(0o600)
    done = suite.run("-c", CHECKS / "pipeline.py", "-r", "-n", "Sum|Writes|Reads|Contained|Fails")
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
    assert done.jobs()["Writes"]["job_id"].isdigit()
