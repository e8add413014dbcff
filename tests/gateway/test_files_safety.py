"""No path leads out of the file systems, however it is written or packed."""

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
TREE = Path()


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
    """A gateway that serves one tree and nothing else."""
    global SAFE, TREE
    base = tmp_path_factory.mktemp("confined")
    TREE = base / "tree"
    SAFE = f"{TREE}/safe"
    options = {"systems": {"local": {"file_systems": [{"path": str(TREE), "default_work_dir": True}]}}}
    os.makedirs(SAFE)
    with in_thread(base / "home", **options) as running:
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
    for path in (f"{outside}/x", str(outside), f"{SAFE}/{up}{outside}/x", "relative", f"{TREE}x", "/"):
        answer = CALLS[call](http, path)
        assert answer.status_code == 400, (path, answer.text)
        assert call == "head content" or OUTSIDE in answer.json()["message"], answer.text
    assert CALLS[call](http, f"{SAFE}/nul\0").status_code == 400
    assert CALLS[call](http, f"{SAFE}/{'deep/' * 2000}").status_code == 400
    assert unchanged(outside)
    assert os.listdir(SAFE) == []


@pytest.mark.parametrize("call", CALLS)
def test_links_that_lead_outside(http: httpx.Client, confined: RunningGateway, outside: Path, call: str) -> None:
    trap = TREE / "trap"
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


@pytest.mark.parametrize(
    "members",
    [
        [("../evil", b"x")],
        [("sub/../../evil", b"x")],
        [link("up", "../.."), ("up/evil", b"x")],
        [link("abs", "/tmp")],
        [link("hard", "../../../home/private/signing_key.json", tarfile.LNKTYPE)],
        [link("device", "", tarfile.CHRTYPE)],
    ],
)
@pytest.mark.parametrize("way", ["extract", "put tar"])
def test_members_that_would_leave(
    http: httpx.Client, confined: RunningGateway, members: list[Any], way: str, tmp_path: Path
) -> None:
    target = Path(SAFE) / tmp_path.name
    target.mkdir()
    before = sorted(os.listdir(TREE))
    content = tar_of(*members)
    if way == "put tar":
        answer = http.put(f"{OPS}/tar", params={"path": str(target)}, content=content)
    else:
        (Path(SAFE) / "archive").write_bytes(content)
        body = {"path": f"{SAFE}/archive", "targetPath": str(target), "compression": "none"}
        answer = http.post(f"{OPS}/extract", json=body)
        (Path(SAFE) / "archive").unlink()
    assert answer.status_code == 400, answer.text
    assert sorted(os.listdir(TREE)) == before
    assert not list(TREE.parent.rglob("evil"))
    assert http.delete(f"{OPS}/rm", params={"path": str(target)}).status_code == 204
