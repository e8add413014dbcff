"""The commands, and Slurm's, on an IRI facility: nothing but the site differs from FirecREST."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crestline.client import connect_any, register_site
from crestline.model import JobSpec, JobState
from crestline.testing import iri
from crestline.testing.firecrest import running
from crestline.testing.iri import TOKEN, Deviations, Facility
from harness.command import Command
from harness.slurm_commands import SlurmCommands

VERSIONS = (1, 2)


@pytest.fixture(params=VERSIONS, ids=["v1", "v2"])
def facility(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Facility]:
    (tmp_path / "facility").mkdir()
    with iri.running(tmp_path / "facility", Deviations(versions=(request.param,))) as facility:
        yield facility


@pytest.fixture
def crestline(facility: Facility, tmp_path: Path) -> Command:
    command = Command(tmp_path / "here")
    options = {"workdir": str(facility.root)}
    register_site("doe", file=command.sites_file, url=facility.url, api="iri", token=TOKEN, options=options)
    return command


def test_run_as_a_ci_job(facility: Facility, crestline: Command) -> None:
    (crestline.place / "in.txt").write_text("input\n")
    work = "cat in.txt; echo data > r.res; echo last; exit 4"
    command = ["run", "--key", "ci/1", "--upload", "in.txt", "--collect", "*.res", "bash", "-c", work]
    assert crestline(*command, code=4).stdout == b"input\nlast\n"
    assert (crestline.place / "r.res").read_text() == "data\n"
    assert crestline(*command, code=4).stdout == b"input\nlast\n"
    assert len(facility.jobs) == 1


def test_submit_follow_list_and_cancel(facility: Facility, crestline: Command) -> None:
    script = (
        "#!/bin/bash\n#SBATCH --time=10:00 -J steps\necho first\nuntil [ -e gate ]; do sleep 0.05; done\necho end\n"
    )
    (crestline.place / "job.sh").write_text(script)
    job_id = crestline("submit", "job.sh").stdout.decode().strip()
    assert job_id.encode() in crestline("ps").stdout
    (facility.root / "gate").touch()
    crestline("wait", job_id)
    assert crestline("logs", job_id).stdout == b"first\nend\n"
    (crestline.place / "endless.sh").write_text("#!/bin/bash\nsleep 1000\n")
    other = crestline("submit", "endless.sh").stdout.decode().strip()
    crestline("cancel", other)
    crestline("wait", other, code=1)
    assert facility.jobs[other].show(reports_scheduler_states=True)["status"]["state"] == "canceled"


def test_files(facility: Facility, crestline: Command) -> None:
    (crestline.place / "tree").mkdir()
    (crestline.place / "tree/f").write_text("f")
    crestline("cp", "-r", "tree", f":{facility.root}/tree")
    assert crestline("cat", f":{facility.root}/tree/f").stdout == b"f"
    crestline("cp", "-r", f":{facility.root}/tree", "back")
    assert (crestline.place / "back/f").read_text() == "f"


def checks(command: Command, code: int = 0) -> dict[str, dict[str, Any]]:
    lines = command("doctor", "--json", code=code).stdout.splitlines()
    return {check["name"]: check for check in map(json.loads, lines)}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("is_root", [True, False])
def test_doctor_knows_the_api(tmp_path: Path, version: int, is_root: bool) -> None:
    command = Command(tmp_path / "here")
    with iri.running(tmp_path, Deviations(versions=(version,))) as facility:
        url = facility.url if is_root else f"{facility.url}/api/v{version}"
        options = {"workdir": str(tmp_path)}
        register_site("doe", file=command.sites_file, url=url, api="iri", token=TOKEN, options=options)
        found = checks(command)
        assert found["gateway"]["message"] == f"The IRI Facility API v{version} answers."
        assert "lain FirecREST" not in str(found)
        assert "the IRI Facility API" in found["features"]["message"]
        assert "up to 256 MiB" in found["large files"]["message"]
        assert "Globus" in found["large files"]["hint"]
        assert found["system Pearl"]["verdict"] == "ok"
        facility.status = "degraded"
        health = checks(command)["system Pearl"]
        assert (health["verdict"], health["message"]) == ("warn", "Health: ok (The cooling has failed.).")
        facility.status = "up"
        register_site("doe", file=command.sites_file, url=url, token=TOKEN)
        wrong = checks(command, code=1)["gateway"]
        assert (wrong["verdict"], 'Set `api = "iri"`' in wrong["hint"]) == ("fail", True)


def test_doctor_finds_firecrest_where_a_facility_should_be(tmp_path: Path) -> None:
    command = Command(tmp_path)
    with running() as plain:
        register_site("doe", file=command.sites_file, url=plain.url, api="iri", token=TOKEN)
        wrong = checks(command, code=1)["gateway"]
        assert (wrong["verdict"], 'Set `api = "firecrest"`' in wrong["hint"]) == ("fail", True)


def test_slurm_commands(facility: Facility, crestline: Command) -> None:
    slurm = SlurmCommands(crestline.place)
    (crestline.place / "job.sh").write_text("#!/bin/bash\n#SBATCH -t 10\nsleep 1000\n")
    job_id = slurm("sbatch", "--chdir", str(facility.root), "job.sh").split()[-1]
    assert job_id in slurm("squeue")
    slurm("scancel", job_id)
    crestline("wait", job_id, code=1)
    assert job_id in slurm("sacct", "-j", job_id)
    assert "does not list its nodes" in slurm.refused("sinfo")
    assert "climate" in slurm("sacctmgr", "show", "assoc")


def test_options_that_the_api_cannot_carry_are_listed(facility: Facility, crestline: Command) -> None:
    (crestline.place / "job.sh").write_text("#!/bin/bash\n#SBATCH --array=0-3 --hold\ntrue\n")
    said = crestline("submit", "job.sh", code=65).stderr.decode()
    assert "--array" in said
    assert "--hold" in said
    assert not facility.jobs


@pytest.mark.anyio
async def test_any_site_chooses_among_both_apis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRESTLINE_SITES", str(tmp_path / "sites.toml"))
    spec = JobSpec(script="#!/bin/bash\ntrue\n")
    with running() as plain, iri.running(tmp_path) as facility:
        register_site(
            "plain",
            url=plain.url,
            token_url=plain.token_url,
            client_id=plain.client_id,
            client_secret=plain.client_secret,
            system=plain.system,
        )
        register_site("doe", url=facility.url, api="iri", token=TOKEN, system="Pearl")
        for key in ("first", "second"):
            async with connect_any(spec, key=key) as system:
                job = await system.submit(spec, key=key)
                assert (await system.wait(job)).state is JobState.COMPLETED
        facility.status = "down"
        async with connect_any(spec, key="third") as system:
            assert system.api == "firecrest"
        assert len(facility.jobs) + len(plain.jobs()) == 2
