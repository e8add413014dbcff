"""Every adapter's own configuration can name the API of a site, and what it needs to know."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crestline.client import ADDRESS_FIELDS, Site

OPTIONS = {"workdir": "/scratch/me", "custom_attributes": {"filesystems": "home"}}
URL = "https://api.example.gov/api/v1"


def address(site: Site) -> dict[str, object]:
    return {name: getattr(site, name) for name in ADDRESS_FIELDS}


EXPECTED = address(Site(url=URL, api="iri", options=OPTIONS, ca_file=None))


@pytest.mark.parametrize("identity", [{"token_command": ["echo", "x"]}, {}], ids=["own", "of the variables"])
def test_reframe(monkeypatch: pytest.MonkeyPatch, identity: dict[str, list[str]]) -> None:
    from crestline_reframe.options import read

    monkeypatch.setenv("FIRECREST_URL", "https://other.example")
    monkeypatch.setenv("FIRECREST_TOKEN", "t")
    site, system, _ = read({"url": URL, "api": "iri", "options": OPTIONS, "system": "Pearl", **identity}).target()
    assert address(site) == EXPECTED
    assert system == "Pearl"


def test_gitlab_runner(tmp_path: Path) -> None:
    from crestline_gitlab_runner.identity import site
    from crestline_gitlab_runner.settings import load_settings

    file = tmp_path / "iri.toml"
    file.write_text(
        f'[gateway]\napi = "iri"\nurl = "{URL}"\nsystem = "Pearl"\ntoken_command = ["echo", "x"]\n'
        '[gateway.options]\nworkdir = "/scratch/me"\ncustom_attributes = { filesystems = "home" }\n'
    )
    file.chmod(0o600)
    assert address(site(load_settings(file), None)) == EXPECTED


@pytest.mark.parametrize("options", [OPTIONS, json.dumps(OPTIONS)], ids=["JSON", "text of a URI"])
def test_airflow(options: object) -> None:
    from airflow.sdk import Connection

    from crestline_airflow.hooks import _site

    connection = Connection(conn_id="doe", conn_type="firecrest", host=URL, password="p", login="l")
    assert address(_site(connection, {"api": "iri", "options": options})) == EXPECTED


def test_sites_file_of_hub_and_command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from crestline.client import find_site, register_site

    monkeypatch.setenv("CRESTLINE_SITES", str(tmp_path / "sites.toml"))
    register_site("doe", url=URL, api="iri", token="t", options=OPTIONS)
    assert address(find_site("doe")[0]) == EXPECTED
