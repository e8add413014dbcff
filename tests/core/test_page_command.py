"""`crestline page`: what the gateway's page asks, answered before sites that have no page of their own."""

from __future__ import annotations

import asyncio
import io
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from crestline.cli.page.remote import Remote
from crestline.cli.page.server import PageServer
from crestline.client import System, load_sites, register_site
from crestline.client.backends.iri import tasks
from crestline.model import ConfigError, GatewayUnavailableError, SystemNotFoundError
from crestline.testing import iri
from crestline.testing.firecrest import running
from crestline.testing.iri import TOKEN, Deviations
from harness.waiting import until_blocking


@contextmanager
def plain(place: Path) -> Iterator[tuple[str, Path]]:
    """A plain FirecREST as a site; yields the system's name and the user's directory."""
    with running(place) as server:
        id_and_secret = {"client_id": server.client_id, "client_secret": server.client_secret}
        register_site("there", url=server.url, token_url=server.token_url, system=server.system, **id_and_secret)
        yield server.system, server.home


@contextmanager
def facility(place: Path) -> Iterator[tuple[str, Path]]:
    """An IRI facility as a site."""
    with iri.running(place, Deviations(versions=(2,))) as server:
        options = {"workdir": str(server.root)}
        register_site("there", url=server.url, api="iri", token=TOKEN, options=options)
        yield "", server.root


class Opened:
    """The page in a browser that has opened its link."""

    def __init__(self, server: PageServer, system: str, home: Path) -> None:
        self.http = httpx.Client(base_url=server.url, verify=False, timeout=60)
        self.server = server
        self.home = home
        self.site = load_sites()["there"]
        self.token = self.sign_in()
        self.system = system or self.get("status/systems")["systems"][0]["name"]

    def sign_in(self) -> str:
        answer = self.http.post("page/sign-in", json={"code": self.server.session._code})
        assert answer.status_code == 201
        token: str = answer.json()["secret"]
        self.http.headers["Authorization"] = f"Bearer {token}"
        return token

    def get(self, url: str, **query: Any) -> Any:
        answer = self.http.get(url, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def ops(self, name: str) -> str:
        return f"filesystem/{self.system}/ops/{name}"


@pytest.fixture(scope="module", params=[plain, facility], ids=["firecrest", "iri"])
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    place = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CRESTLINE_SITES", str(place / "sites.toml"))
        patch.setattr(tasks, "_SHORTEST", 0.02)
        (place / "site").mkdir()
        with request.param(place / "site") as (system, home):
            server = PageServer("there", 0)
            thread = threading.Thread(target=server.run_forever, daemon=True)
            thread.start()
            until_blocking(lambda: server.started or not thread.is_alive())
            assert thread.is_alive()
            yield Opened(server, system, home)
            server.should_exit = True
            thread.join(30)


def test_only_the_browser_that_opened_the_link_is_served(opened: Opened) -> None:
    with httpx.Client(base_url=opened.server.url, verify=False) as stranger:
        assert stranger.get("").status_code == 200
        assert "script-src 'self'" in stranger.get("").headers["Content-Security-Policy"]
        assert stranger.get("page/app.js").status_code == 200
        assert stranger.get("page/settings.json").json()["providers"] == []
        for path in ("status/systems", f"compute/{opened.system}/jobs", opened.ops("content"), "page/notices.json"):
            assert stranger.get(path, params={"path": "/"}).status_code == 401, path
        assert stranger.get("status/systems", headers={"Authorization": "Bearer None"}).status_code == 401
        assert stranger.post("page/sign-in", json={"code": "guessed"}).status_code == 401
        assert stranger.post("page/sign-in", json={"code": ""}).status_code in (400, 401), "the link was used"
        assert stranger.get("page/download/guessed").status_code == 404


def test_signing_out_prints_another_link(opened: Opened, capsys: pytest.CaptureFixture[str]) -> None:
    assert opened.http.delete("keys/page").status_code == 204
    assert opened.http.get("status/systems").status_code == 401
    assert f"{opened.server.url}/#/sign-in/{opened.server.session._code}" in capsys.readouterr().out
    assert opened.sign_in() != opened.token


def test_systems_begin_at_the_directory_of_the_user(opened: Opened) -> None:
    [system] = [each for each in opened.get("status/systems")["systems"] if each["name"] == opened.system]
    [default] = [each["path"] for each in system["fileSystems"] if each["defaultWorkDir"]]
    assert Path(default) == opened.home
    for what in ("partitions", "nodes"):
        assert what in opened.get(f"status/{opened.system}/{what}")
    assert "accounts" in opened.get(f"status/{opened.system}/userinfo")


def test_a_system_that_does_not_answer_hides_no_other(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(remote: Remote, name: str) -> System:
        raise GatewayUnavailableError(f"{name} does not answer.", hint="Try again.")

    monkeypatch.setattr(Remote, "system", silent)
    assert opened.system in [each["name"] for each in opened.get("status/systems")["systems"]]


def test_a_job_from_the_form_to_its_log(opened: Opened) -> None:
    jobs = f"compute/{opened.system}/jobs"
    script = "#!/bin/bash\n#SBATCH --time=00:05:00\necho from the page\n"
    body = {"job": {"script": script, "workingDirectory": str(opened.home), "name": "paged"}}
    ids = {opened.http.post(jobs, json=body, headers={"Idempotency-Key": "form"}).json()["jobId"] for _ in range(2)}
    [job_id] = ids
    known = None
    for _ in range(30):
        answer = opened.http.get(jobs, params={"wait": 20}, headers={"If-None-Match": known} if known else {})
        if answer.status_code == 304:
            continue
        known = answer.headers["ETag"]
        [job] = [each for each in answer.json()["jobs"] if each["jobId"] == job_id]
        if job["status"]["state"].upper() == "COMPLETED":
            break
    assert job["name"].startswith("paged")
    assert job["status"]["exitCode"] == 0
    assert opened.get(f"{jobs}/{job_id}")["jobs"][0]["jobId"] == job_id
    [metadata] = opened.get(f"{jobs}/{job_id}/metadata")["jobs"]
    log = opened.http.get(
        opened.ops("content"), params={"path": metadata["standardOutput"]}, headers={"Range": "bytes=-9"}
    )
    assert (log.status_code, log.text) == (206, "the page\n")
    assert opened.http.get(f"{jobs}/events").text == "", "the page asks for the list instead"
    assert opened.http.delete(f"{jobs}/{job_id}").status_code in (204, 400, 404, 409)


def test_files_come_and_go(opened: Opened) -> None:
    folder = f"{opened.home}/paged"
    assert opened.http.post(opened.ops("mkdir"), json={"path": folder}).status_code == 201
    content, path = bytes(range(256)) * 40, {"path": f"{folder}/data.bin"}
    for offset, complete in ((0, "?0"), (4096, "?1")):
        headers = {"Upload-Id": "one", "Upload-Offset": str(offset), "Upload-Complete": complete}
        part = content[offset:] if offset else content[:4096]
        assert opened.http.put(opened.ops("content"), params=path, content=part, headers=headers).status_code == 204
        stands = opened.http.head(opened.ops("content"), params=path, headers={"Upload-Id": "one"})
        assert stands.headers["Upload-Offset"] == ("0" if offset else "4096")
    late = {"Upload-Id": "two", "Upload-Offset": "5"}
    assert opened.http.put(opened.ops("content"), params=path, content=b"x", headers=late).status_code == 409
    wrong = {"Content-SHA256": "0" * 64}
    assert opened.http.put(opened.ops("content"), params=path, content=b"x", headers=wrong).status_code >= 400
    assert opened.http.head(opened.ops("content"), params=path).headers["Content-Length"] == str(len(content))
    assert opened.http.get(opened.ops("content"), params=path).content == content
    part = opened.http.get(opened.ops("content"), params=path, headers={"Range": "bytes=100-299"})
    assert part.content == content[100:300]
    [entry] = opened.get(opened.ops("ls"), path=f"{folder}/")["output"]
    assert (entry["name"], entry["type"], entry["size"]) == ("data.bin", "-", str(len(content)))
    transfer = f"filesystem/{opened.system}/transfer"
    offer = opened.http.post(f"{transfer}/download", json=path).json()
    assert (
        opened.get(f"compute/{opened.system}/jobs/{offer['transferJob']['jobId']}")["jobs"][0]["status"]["state"]
        == "COMPLETED"
    )
    url = offer["transferDirectives"]["downloadUrl"]
    with httpx.Client(verify=False) as browser:
        assert browser.get(url).content == content
        assert browser.get(url).status_code == 404
    moved = {**path, "targetPath": f"{folder}/moved.bin"}
    assert opened.http.post(f"{transfer}/mv", json=moved).status_code == 201
    archive = opened.http.get(opened.ops("tar"), params={"path": folder}).content
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        assert tar.getnames() == [".", "./moved.bin"]
    assert opened.http.delete(opened.ops("rm"), params={"path": str(opened.home)}).status_code == 403
    assert opened.http.delete(opened.ops("rm"), params={"path": folder}).status_code == 204
    assert opened.http.get(opened.ops("stat"), params={"path": folder}).status_code == 404


def test_an_unknown_site_and_a_taken_port_end_the_command(opened: Opened) -> None:
    with pytest.raises(ConfigError, match="'nowhere'"):
        PageServer("nowhere", 0)
    register_site("there", url="http://127.0.0.1:9", token="unused")
    with pytest.raises(ConfigError, match="Cannot listen"):
        PageServer("there", int(opened.server.url.rsplit(":", 1)[1]))


def test_the_systems_of_all_sites_are_on_one_page(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = opened.site
    monkeypatch.setenv("CRESTLINE_SITES", str(tmp_path / "sites.toml"))
    with pytest.raises(ConfigError, match="No site"):
        PageServer(None, 0, all_sites=True)
    register_site("gone", url="http://127.0.0.1:9", token="unused")
    fields = {name: getattr(there, name) for name in ("url", "api", "options", "token", "client_secret")}
    register_site("here", **fields, token_url=there.token_url, client_id=there.client_id)
    remote = Remote(load_sites())

    async def look() -> None:
        found = {each["name"]: each for each in await remote.entries()}
        name = f"{opened.system}@here"
        assert {"gone", name} <= set(found)
        assert found[name]["api"] == there.api
        assert not found["gone"]["servicesHealth"][0]["healthy"]
        assert (await remote.system(name)).name.casefold() == opened.system.casefold()
        for unknown in (opened.system, f"{opened.system}@elsewhere"):
            with pytest.raises(SystemNotFoundError):
                await remote.system(unknown)
        await remote.close()

    asyncio.run(look())
