"""`/filesystem/{system}/ops` over HTTP: codes, shapes and texts of FirecREST, and right where it is wrong."""

from __future__ import annotations

import getpass
import grp
import hashlib
import io
import os
import pwd
import socket
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness.gateway import RunningGateway
from harness.waiting import until_blocking

OPS = "/filesystem/local/ops"
NASTY_NAMES = [
    "with space",
    "a|b",
    "quote'\"",
    "am&p<x>;$(id)`id`",
    "new\nline",
    "tab\there",
    "back\\slash",
    "größe-名-😀",
    "-rf",
    "100%25.txt",
    "*?[x]",
]


@pytest.fixture(scope="module")
def http(gateway: RunningGateway) -> Iterator[httpx.Client]:
    with gateway.http() as client:
        yield client


@pytest.fixture
def work(gateway: RunningGateway, tmp_path: Path) -> Path:
    directory = gateway.home / "files" / tmp_path.name
    directory.mkdir()
    return directory


def output(answer: httpx.Response, status: int = 200) -> Any:
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"output"}
    return answer.json()["output"]


def refused(answer: httpx.Response, status: int, text: str) -> None:
    assert answer.status_code == status, answer.text
    assert text in answer.json()["message"]


def ls(http: httpx.Client, path: Path | str, **params: Any) -> list[dict[str, Any]]:
    return list(output(http.get(f"{OPS}/ls", params={"path": str(path), **params})))


def names(entries: list[dict[str, Any]]) -> list[str]:
    return [entry["name"] for entry in entries]


def test_an_entry_has_what_ls_shows(http: httpx.Client, work: Path) -> None:
    file = work / "file"
    file.write_bytes(b"12345")
    file.chmod(0o640)
    (work / "link").symlink_to("file")
    (work / "directory").mkdir(mode=0o755)
    os.mkfifo(work / "pipe")
    entries = {entry["name"]: entry for entry in ls(http, work)}
    status = file.stat()
    assert entries["file"] == {
        "name": "file",
        "type": "-",
        "linkTarget": None,
        "user": pwd.getpwuid(status.st_uid).pw_name,
        "group": grp.getgrgid(status.st_gid).gr_name,
        "permissions": "rw-r-----",
        "lastModified": time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(status.st_mtime)),
        "size": "5",
    }
    assert (entries["link"]["type"], entries["link"]["linkTarget"]) == ("l", "file")
    assert (entries["directory"]["type"], entries["pipe"]["type"]) == ("d", "p")
    numeric = {entry["name"]: entry for entry in ls(http, work, numericUid=True)}
    assert (numeric["file"]["user"], numeric["file"]["group"]) == (str(status.st_uid), str(status.st_gid))
    followed = {entry["name"]: entry for entry in ls(http, work, dereference=True)}
    assert (followed["link"]["type"], followed["link"]["size"], followed["link"]["linkTarget"]) == ("-", "5", None)


def test_which_entries_are_listed(http: httpx.Client, work: Path) -> None:
    (work / "b" / "deep").mkdir(parents=True)
    for name in ("a", ".hidden", "b/c", "b/deep/d", "b/.e"):
        (work / name).touch()
    assert names(ls(http, work)) == ["a", "b"]
    assert names(ls(http, work, showHidden=True)) == names(ls(http, work, show_hidden=True)) == [".hidden", "a", "b"]
    assert names(ls(http, work, recursive=True)) == ["a", "b", "b/c", "b/deep", "b/deep/d"]
    assert "b/.e" in names(ls(http, work, recursive="true", showHidden="true"))
    assert names(ls(http, work / "a")) == [str(work / "a")]
    assert names(ls(http, work / "b" / "deep" / "..")) == ["c", "deep"]


def test_a_link_to_a_directory_is_an_entry_unless_a_slash_follows(http: httpx.Client, work: Path) -> None:
    (work / "real").mkdir()
    (work / "real" / "inside").touch()
    (work / "link").symlink_to("real")
    assert [(each["name"], each["type"]) for each in ls(http, work / "link")] == [(str(work / "link"), "l")]
    assert names(ls(http, f"{work}/link/")) == ["inside"]
    assert names(ls(http, work / "link", dereference=True)) == ["inside"]
    assert names(ls(http, work / "link" / "inside")) == [str(work / "link" / "inside")]


def test_names_that_are_not_utf8_are_listed_and_removed(http: httpx.Client, work: Path) -> None:
    os.mkdir(os.fsencode(work) + b"/caf\xe9")
    with open(os.fsencode(work) + b"/caf\xe9/\xff\xfe", "wb") as file:
        file.write(b"x")
    assert names(ls(http, work)) == ["caf\ufffd"]
    assert names(ls(http, work, recursive=True)) == ["caf\ufffd", "caf\ufffd/\ufffd\ufffd"]
    assert http.get(f"{OPS}/ls?path={work}/caf%E9").status_code == 404
    assert http.post(f"{OPS}/compress", json={"path": str(work), "targetPath": f"{work}.tgz"}).status_code == 204
    listed = subprocess.run(["tar", "-tzf", f"{work}.tgz"], capture_output=True, check=True).stdout
    assert rb"caf\351/\377\376" in listed
    assert http.delete(f"{OPS}/rm", params={"path": str(work)}).status_code == 204
    assert not work.exists()


@pytest.mark.parametrize("count", [20_000, pytest.param(100_000, marks=pytest.mark.soak)])
def test_others_are_served_while_a_large_directory_is_listed(http: httpx.Client, work: Path, count: int) -> None:
    for number in range(count):
        os.close(os.open(work / f"file-{number:06d}", os.O_CREAT | os.O_WRONLY, 0o600))
    served = 0
    with ThreadPoolExecutor(1) as pool:
        listing = pool.submit(ls, http, work)
        while not listing.done():
            assert http.get("/status/liveness").status_code == 200
            served += 1
        assert len(listing.result()) == count
    assert served > 3


@pytest.mark.parametrize("name", NASTY_NAMES)
def test_any_name(http: httpx.Client, work: Path, name: str) -> None:
    content = b"content\n"
    answer = http.post(f"{OPS}/upload", params={"path": str(work)}, files={"file": (name, content)})
    assert answer.status_code == 204, answer.text
    path = work / name
    assert path.read_bytes() == content
    params = {"path": str(path)}
    assert names(ls(http, work)) == [name]
    assert output(http.get(f"{OPS}/view", params=params)) == "content\n"
    assert output(http.get(f"{OPS}/head", params=params))["content"] == "content\n"
    assert output(http.get(f"{OPS}/checksum", params=params)) == {
        "algorithm": "SHA256",
        "checksum": hashlib.sha256(content).hexdigest(),
    }
    assert output(http.get(f"{OPS}/file", params=params)) == "ASCII text"
    assert output(http.get(f"{OPS}/stat", params=params))["size"] == 8
    assert http.get(f"{OPS}/download", params=params).content == content
    assert output(http.put(f"{OPS}/chmod", json={"path": str(path), "mode": "600"}))["permissions"] == "rw-------"
    link = {"path": str(path), "linkPath": f"{path}.link"}
    assert output(http.post(f"{OPS}/symlink", json=link), 201)["linkTarget"] == str(path)
    archive = {"path": str(path), "targetPath": f"{path}.tar"}
    assert http.post(f"{OPS}/compress", json=archive).status_code == 204
    assert http.delete(f"{OPS}/rm", params=params).status_code == 204
    assert http.post(f"{OPS}/extract", json={"path": f"{path}.tar", "targetPath": str(work)}).status_code == 204
    assert path.read_bytes() == content


def test_stat_of_a_link_and_of_what_it_leads_to(http: httpx.Client, work: Path) -> None:
    (work / "file").write_bytes(b"123")
    (work / "link").symlink_to("file")
    params = {"path": str(work / "link")}
    assert stat.S_ISLNK(output(http.get(f"{OPS}/stat", params=params))["mode"])
    followed = output(http.get(f"{OPS}/stat", params=params | {"dereference": "true"}))
    real = (work / "file").stat()
    assert followed == {
        "mode": real.st_mode,
        "ino": real.st_ino,
        "dev": real.st_dev,
        "nlink": 1,
        "uid": real.st_uid,
        "gid": real.st_gid,
        "size": 3,
        "atime": int(real.st_atime),
        "ctime": int(real.st_ctime),
        "mtime": int(real.st_mtime),
    }
    refused(http.get(f"{OPS}/stat", params={"path": f"{work}/nope"}), 404, "cannot statx")


def test_make_directories(http: httpx.Client, work: Path) -> None:
    new = {"path": f"{work}/new"}
    made = output(http.post(f"{OPS}/mkdir", json=new), 201)
    assert (made["name"], made["type"]) == (f"{work}/new", "d")
    refused(http.post(f"{OPS}/mkdir", json=new), 400, "File exists")
    assert http.post(f"{OPS}/mkdir", json=new | {"parent": True}).status_code == 201
    deep = {"sourcePath": f"{work}/a/b/c"}
    refused(http.post(f"{OPS}/mkdir", json=deep), 404, "No such file or directory")
    assert http.post(f"{OPS}/mkdir", json=deep | {"parent": True}).status_code == 201
    (work / "file").touch()
    refused(http.post(f"{OPS}/mkdir", json={"source_path": f"{work}/file", "parent": True}), 400, "File exists")
    refused(http.post(f"{OPS}/mkdir", json={"path": f"{work}/file/x"}), 400, "Not a directory")
    refused(http.post(f"{OPS}/mkdir", json={"path": f"{work}/{'n' * 300}"}), 400, "File name too long")


def test_permissions_and_owners(http: httpx.Client, work: Path) -> None:
    file = work / "file"
    file.touch(0o644)
    assert output(http.put(f"{OPS}/chmod", json={"path": str(file), "mode": "0751"}))["name"] == str(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o751
    http.put(f"{OPS}/chmod", json={"path": str(file), "mode": "g-x,o=,u+s"})
    assert stat.S_IMODE(file.stat().st_mode) == 0o4740
    file.chmod(0o751)
    for mode in ("", "u+y", "9", "77777", "-1", "0o755", "\uff17"):
        answer = http.put(f"{OPS}/chmod", json={"path": str(file), "mode": mode})
        assert answer.status_code == 400, mode
    user, group = getpass.getuser(), grp.getgrgid(os.getgid()).gr_name
    assert output(http.put(f"{OPS}/chown", json={"path": str(file), "owner": user, "group": group}))["user"] == user
    assert http.put(f"{OPS}/chown", json={"path": str(file), "group": str(os.getgid())}).status_code == 200
    assert http.put(f"{OPS}/chown", json={"path": str(file)}).status_code == 200
    chown = {"path": str(file), "owner": "no-such-user"}
    refused(http.put(f"{OPS}/chown", json=chown), 400, "invalid user: 'no-such-user'")
    chown = {"path": str(file), "group": "no:such\0group"}
    refused(http.put(f"{OPS}/chown", json=chown), 400, "invalid group")
    refused(http.put(f"{OPS}/chown", json={"path": str(file), "owner": str(2**40)}), 400, "invalid user")


def test_links(http: httpx.Client, work: Path) -> None:
    (work / "file").write_text("x")
    link = {"path": f"{work}/file", "linkPath": f"{work}/link"}
    made = output(http.post(f"{OPS}/symlink", json=link), 201)
    assert (made["name"], made["type"], made["linkTarget"]) == (f"{work}/link", "l", f"{work}/file")
    refused(http.post(f"{OPS}/symlink", json=link), 400, "File exists")
    assert http.delete(f"{OPS}/rm", params={"path": f"{work}/link"}).status_code == 204
    assert (work / "file").exists()


def test_remove(http: httpx.Client, work: Path) -> None:
    (work / "tree" / "deep").mkdir(parents=True)
    (work / "tree" / "deep" / "file").touch()
    (work / "kept").mkdir()
    (work / "kept" / "file").touch()
    (work / "tree" / "link").symlink_to(work / "kept")
    assert http.delete(f"{OPS}/rm", params={"path": f"{work}/tree"}).status_code == 204
    assert sorted(os.listdir(work)) == ["kept"]
    assert os.listdir(work / "kept") == ["file"]
    refused(http.delete(f"{OPS}/rm", params={"path": f"{work}/tree"}), 404, "No such file or directory")


def test_upload_overwrites_at_once_and_keeps_permissions(http: httpx.Client, work: Path) -> None:
    script = work / "script.sh"
    script.write_text("old")
    script.chmod(0o755)
    (work / "link.sh").symlink_to("script.sh")
    for name, content in (("script.sh", b"new"), ("link.sh", b"newer"), ("fresh", b"")):
        answer = http.post(f"{OPS}/upload", params={"path": str(work)}, files={"file": (name, content)})
        assert (answer.status_code, answer.content) == (204, b"")
        assert (work / name).read_bytes() == content
    assert stat.S_IMODE(script.stat().st_mode) == 0o755
    assert (work / "link.sh").is_symlink()
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((work / "fresh").stat().st_mode) == 0o666 & ~umask
    assert sorted(os.listdir(work)) == ["fresh", "link.sh", "script.sh"]


def test_uploads_that_cannot_be(http: httpx.Client, work: Path) -> None:
    url, params = f"{OPS}/upload", {"path": str(work)}
    for name in ("../up", "a/b", "..", "."):
        refused(http.post(url, params=params, files={"file": (name, b"x")}), 400, "not a name for a file")
    refused(http.post(url, params=params, files={"other": ("name", b"x")}), 400, "no field 'file'")
    refused(http.post(url, params=params, json={}), 400, "multipart/form-data")
    refused(http.post(url, params=params), 400, "multipart/form-data")
    broken = {"Content-Type": "multipart/form-data; boundary=x"}
    start = b'--x\r\nContent-Disposition: form-data; name="file"; filename="cut"\r\n\r\nhalf'
    refused(http.post(url, params=params, headers=broken, content=start), 400, "broken")
    refused(http.post(url, params=params, headers=broken, content=b"nonsense"), 400, "The form")
    refused(http.post(url, params={"path": f"{work}/nope"}, files={"file": ("x", b"")}), 404, "No such file")
    (work / "directory").mkdir()
    refused(http.post(url, params=params, files={"file": ("directory", b"")}), 400, "Is a directory")
    assert os.listdir(work) == ["directory"]


def test_limits_of_small_files(http: httpx.Client, work: Path) -> None:
    limit = 5 * 1024 * 1024
    content = os.urandom(limit)
    url, params = f"{OPS}/upload", {"path": str(work)}
    assert http.post(url, params=params, files={"file": ("most", content)}).status_code == 204
    assert http.get(f"{OPS}/download", params={"path": f"{work}/most"}).content == content
    refused(
        http.post(url, params=params, files={"file": ("more", content + b"x")}), 413, "File to upload is too large."
    )

    def unannounced() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="more"\r\n\r\n'
        for _ in range(6):
            yield content[: 1024 * 1024]
        yield b"\r\n--x--\r\n"

    chunked = {"Content-Type": "multipart/form-data; boundary=x"}
    refused(http.post(url, params=params, headers=chunked, content=unannounced()), 413, "File to upload is too large.")
    assert os.listdir(work) == ["most"]
    with (work / "most").open("ab") as file:
        file.write(b"x")
    refused(http.get(f"{OPS}/download", params={"path": f"{work}/most"}), 413, "too large")
    refused(http.get(f"{OPS}/view", params={"path": f"{work}/most", "size": limit + 1}), 400, "less than 5242880")
    assert http.get(f"{OPS}/view", params={"path": f"{work}/most", "size": limit}).status_code == 200


def test_only_regular_files_have_content(http: httpx.Client, work: Path) -> None:
    os.mkfifo(work / "pipe")
    listener = socket.socket(socket.AF_UNIX)
    os.chdir(work)  # the path of a socket is short
    listener.bind("socket")
    for name in ("pipe", "socket"):
        for call in ("view", "head", "tail", "download", "checksum"):
            answer = http.get(f"{OPS}/{call}", params={"path": f"{work}/{name}"})
            assert answer.status_code == 400, (name, call, answer.text)
        answer = http.post(f"{OPS}/upload", params={"path": str(work)}, files={"file": (name, b"x")})
        refused(answer, 400, "Not a regular file")
    refused(http.get(f"{OPS}/view", params={"path": str(work)}), 400, "Is a directory")
    listener.close()


def test_what_kind_of_file(http: httpx.Client, work: Path) -> None:
    (work / "text").write_text("plain\n")
    (work / "empty").touch()
    (work / "link").symlink_to("text")
    kinds = {name: output(http.get(f"{OPS}/file", params={"path": f"{work}/{name}"})) for name in os.listdir(work)}
    assert kinds == {"text": "ASCII text", "empty": "empty", "link": "symbolic link to text"}
    assert output(http.get(f"{OPS}/file", params={"path": str(work)})) == "directory"
    refused(http.get(f"{OPS}/file", params={"path": f"{work}/nope"}), 404, "No such file or directory")


@pytest.mark.parametrize(
    ("compression", "mode"), [("none", "r:"), ("gzip", "r:gz"), ("bzip2", "r:bz2"), ("xz", "r:xz")]
)
def test_archives(http: httpx.Client, work: Path, compression: str, mode: str) -> None:
    tree = work / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "a.txt").write_text("a")
    (tree / "sub" / "b.dat").write_bytes(os.urandom(3_000_000))
    (tree / "sub" / "link").symlink_to("b.dat")
    (tree / "a.txt").chmod(0o600)
    body = {"path": str(tree), "targetPath": f"{work}/archive", "compression": compression}
    answer = http.post(f"{OPS}/compress", json=body)
    assert (answer.status_code, answer.content) == (204, b"")
    with tarfile.open(work / "archive", mode) as packed:
        assert "tree/sub/b.dat" in packed.getnames()
    (work / "out").mkdir()
    body = {"source_path": f"{work}/archive", "target_path": f"{work}/out", "compression": compression}
    assert http.post(f"{OPS}/extract", json=body).status_code == 204
    assert subprocess.run(["diff", "-r", tree, work / "out" / "tree"], check=False).returncode == 0
    assert (work / "out" / "tree" / "sub" / "link").readlink() == Path("b.dat")
    assert stat.S_IMODE((work / "out" / "tree" / "a.txt").stat().st_mode) == 0o600
    wrong = {"none": "gzip", "gzip": "xz", "bzip2": "none", "xz": "bzip2"}[compression]
    refused(http.post(f"{OPS}/extract", json=body | {"compression": wrong}), 400, "tar archive")
    assert http.post(f"{OPS}/extract", json=body | {"compression": "zip"}).status_code == 400


def test_archive_of_what_matches(http: httpx.Client, work: Path) -> None:
    tree = work / "tree"
    (tree / "sub").mkdir(parents=True)
    for name in ("a.txt", "b.txt", "c.dat", "sub/a.txt", "new\nline.txt"):
        (tree / name).write_text(name)

    def members(pattern: str) -> set[str]:
        body = {"path": str(tree), "targetPath": f"{work}/archive", "matchPattern": pattern, "compression": "none"}
        answer = http.post(f"{OPS}/compress", json=body)
        assert answer.status_code == 204, answer.text
        listed = subprocess.run(["tar", "-tf", f"{work}/archive"], check=True, capture_output=True, text=True).stdout
        return set(listed.split())

    assert members(r".*\.dat") == {"tree/c.dat"}
    assert members(r".*/\(a\|b\)\.txt") == {"tree/a.txt", "tree/b.txt", "tree/sub/a.txt"}
    assert members(r"./tree/sub/.*") == {"tree/sub/a.txt"}
    assert members(r"./[ab].*\.txt") == {"tree/a.txt", "tree/b.txt"}
    assert members(r".*/new[^a]line\.txt") == {"tree/new\\nline.txt"}
    assert members("nothing") == set()
    assert members("'; touch /tmp/x; '") == set()
    body = {"path": str(tree), "targetPath": f"{work}/archive", "matchPattern": r"\(("}
    refused(http.post(f"{OPS}/compress", json=body), 400, "find:")


def test_archives_that_cannot_be(http: httpx.Client, work: Path) -> None:
    (work / "file").write_text("no archive")
    compress, extract = f"{OPS}/compress", f"{OPS}/extract"
    missing = {"path": f"{work}/nope", "targetPath": f"{work}/archive"}
    refused(http.post(compress, json=missing), 404, "No such file or directory")
    refused(http.post(extract, json=missing | {"targetPath": str(work)}), 404, "No such file or directory")
    body = {"path": f"{work}/file", "targetPath": f"{work}/nowhere/archive"}
    refused(http.post(compress, json=body), 404, "No such file or directory")
    body = {"path": f"{work}/file", "targetPath": f"{work}/nowhere"}
    refused(http.post(extract, json=body), 404, "No such file or directory")
    refused(http.post(extract, json=body | {"targetPath": f"{work}/file"}), 400, "Not a directory")
    refused(http.post(extract, json=body | {"targetPath": str(work)}), 400, "tar archive")
    body = {"path": str(work), "targetPath": f"{work}/self.tar", "compression": "none"}
    assert http.post(compress, json=body).status_code == 204
    cut = (work / "self.tar").read_bytes()[:1500]
    (work / "self.tar").write_bytes(cut)
    body = {"path": f"{work}/self.tar", "targetPath": str(work), "compression": "none"}
    refused(http.post(extract, json=body), 400, "tar archive")
    assert (work / "file").read_text() == "no archive"


def test_an_archive_leaves_itself_out(http: httpx.Client, work: Path) -> None:
    (work / "file").write_text("x")
    body = {"path": str(work), "targetPath": f"{work}/self.tar.gz"}
    for _ in range(2):
        assert http.post(f"{OPS}/compress", json=body).status_code == 204
    listed = subprocess.run(["tar", "-tzf", f"{work}/self.tar.gz"], check=True, capture_output=True, text=True).stdout
    assert listed.split() == [f"{work.name}/", f"{work.name}/file"]


def test_compress_with_dereference_survives_loops(http: httpx.Client, work: Path) -> None:
    (work / "d").mkdir()
    (work / "d" / "file").write_text("x")
    (work / "d" / "up").symlink_to("..")
    (work / "d" / "self").symlink_to(".")
    (work / "d" / "alias").symlink_to("file")
    body = {"path": f"{work}/d", "targetPath": f"{work}/d.tar", "compression": "none", "dereference": True}
    assert http.post(f"{OPS}/compress", json=body).status_code == 204
    verbose = subprocess.run(["tar", "-tvf", f"{work}/d.tar"], check=True, capture_output=True, text=True).stdout
    assert any(line.startswith("-") and line.endswith(" d/alias") for line in verbose.splitlines())


@pytest.mark.parametrize("call", ["ls", "head", "tail", "view", "checksum", "file", "stat", "download"])
def test_missing_and_bad_parameters(http: httpx.Client, work: Path, call: str) -> None:
    refused(http.get(f"{OPS}/{call}", params={"path": f"{work}/nope"}), 404, "No such file or directory")
    assert http.get(f"{OPS}/{call}").status_code == 400
    assert http.get(f"{OPS}/{call}", params={"path": ""}).status_code == 400
    (work / "file").touch()
    refused(http.get(f"{OPS}/{call}", params={"path": f"{work}/file/x"}), 400, "Not a directory")


@pytest.mark.parametrize("body", [{}, {"path": ""}, {"path": None}, {"path": 3}, {"path": ["/tmp"]}, [], None, "x"])
@pytest.mark.parametrize("call", ["mkdir", "symlink", "compress", "extract", "chmod", "chown"])
def test_bodies_of_another_shape(http: httpx.Client, call: str, body: Any) -> None:
    method = "PUT" if call in ("chmod", "chown") else "POST"
    answer = http.request(method, f"{OPS}/{call}", json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["errorType"] == "validation"


def test_trees_deeper_than_the_interpreters_stack(http: httpx.Client, work: Path) -> None:
    deep = f"{work}/tree" + "/d" * (sys.getrecursionlimit() + 100)
    assert http.post(f"{OPS}/mkdir", json={"path": deep, "parent": True}).status_code == 201
    assert http.put(f"{OPS}/content", params={"path": f"{deep}/file"}, content=b"x").status_code == 204
    assert names(ls(http, f"{work}/tree", recursive=True))[-1].endswith("d/file")
    archive = {"path": f"{work}/tree", "targetPath": f"{work}/a", "compression": "none"}
    assert http.post(f"{OPS}/compress", json=archive).status_code == 204
    stream = http.get(f"{OPS}/tar", params={"path": str(work)}).content
    answer = http.post("/filesystem/local/transfer/cp", json={"path": f"{work}/tree", "targetPath": f"{work}/copy"})
    url = f"/compute/local/jobs/{answer.json()['transferJob']['jobId']}"
    until_blocking(lambda: http.get(url).json()["jobs"][0]["status"]["state"] == "COMPLETED")
    for name in ("tree", "copy"):
        assert http.delete(f"{OPS}/rm", params={"path": f"{work}/{name}"}).status_code == 204
    assert os.listdir(work) == ["a"]
    for packed in (stream, (work / "a").read_bytes()):
        with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
            assert tar.getnames()[-1].endswith("d/file")
    too_deep = {"path": f"{deep}{'/d' * 2000}", "parent": True}
    refused(http.post(f"{OPS}/mkdir", json=too_deep), 400, "File name too long")
