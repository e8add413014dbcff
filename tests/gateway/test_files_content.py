"""Crestline's additions: bytes by range, resumable writes, directories as tar streams."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness.gateway import RunningGateway
from harness.waiting import until_blocking

OPS = "/filesystem/local/ops"
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def http(gateway: RunningGateway) -> Iterator[httpx.Client]:
    with gateway.http() as client:
        yield client


@pytest.fixture
def work(gateway: RunningGateway, tmp_path: Path) -> Path:
    directory = gateway.home / "files" / tmp_path.name
    directory.mkdir()
    return directory


def get(http: httpx.Client, path: Path, **headers: str) -> httpx.Response:
    return http.get(f"{OPS}/content", params={"path": str(path)}, headers=headers)


def put(http: httpx.Client, path: Path, content: Any, **headers: str) -> httpx.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return http.put(f"{OPS}/content", params={"path": str(path)}, content=content, headers=names)


def head(http: httpx.Client, path: Path, **headers: str) -> httpx.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return http.head(f"{OPS}/content", params={"path": str(path)}, headers=names)


def stored(http: httpx.Client, path: Path, upload: str) -> int:
    answer = head(http, path, Upload_Id=upload)
    assert answer.status_code == 200
    return int(answer.headers["Upload-Offset"])


@pytest.mark.parametrize(
    ("wanted", "part"),
    [
        ("bytes=0-0", slice(0, 1)),
        ("bytes=5-9", slice(5, 10)),
        ("bytes=3000000-", slice(3_000_000, None)),
        ("bytes=-7", slice(-7, None)),
        ("bytes=2999990-99999999999", slice(2_999_990, None)),
        ("bytes=-99999999999", slice(0, None)),
    ],
)
def test_ranges(http: httpx.Client, work: Path, wanted: str, part: slice) -> None:
    content = os.urandom(3_000_017)
    (work / "file").write_bytes(content)
    answer = get(http, work / "file", Range=wanted)
    assert (answer.status_code, answer.content) == (206, content[part])
    start = part.indices(len(content))[0]
    assert answer.headers["Content-Range"] == f"bytes {start}-{start + len(content[part]) - 1}/{len(content)}"
    assert answer.headers["Content-Length"] == str(len(content[part]))


def test_whole_files(http: httpx.Client, work: Path) -> None:
    content = os.urandom(20 * MIB)  # four times what ops/download carries
    (work / "file").write_bytes(content)
    answer = get(http, work / "file")
    assert (answer.status_code, answer.headers["Accept-Ranges"]) == (200, "bytes")
    assert answer.content == content
    for ignored in ("bytes=9-1", "bytes=0-1,3-4", "lines=0-1", "bytes=x-", "bytes=-"):
        assert get(http, work / "file", Range=ignored).status_code == 200, ignored
    answer = head(http, work / "file")
    assert (answer.status_code, answer.headers["Content-Length"], answer.content) == (200, str(20 * MIB), b"")
    (work / "empty").touch()
    assert (get(http, work / "empty").status_code, get(http, work / "empty").content) == (200, b"")


def test_ranges_beyond_the_end(http: httpx.Client, work: Path) -> None:
    (work / "file").write_bytes(b"12345")
    (work / "empty").touch()
    for name, wanted, size in [("file", "bytes=5-", 5), ("file", "bytes=-0", 5), ("empty", "bytes=0-", 0)]:
        answer = get(http, work / name, Range=wanted)
        assert (answer.status_code, answer.headers["Content-Range"]) == (416, f"bytes */{size}")
        assert str(size) in answer.json()["message"]


def test_conditions(http: httpx.Client, work: Path) -> None:
    file = work / "file"
    file.write_bytes(b"first content")
    first = get(http, file)
    etag = first.headers["ETag"]
    assert head(http, file).headers["ETag"] == etag
    for match in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        answer = http.get(f"{OPS}/content", params={"path": str(file)}, headers={"If-None-Match": match})
        assert (answer.status_code, answer.content, answer.headers["ETag"]) == (304, b"", etag)
    status = file.stat()
    file.write_bytes(b"other content")  # as long as before, in the same second or not
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert get(http, file).headers["ETag"] != etag
    assert get(http, file, **{"If-None-Match": etag}).status_code == 200
    assert get(http, file, **{"Range": "bytes=6-", "If-Range": etag}).content == b"other content"
    fresh = get(http, file)
    for condition in (fresh.headers["ETag"], fresh.headers["Last-Modified"]):
        answer = get(http, file, **{"Range": "bytes=6-", "If-Range": condition})
        assert (answer.status_code, answer.content) == (206, b"content")


def test_a_file_that_is_replaced_while_it_is_read(http: httpx.Client, work: Path) -> None:
    content = os.urandom(30 * MIB)
    (work / "file").write_bytes(content)
    with http.stream("GET", f"{OPS}/content", params={"path": str(work / "file")}) as answer:
        chunks = answer.iter_raw(65536)
        read = next(chunks)
        assert put(http, work / "file", b"new").status_code == 204
        read += b"".join(chunks)
    assert read == content
    assert (work / "file").read_bytes() == b"new"


def test_write_at_once(http: httpx.Client, work: Path) -> None:
    content = os.urandom(10 * MIB)
    digest = hashlib.sha256(content).hexdigest()
    assert put(http, work / "file", content, Content_SHA256=digest.upper()).status_code == 204
    assert (work / "file").read_bytes() == content
    (work / "file").chmod(0o750)
    assert put(http, work / "file", (content[:5] for _ in range(3))).status_code == 204
    assert (work / "file").read_bytes() == content[:5] * 3
    assert stat.S_IMODE((work / "file").stat().st_mode) == 0o750
    answer = put(http, work / "file", b"other", Content_SHA256=digest)
    assert (answer.status_code, "SHA-256" in answer.json()["message"]) == (400, True)
    assert put(http, work / "file", b"other", Content_SHA256="beef").status_code == 400
    assert put(http, work / "file", b"other", Content_CRC32="beef").status_code == 400
    answer = put(http, work / "file", b"other", Content_CRC32="00000000")
    assert (answer.status_code, "CRC-32" in answer.json()["message"]) == (400, True)
    assert (work / "file").read_bytes() == content[:5] * 3
    assert put(http, work / "file", b"x", Upload_Offset="5").status_code == 400
    assert put(http, work / "nowhere" / "file", b"x").status_code == 404
    assert put(http, work, b"x").status_code == 400
    assert (work / "file").read_bytes() == content[:5] * 3
    assert put(http, work / "file", b"123456789", Content_CRC32="CBF43926").status_code == 204
    assert (work / "file").read_bytes() == b"123456789"
    assert os.listdir(work) == ["file"]


def test_write_bit_by_bit(http: httpx.Client, work: Path) -> None:
    content = os.urandom(5 * MIB + 3)
    file = work / "file"
    file.write_bytes(b"old")
    digest = hashlib.sha256(content).hexdigest()
    parts = [content[: 2 * MIB], content[2 * MIB : 2 * MIB + 1], content[2 * MIB + 1 :]]
    assert stored(http, file, "u1") == 0
    offset = 0
    for part in parts[:2]:
        answer = put(http, file, part, Upload_Id="u1", Upload_Offset=str(offset), Upload_Complete="?0")
        offset += len(part)
        assert (answer.status_code, answer.headers["Upload-Offset"]) == (204, str(offset))
        assert answer.headers["Upload-Complete"] == "?0"
        assert stored(http, file, "u1") == offset
    assert file.read_bytes() == b"old"
    for wrong in (0, offset - 1, offset + 1):
        answer = put(http, file, b"x", Upload_Id="u1", Upload_Offset=str(wrong), Upload_Complete="?0")
        assert (answer.status_code, answer.headers["Upload-Offset"]) == (409, str(offset))
    assert stored(http, file, "another") == 0
    last = {"Upload_Id": "u1", "Upload_Offset": str(offset), "Upload_Complete": "?1", "Content_SHA256": digest}
    answer = put(http, file, parts[2], **last)
    assert (answer.status_code, answer.headers["Upload-Complete"]) == (204, "?1")
    assert file.read_bytes() == content
    assert stored(http, file, "u1") == 0
    assert os.listdir(work) == ["file"]


def test_a_wrong_checksum_drops_the_upload(http: httpx.Client, work: Path) -> None:
    file = work / "file"
    put(http, file, b"half", Upload_Id="u", Upload_Complete="?0")
    answer = put(http, file, b"rest", Upload_Id="u", Upload_Offset="4", Content_SHA256="0" * 64)
    assert answer.status_code == 400
    assert "SHA-256" in answer.json()["message"]
    assert os.listdir(work) == []
    assert stored(http, file, "u") == 0


@pytest.mark.parametrize(
    "headers",
    [
        {"Upload_Id": "", "Upload_Offset": "0"},
        {"Upload_Id": "u", "Upload_Offset": "-1"},
        {"Upload_Id": "u", "Upload_Offset": "x"},
        {"Upload_Id": "u", "Upload_Offset": str(2**70)},
        {"Upload_Id": "u", "Upload_Complete": "yes"},
        {"Upload_Id": "u" * 300},
    ],
)
def test_headers_that_cannot_be(http: httpx.Client, work: Path, headers: dict[str, str]) -> None:
    answer = put(http, work / "file", b"x", **headers)
    assert answer.status_code == 400, answer.text
    assert os.listdir(work) == []


def cut_off(gateway: RunningGateway, path: Path, headers: str, sent: bytes) -> None:
    """A PUT whose client vanishes before the end of the body."""
    url = httpx.URL(gateway.url)
    query = str(httpx.QueryParams({"path": str(path)}))
    request = (
        f"PUT {OPS}/content?{query} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gateway.token()}\r\n"
        f"Content-Length: 10000000\r\n{headers}\r\n"
    )
    with socket.create_connection((url.host, url.port)) as connection:
        connection.sendall(request.encode() + sent)


def test_an_interrupted_write_goes_on_where_it_stopped(http: httpx.Client, gateway: RunningGateway, work: Path) -> None:
    file = work / "file"
    content = os.urandom(5 * MIB)
    cut_off(gateway, file, "Upload-Id: u\r\nUpload-Offset: 0\r\n", content[: 3 * MIB])
    until_blocking(lambda: stored(http, file, "u") >= 2 * MIB)
    assert not file.exists()
    assert put(http, file, b"x", Upload_Id="u", Upload_Offset="0", Upload_Complete="?0").status_code == 409

    def rest() -> httpx.Response:
        offset = stored(http, file, "u")
        return put(http, file, content[offset:], Upload_Id="u", Upload_Offset=str(offset))

    until_blocking(lambda: rest().status_code == 204)  # 409 until the one that was cut has let go
    assert file.read_bytes() == content


def test_an_interrupted_write_at_once_leaves_nothing(http: httpx.Client, gateway: RunningGateway, work: Path) -> None:
    (work / "file").write_bytes(b"old")
    cut_off(gateway, work / "file", "", b"x" * 3 * MIB)
    until_blocking(lambda: os.listdir(work) == ["file"])
    assert (work / "file").read_bytes() == b"old"


def make_tree(root: Path) -> None:
    (root / "sub" / "empty").mkdir(parents=True)
    (root / "a.txt").write_text("a")
    (root / "sub" / "large").write_bytes(os.urandom(5 * MIB + 7))
    (root / "sub" / "run.sh").write_text("#!/bin/sh\n")
    (root / "sub" / "run.sh").chmod(0o755)
    (root / "sub" / "link").symlink_to("../a.txt")
    os.link(root / "a.txt", root / "sub" / "hard")
    (root / ("n" * 150) / ("ü" * 60)).mkdir(parents=True)
    (root / ("n" * 150) / ("ü" * 60) / "new\nline").write_text("x")
    os.mkfifo(root / "pipe")


def snapshot(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = path.readlink()
        elif path.is_dir():
            found[name] = "directory"
        elif path.is_file():
            found[name] = (path.read_bytes(), stat.S_IMODE(status.st_mode), int(status.st_mtime))
    return found


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_a_directory_goes_and_comes_as_a_stream(http: httpx.Client, work: Path, compression: str) -> None:
    source, target = work / "source", work / "target"
    make_tree(source)
    target.mkdir()
    answer = http.get(f"{OPS}/tar", params={"path": str(source), "compression": compression})
    assert answer.status_code == 200
    with tarfile.open(fileobj=io.BytesIO(answer.content), mode=f"r:{'gz' if compression == 'gzip' else ''}") as tar:
        assert "sub/large" in tar.getnames()
        assert "pipe" not in tar.getnames()
    pieces = (answer.content[start : start + 100_000] for start in range(0, len(answer.content), 100_000))
    assert http.put(f"{OPS}/tar", params={"path": str(target)}, content=pieces).status_code == 204
    assert snapshot(target) == snapshot(source)
    (target / "a.txt").unlink()
    (target / "a.txt").symlink_to("/etc/passwd")  # what a tar stream replaces is the link
    assert http.put(f"{OPS}/tar", params={"path": str(target)}, content=answer.content).status_code == 204
    assert snapshot(target) == snapshot(source)


def test_some_members(http: httpx.Client, work: Path) -> None:
    make_tree(work)
    wanted = ["sub/run.sh", "sub/link", f"{'n' * 150}/{'ü' * 60}/new\nline", "sub"]
    answer = http.post(f"{OPS}/tar", json={"path": str(work), "files": wanted})
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as tar:
        assert tar.getnames() == wanted


def test_headers_of_tar_streams_are_those_of_tarfile(http: httpx.Client, work: Path) -> None:
    (work / ("d" * 98)).mkdir()
    (work / ("d" * 99)).mkdir()  # with its slash as long as a header's name can be
    (work / "run").write_bytes(b"x" * 1025)
    (work / "run").chmod(0o6751)
    (work / "link").symlink_to("../" + "t" * 96)
    os.utime(work / "run", (1, 8**11 - 1), follow_symlinks=False)
    content = http.get(f"{OPS}/tar", params={"path": str(work)}).content
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        members = tar.getmembers()
    assert len(members) == 4
    for member in members:
        header = content[member.offset : member.offset + tarfile.BLOCKSIZE]
        assert header == member.tobuf(tarfile.USTAR_FORMAT), member.name
    whole = http.post(f"{OPS}/tar", json={"path": str(work)})
    assert whole.content == http.get(f"{OPS}/tar", params={"path": str(work)}).content
    for name, status in (("nope", 404), ("../x", 400), ("/etc/passwd", 400), ("", 400), ("sub/../..", 400)):
        answer = http.post(f"{OPS}/tar", json={"path": str(work), "files": ["a.txt", name]})
        assert answer.status_code == status, (name, answer.text)


def test_streams_that_cannot_be(http: httpx.Client, work: Path) -> None:
    url, params = f"{OPS}/tar", {"path": str(work)}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("file")
        info.size = 3 * MIB
        tar.addfile(info, io.BytesIO(b"x" * info.size))
    (work / "file").write_text("old")
    for content in (b"", b"no tar", os.urandom(20_000), buffer.getvalue()[: 2 * MIB], b"\x1f\x8b" + b"x" * 1000):
        answer = http.put(url, params=params, content=content)
        assert (answer.status_code, "tar archive" in answer.text) == (400, True), answer.text
    assert (work / "file").read_text() == "old"
    assert os.listdir(work) == ["file"]
    assert http.put(url, params={"path": f"{work}/nope"}, content=buffer.getvalue()).status_code == 404
    assert http.put(url, params={"path": f"{work}/file"}, content=buffer.getvalue()).status_code == 400
    assert http.get(url, params={"path": f"{work}/nope"}).status_code == 404
    assert http.get(url, params={"path": f"{work}/file"}).status_code == 400
    assert http.get(url, params={"path": str(work), "compression": "xz"}).status_code == 400


def test_manifest(http: httpx.Client, work: Path) -> None:
    (work / "sub_dir").mkdir()
    (work / "same_file.txt").write_text("same")
    (work / "sub_dir" / "other").write_text("here")
    same = hashlib.sha256(b"same").hexdigest()
    files = {"same_file.txt": same.upper(), "sub_dir/other": same, "absent": same, "sub_dir": same, "a/b": same}
    answer = http.post(f"{OPS}/manifest", json={"path": str(work), "files": files})
    assert answer.status_code == 200
    assert answer.json() == {"changed": ["sub_dir/other", "absent", "sub_dir", "a/b"]}
    for name in ("../x", "/etc/passwd"):
        assert http.post(f"{OPS}/manifest", json={"path": str(work), "files": {name: same}}).status_code == 400
    answer = http.post(f"{OPS}/manifest", json={"path": f"{work}/new", "files": {"a": same}})
    assert answer.json() == {"changed": ["a"]}
