"""`[gateway]` names a site of the sites file: the same configuration works on every API, with another name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import tomlkit

from crestline.model import ConfigError
from crestline.testing.gitlab_runner import CiJob, GitLab
from crestline.testing.iri import Deviations, running
from crestline_gitlab_runner.settings import load_settings
from gitlab_runner.conftest import MakeSite
from gitlab_runner.site import DriverSite, iri_site, iri_slurm_site

NAMES = ["crestline", "crestline-slurm", "firecrest", "iri", "iri-slurm"]
BACKENDS = {"crestline": "gateway", "crestline-slurm": "slurm", "firecrest": "plain"}


@pytest.fixture(params=NAMES)
def named(request: pytest.FixtureRequest, tmp_path: Path, make_site: MakeSite) -> Iterator[tuple[str, DriverSite]]:
    if request.param in BACKENDS:
        yield request.param, make_site(BACKENDS[request.param])
    elif request.param == "iri-slurm":
        yield request.param, iri_slurm_site(tmp_path, request.getfixturevalue("slurm_gateway"))
    else:
        (place := tmp_path / "facility").mkdir()
        with running(place, Deviations(versions=(1,))) as facility:
            yield request.param, iri_site(tmp_path, facility)


def test_a_job_runs_at_the_named_site(named: tuple[str, DriverSite], gitlab: GitLab) -> None:
    name, site = named
    write_sites(Path(site.custom.environment["HOME"]), {name: site})
    content = tomlkit.parse(site.file.read_text())
    content["gateway"] = {"site": name}
    site.file.write_text(tomlkit.dumps(content))

    build = site.run(gitlab, CiJob(script=["cat README.md", "exit 42"]))
    assert (build.state, build.reason, build.exit_code) == ("failed", "script_failure", 42), build.text
    assert "hello\n" in build.text
    assert site.left_behind() == []


def write_sites(home: Path, sites: dict[str, DriverSite]) -> None:
    """Write the sites file of the account whose home directory this is."""
    file = home / ".config" / "crestline" / "sites.toml"
    file.parent.mkdir(parents=True)
    file.touch(0o600)
    tables = {
        name: {key: value for key, value in msgspec.to_builtins(site.client_site).items() if value not in (None, "")}
        for name, site in sites.items()
    }
    file.write_text(tomlkit.dumps({"sites": tables}))


@pytest.mark.parametrize(
    ("gateway", "message"),
    [
        ('system = "daint"', "no url or no system"),
        ('site = "lab"\nurl = "https://elsewhere.example"', "both site and keys"),
        ('site = "lab"\nclient_id = "ci"', "both site and keys"),
        ('site = "lab"', "Site 'lab' has no system."),
        ('site = "moon"', "Unknown site 'moon'."),
    ],
)
def test_a_gateway_that_is_not_clear_is_refused(
    gateway: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sites, file = tmp_path / "sites.toml", tmp_path / "driver.toml"
    sites.touch(0o600)
    sites.write_text('[sites.lab]\nurl = "https://lab.example"\ntoken = "secret"\n')
    file.write_text(f"[gateway]\n{gateway}\n")
    monkeypatch.setenv("CRESTLINE_SITES", str(sites))
    with pytest.raises(ConfigError) as refused:
        load_settings(file)
    assert message in str(refused.value)
