"""The gateway's IRI API: operations on files, and directories."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from crestline.client import connect
from harness.gateway import RunningGateway, in_thread
from harness.iri_api import QUICK, Face
from harness.sites import gateway_site, iri_site

pytestmark = pytest.mark.anyio


def test_operations_on_files(face: Face, workdir: Path) -> None:
    def run(name: str, **fields: Any) -> Any:
        task = face.task(name, **fields)
        assert task["status"] == "completed", task
        assert task["command"]["command"] == name
        return task["result"]["output"]

    directory, text = str(workdir / "d"), str(workdir / "d" / "text")
    assert run("mkdir", path=directory)["type"] == "d"
    upload = face.http.post("/filesystem/upload/local", params={"path": text}, files={"file": b"one\ntwo\nthree\n"})
    assert face.http.get(f"/task/{upload.json()['task_id']}").json()["status"] == "completed"
    [entry] = run("ls", path=directory)
    assert (entry["name"], entry["size"], entry["link_target"]) == ("text", "14", None)
    assert run("stat", path=text)["size"] == 14
    assert run("head", path=text, lines=1)["content"] == "one\n"
    assert run("tail", path=text, lines=1, skipHeading=True)["content"] == "two\nthree\n"
    assert run("tail", path=text, bytes=6)["content"] == "three\n"
    assert run("view", path=text, size=3, offset=4)["content"] == "two"
    assert run("download", path=text) == "b25lCnR3bwp0aHJlZQo="
    expected = {"algorithm": "SHA-256", "checksum": hashlib.sha256(b"one\ntwo\nthree\n").hexdigest()}
    assert run("checksum", path=text) == expected
    assert "ASCII" in run("file", path=text)
    assert run("chmod", path=text, mode="600")["permissions"].endswith("rw-------")
    assert run("symlink", path=text, link_path=str(workdir / "link"))["link_target"] == text
    assert run("cp", path=text, target_path=f"{directory}/copy")["size"] == "14"
    run("mv", source_path=f"{directory}/copy", targetPath=f"{directory}/moved")
    words = {} if face.version == 1 else {"compression": "urn:doe-iri:compression:gzip"}
    run("compress", path=directory, target_path=str(workdir / "d.tar.gz"), **words)
    (workdir / "to").mkdir()
    run("extract", path=str(workdir / "d.tar.gz"), target_path=str(workdir / "to"), **words)
    assert (workdir / "to" / "d" / "moved").read_text() == "one\ntwo\nthree\n"
    run("rm", path=directory)
    assert not (workdir / "d").exists()
    assert {"id", "status", "command"} == face.http.get("/task").json()[-1].keys()


@pytest.mark.parametrize(
    ("name", "fields", "text"),
    [
        ("stat", {"path": "{workdir}/absent"}, "No such file or directory"),
        ("ls", {"path": "/etc"}, "does not match any of the defined filesystem paths"),
        ("download", {"path": "{workdir}/../../../../../etc/passwd"}, "does not match"),
        ("download", {"path": "{workdir}/leads-out"}, "does not match"),
        ("mkdir", {"path": "{workdir}"}, "File exists"),
        ("cp", {"path": "/etc/passwd", "target_path": "{workdir}/stolen"}, "does not match"),
        ("rm", {"path": "{served}"}, ""),
    ],
)
def test_an_operation_that_fails_says_why_in_its_task(
    face: Face, workdir: Path, name: str, fields: dict[str, str], text: str
) -> None:
    (workdir / "leads-out").symlink_to("/etc/passwd")
    places = {"workdir": str(workdir), "served": str(workdir.parent)}
    task = face.task(name, **{field: value.format(**places) for field, value in fields.items()})
    assert task["status"] == "failed"
    assert task["result"]["output"].startswith("Error: ")
    assert text in task["result"]["output"]
    assert workdir.exists()


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("ls", {}),
        ("head", {"path": "/x"}),
        ("tail", {"path": "/x", "lines": 1, "bytes": 1}),
        ("tail", {"path": "/x", "lines": 0}),
        ("view", {"path": "/x", "size": 0}),
        ("mkdir", {"path": 5}),
        ("compress", {"path": "/x", "target_path": "/y", "compression": "zip"}),
    ],
)
def test_invalid_fields_are_refused_at_once(face: Face, name: str, fields: dict[str, Any]) -> None:
    answer = face.begin(name, **fields)
    assert (answer.status_code, answer.json()["type"].endswith("invalid-parameter")) == (400, True)


def test_a_file_that_is_too_large_is_refused(face: Face, workdir: Path) -> None:
    content = b"x" * (5 * 1024 * 1024 + 1)
    answer = face.http.post(
        "/filesystem/upload/local", params={"path": str(workdir / "large")}, files={"file": content}
    )
    task = answer.json().get("task_id")
    assert answer.status_code == 413 or face.http.get(f"/task/{task}").json()["status"] == "failed"
    assert not (workdir / "large").exists()
    (workdir / "large").write_bytes(content)
    assert "too large" in face.task("download", path=str(workdir / "large"))["result"]["output"]


def test_a_task_can_be_cancelled(face: Face, workdir: Path) -> None:
    with (workdir / "hole").open("wb") as hole:
        hole.truncate(1 << 40)
    begun = face.begin("checksum", path=str(workdir / "hole")).json()["task_id"]
    assert face.http.delete(f"/task/{begun}").status_code == 200
    assert face.http.get(f"/task/{begun}").json()["status"] == "canceled"
    assert face.http.delete("/task/nosuch").status_code == 404


def test_directories_of_the_caller(gateway: RunningGateway, served: Path) -> None:
    face = Face(gateway, 2, gateway.token())
    user = face.http.get("/account/whoami").json()["username"]
    [location] = face.http.get("/storage/locations/local").json()
    assert (location["logical_name"], location["path"]) == ("scratch", f"{served}/{user}")
    assert face.http.get("/storage/locations/local", params={"logicalpath": "archive"}).status_code == 404
    assert face.http.get("/storage/access-endpoints/local").json() == []


async def test_the_default_directory_is_that_of_firecrest(tmp_path: Path) -> None:
    file_systems = [
        {"path": str(tmp_path / name), "data_type": kind, "default_work_dir": kind == "users"}
        for name, kind in (("scratch", "scratch"), ("home", "users"))
    ]
    for each in file_systems:
        Path(str(each["path"])).mkdir()
    with in_thread(tmp_path / "gateway", systems={"local": {"file_systems": file_systems}}) as gateway:
        for site in (gateway_site(gateway), iri_site(gateway)):
            async with connect(site, policy=QUICK) as system:
                assert (await system.default_workdir()).startswith(f"{tmp_path}/home/")
