"""No path leads out of the file systems or to the gateway's own secrets, however it is written or packed."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness.gateway import RunningGateway, in_thread

OPS = "/filesystem/local/ops"
OUTSIDE = "does not match any of the defined filesystem paths for the requested system (local)."

Call = Callable[[httpx.Client, str], httpx.Response]

# Every way in which a request names a path.
CALLS: dict[str, Call] = {
    **{
        name: lambda http, path, name=name: http.get(f"{OPS}/{name}", params={"path": path})  # type: ignore[misc]
        for name in ("ls", "head", "tail", "view", "checksum", "file", "stat", "download", "content", "tar")
    },
    "rm": lambda http, path: http.delete(f"{OPS}/rm", params={"path": path}),
    "mkdir": lambda http, path: http.post(f"{OPS}/mkdir", json={"path": path}),
    "chmod": lambda http, path: http.put(f"{OPS}/chmod", json={"path": path, "mode": "777"}),
    "chown": lambda http, path: http.put(f"{OPS}/chown", json={"path": path}),
    "symlink to": lambda http, path: http.post(f"{OPS}/symlink", json={"path": path, "linkPath": f"{SAFE}/l"}),
    "symlink at": lambda http, path: http.post(f"{OPS}/symlink", json={"path": SAFE, "linkPath": path}),
    "upload": lambda http, path: http.post(f"{OPS}/upload", params={"path": path}, files={"file": ("x", b"x")}),
    "put content": lambda http, path: http.put(f"{OPS}/content", params={"path": path}, content=b"x"),
    "head content": lambda http, path: http.head(f"{OPS}/content", params={"path": path}),
    "put tar": lambda http, path: http.put(f"{OPS}/tar", params={"path": path}, content=tar_of(("x", b"x"))),
    "post tar": lambda http, path: http.post(f"{OPS}/tar", json={"path": path, "files": ["x"]}),
    "manifest": lambda http, path: http.post(f"{OPS}/manifest", json={"path": path, "files": {"x": "0"}}),
    "compress": lambda http, path: http.post(f"{OPS}/compress", json={"path": path, "targetPath": f"{SAFE}/c"}),
    "compress to": lambda http, path: http.post(f"{OPS}/compress", json={"path": SAFE, "targetPath": path}),
    "extract": lambda http, path: http.post(f"{OPS}/extract", json={"path": path, "targetPath": SAFE}),
    "transfer/upload": lambda http, path: http.post(
        "/filesystem/local/transfer/upload",
        json={"path": path, "transferDirectives": {"transferMethod": "s3", "fileSize": 1}},
    ),
    "transfer/download": lambda http, path: http.post(
        "/filesystem/local/transfer/download", json={"path": path, "transferDirectives": {"transferMethod": "s3"}}
    ),
}
SAFE = ""


def tar_of(*members: tuple[str, bytes] | tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
    return buffer.getvalue()


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.fixture(scope="module")
def confined(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway that serves its own home, secrets inside, and nothing else."""
    global SAFE
    home = tmp_path_factory.mktemp("confined") / "home"
    SAFE = f"{home}/files/safe"
    options = {"systems": {"local": {"file_systems": [{"path": str(home), "default_work_dir": True}]}}}
    with in_thread(home, **options) as running:
        os.makedirs(SAFE)
        yield running


@pytest.fixture(scope="module")
def http(confined: RunningGateway) -> Iterator[httpx.Client]:
    with confined.http() as client:
        yield client


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    directory = tmp_path / "outside"
    directory.mkdir()
    (directory / "x").write_text("secret")
    return directory


def unchanged(outside: Path) -> bool:
    return os.listdir(outside) == ["x"] and (outside / "x").read_text() == "secret"


@pytest.mark.parametrize("call", CALLS)
def test_paths_outside(http: httpx.Client, confined: RunningGateway, outside: Path, call: str) -> None:
    up = "/".join([".."] * 20)
    for path in (f"{outside}/x", str(outside), f"{SAFE}/{up}{outside}/x", "relative", f"{confined.home}x", "/"):
        answer = CALLS[call](http, path)
        assert answer.status_code == 400, (path, answer.text)
        assert call == "head content" or OUTSIDE in answer.json()["message"], answer.text
    assert CALLS[call](http, f"{SAFE}/nul\0").status_code == 400
    assert CALLS[call](http, f"{SAFE}/{'deep/' * 2000}").status_code == 400
    assert unchanged(outside)
    assert os.listdir(SAFE) == []


@pytest.mark.parametrize("call", CALLS)
def test_links_that_lead_outside(http: httpx.Client, confined: RunningGateway, outside: Path, call: str) -> None:
    trap = Path(confined.home) / "files" / "trap"
    trap.symlink_to(outside)
    try:
        answer = CALLS[call](http, f"{trap}/x")
        assert answer.status_code == 400, answer.text
        assert unchanged(outside)
        if call not in ("ls", "stat", "rm", "file", "mkdir", "symlink at", "compress"):  # these see the link itself
            answer = CALLS[call](http, str(trap))
            assert answer.status_code == 400, answer.text
        assert unchanged(outside)
    finally:
        trap.unlink()


@pytest.mark.parametrize("call", CALLS)
def test_the_gateways_own_secrets(http: httpx.Client, confined: RunningGateway, call: str) -> None:
    key = (confined.home / "private" / "signing_key.json").read_bytes()
    for name in ("private", "private/signing_key.json", "client.json", "files/../private/gateway.db", "private/new"):
        answer = CALLS[call](http, f"{confined.home}/{name}")
        assert answer.status_code == 403, (name, answer.text)
    alias = confined.home / "files" / "alias"
    alias.symlink_to(confined.home / "private")
    try:
        assert CALLS[call](http, f"{alias}/signing_key.json").status_code == 403
    finally:
        alias.unlink()
    assert (confined.home / "private" / "signing_key.json").read_bytes() == key


def transfer(http: httpx.Client, method: str, operation: str, **fields: Any) -> tuple[str, str]:
    """State and log of a transfer once it has ended."""
    url = f"/filesystem/local/transfer/{operation}"
    answer = http.request(method, url, **fields)
    assert answer.status_code in (200, 201), answer.text
    job = answer.json()["transferJob"]
    while True:
        state = http.get(f"/compute/local/jobs/{job['jobId']}").json()["jobs"][0]["status"]["state"]
        if state not in ("PENDING", "RUNNING", "COMPLETING"):
            return state, Path(job["logs"]["outputLog"]).read_text()


def test_secrets_inside_a_tree_stay_behind(http: httpx.Client, confined: RunningGateway, tmp_path: Path) -> None:
    home = str(confined.home)
    listed = http.get(f"{OPS}/ls", params={"path": home, "recursive": True, "showHidden": True}).json()["output"]
    assert {"files"} <= {entry["name"] for entry in listed}
    assert not any(entry["name"].startswith(("private", "client.json")) for entry in listed)

    streamed = http.get(f"{OPS}/tar", params={"path": home}).content
    with tarfile.open(fileobj=io.BytesIO(streamed)) as tar:
        assert not any(name.startswith(("private", "client.json")) for name in tar.getnames())
    assert http.post(f"{OPS}/tar", json={"path": home, "files": ["private/signing_key.json"]}).status_code == 403

    packed = {"path": home, "targetPath": f"{SAFE}/all.tar", "compression": "none"}
    assert http.post(f"{OPS}/compress", json=packed).status_code == 204
    with tarfile.open(f"{SAFE}/all.tar") as tar:
        assert not any("private" in name or "client.json" in name for name in tar.getnames())
    pattern = packed | {"matchPattern": ".*"}
    assert http.post(f"{OPS}/compress", json=pattern).status_code == 204
    with tarfile.open(f"{SAFE}/all.tar") as tar:
        assert not any("private" in name or "client.json" in name for name in tar.getnames())
    os.unlink(f"{SAFE}/all.tar")

    for name in ("private", "client.json"):
        alias = Path(SAFE) / "alias"
        alias.symlink_to(confined.home / name)
        for dereference in (True, False):
            copy = {"path": SAFE, "targetPath": f"{home}/files/copy", "dereference": dereference}
            state, _ = transfer(http, "POST", "cp", json=copy)
            assert state == ("FAILED" if dereference else "COMPLETED")
            found = [path for path in Path(f"{home}/files/copy").rglob("*") if path.is_file() and not path.is_symlink()]
            assert found == []
        alias.unlink()
        assert transfer(http, "DELETE", "rm", params={"path": f"{home}/files/copy"})[0] == "COMPLETED"


def test_trees_with_secrets_cannot_be_removed_or_moved(http: httpx.Client, confined: RunningGateway) -> None:
    home = str(confined.home)
    answer = http.delete(f"{OPS}/rm", params={"path": home})
    assert answer.status_code == 403, answer.text
    assert transfer(http, "DELETE", "rm", params={"path": home})[0] == "FAILED"
    assert transfer(http, "POST", "mv", json={"path": home, "targetPath": f"{SAFE}/moved"})[0] == "FAILED"
    state, _ = transfer(http, "POST", "mv", json={"path": f"{home}/private", "targetPath": f"{SAFE}/moved"})
    assert state == "FAILED"
    state, _ = transfer(http, "POST", "cp", json={"path": SAFE, "targetPath": f"{home}/private/x"})
    assert state == "FAILED"
    assert (confined.home / "private" / "signing_key.json").exists()


@pytest.mark.parametrize(
    "members",
    [
        [("../evil", b"x")],
        [("sub/../../evil", b"x")],
        [link("up", "../.."), ("up/evil", b"x")],
        [link("abs", "/tmp")],
        [link("hard", "../../../private/signing_key.json", tarfile.LNKTYPE)],
        [link("device", "", tarfile.CHRTYPE)],
    ],
)
@pytest.mark.parametrize("way", ["extract", "put tar"])
def test_members_that_would_leave(
    http: httpx.Client, confined: RunningGateway, members: list[Any], way: str, tmp_path: Path
) -> None:
    target = Path(SAFE) / tmp_path.name
    target.mkdir()
    before = sorted(os.listdir(confined.home / "files"))
    content = tar_of(*members)
    if way == "put tar":
        answer = http.put(f"{OPS}/tar", params={"path": str(target)}, content=content)
    else:
        (Path(SAFE) / "archive").write_bytes(content)
        body = {"path": f"{SAFE}/archive", "targetPath": str(target), "compression": "none"}
        answer = http.post(f"{OPS}/extract", json=body)
        (Path(SAFE) / "archive").unlink()
    assert answer.status_code == 400, answer.text
    assert sorted(os.listdir(confined.home / "files")) == before
    assert not list(confined.home.rglob("evil"))
    assert http.delete(f"{OPS}/rm", params={"path": str(target)}).status_code == 204


def test_members_cannot_replace_secrets(http: httpx.Client, confined: RunningGateway) -> None:
    secret = confined.home / "client.json"
    before = secret.read_bytes()
    for name in ("client.json", "private/signing_key.json", "private/new"):
        answer = http.put(f"{OPS}/tar", params={"path": str(confined.home)}, content=tar_of((name, b"mine")))
        assert answer.status_code == 403, answer.text
    trick = tar_of(link("files/door", "../private"), ("files/door/new", b"mine"))
    assert http.put(f"{OPS}/tar", params={"path": str(confined.home)}, content=trick).status_code == 403
    assert secret.read_bytes() == before
    assert not (confined.home / "private" / "new").exists()
    (confined.home / "files" / "door").unlink()
