"""No user takes the threads of others, and no operation goes on after its request."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import os
import select
import socket
import stat
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import psutil
import pytest

from crestline.gateway.hosts.local import LocalHost
from crestline.gateway.hosts.selections import path_pattern
from crestline.gateway.identity.clients import Clients
from crestline.gateway.paths import PathGuard
from crestline.gateway.store import Store
from crestline.model import InvalidRequestError
from crestline.wire import tar
from harness.gateway import RunningGateway, in_thread
from harness.waiting import until, until_blocking

OPS = "/filesystem/local/ops"


@pytest.mark.anyio
async def test_a_user_has_a_share_of_the_threads(tmp_path: Path) -> None:
    """Twenty archives whose bytes stop, and twenty endless checksums of one user: another's work is done meanwhile."""
    machine = LocalHost("here", PathGuard("here", [str(tmp_path)]))
    (tmp_path / "small").write_text("small")
    (tmp_path / "endless").touch()
    os.truncate(tmp_path / "endless", 8 * 1024**4)
    never, share_is_taken = asyncio.Event(), asyncio.Event()
    stalling = []

    async def stalled() -> AsyncIterator[bytes]:
        yield b"x"
        stalling.append(1)
        if len(stalling) == 4:
            share_is_taken.set()
        await never.wait()

    mallory, alice = machine.files("mallory"), machine.files("alice")
    held = [asyncio.create_task(mallory.untar(str(tmp_path), stalled())) for _ in range(20)]
    held += [asyncio.create_task(mallory.checksum(f"{tmp_path}/endless")) for _ in range(20)]  # type: ignore[misc]
    await share_is_taken.wait()
    for _ in range(20):
        assert (await alice.checksum(f"{tmp_path}/small")).checksum
        with pytest.raises(InvalidRequestError, match="tar archive"):
            await alice.untar(str(tmp_path), once(b"no archive"))
    assert not any(task.done() for task in held)
    assert len(stalling) == 4
    for task in held:
        task.cancel()
    await asyncio.gather(*held, return_exceptions=True)
    await until(lambda: not is_open(tmp_path / "endless"))
    assert (await mallory.checksum(f"{tmp_path}/small")).checksum


def is_open(path: Path) -> bool:
    """Whether a thread of this process reads the file."""
    return str(path) in {file.path for file in psutil.Process().open_files()}


@pytest.mark.parametrize("end", ["cancel", "stop"])
def test_a_task_that_is_cancelled_holds_no_thread(tmp_path: Path, end: str) -> None:
    """A task of the IRI API, cancelled by its user or by the end of the gateway."""
    home = tmp_path / "home"
    with in_thread(home) as gateway, gateway.http() as http:
        endless = (home / "files").resolve() / "endless"
        endless.touch()
        os.truncate(endless, 8 * 1024**4)
        for _ in range(5):  # a user's share are three
            started = http.get("/iri/api/v1/filesystem/checksum/local", params={"path": f"{home}/files/endless"})
            assert started.is_success, started.text
            until_blocking(lambda: is_open(endless))
            if end == "cancel":
                assert http.delete(f"/iri/api/v1/task/{started.json()['task_id']}").is_success
    until_blocking(lambda: not is_open(endless))


async def once(content: bytes) -> AsyncIterator[bytes]:
    yield content


@pytest.mark.parametrize("call", ["checksum", "compress", "manifest", "tar", "extract"])
def test_an_operation_ends_when_its_client_has_left(tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar, "ALLOWANCE", 8 * 1024**4)  # else the archive is refused first
    home = tmp_path / "home"
    with in_thread(home, deadline=3600) as gateway, gateway.http() as http:
        endless = home / "files" / "d" / "endless"
        endless.parent.mkdir()
        endless.touch()
        os.truncate(endless, 8 * 1024**4)
        packed = endless.with_name("archive")
        packed.write_bytes(gzip.compress(tarfile.TarInfo("member").tobuf()))
        os.truncate(packed, 8 * 1024**4)  # zeros without end, between two members of gzip's
        requests = {
            "extract": http.build_request(
                "POST",
                f"{OPS}/extract",
                json={"path": str(packed), "targetPath": str(endless.parent), "compression": "gzip"},
            ),
            "checksum": http.build_request("GET", f"{OPS}/checksum", params={"path": str(endless)}),
            "compress": http.build_request(
                "POST", f"{OPS}/compress", json={"path": str(endless), "targetPath": f"{home}/files/packed"}
            ),
            "manifest": http.build_request(
                "POST", f"{OPS}/manifest", json={"path": str(endless.parent), "files": {"endless": "0" * 64}}
            ),
            "tar": http.build_request("GET", f"{OPS}/tar", params={"path": str(endless.parent), "compression": "gzip"}),
        }
        (home / "files" / "small").write_text("small")
        for _ in range(5):  # a user's share are three
            request = requests[call]
            request.extensions = {"timeout": {"connect": 60, "read": 0.5, "write": 60, "pool": 60}}
            with contextlib.suppress(httpx.ReadTimeout), contextlib.closing(http.send(request, stream=True)):
                pass
        assert http.get(f"{OPS}/checksum", params={"path": f"{home}/files/small"}).status_code == 200
        assert [each.name for each in (home / "files").iterdir() if each.name.startswith(".crestline")] == []
        assert not (home / "files" / "packed").exists()


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFCHR])
def test_a_script_that_never_ends_holds_no_thread(tmp_path: Path, kind: int) -> None:
    """A named pipe that nothing writes to, and a device without end, each as often as there are threads."""
    script = Path("/dev/zero")
    if kind == stat.S_IFIFO:
        script = tmp_path / "pipe"
        os.mkfifo(script)
    with in_thread(tmp_path / "home", deadline=3600) as gateway, gateway.http() as http:
        job = {"scriptPath": str(script), "workingDirectory": "/tmp"}
        for _ in range(3):
            refused = http.post("/compute/local/jobs", json={"job": job}, timeout=30)
            assert (refused.status_code, "is not a regular file" in refused.text) == (400, True)


# What find(1) says of each, by default.
@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        (r".*\.txt", "./a/b.txt", True),
        (r".*\.txt", "./a/b.txt.gz", False),
        (r"\./a\+", "./a+", True),
        (r"./a+", "./aaa", True),
        (r"./\(a\|b\)?c", "./bc", True),
        (r"./(a|b)", "./(a|b)", True),
        (r"./a{2}", "./a{2}", True),
        (r"*x", "*x", True),
        (r"./[[:digit:]]+", "./123", True),
        (r"./[]a]", "./]", True),
        (r"./[^]a]", "./]", False),
        (r"./[a\]", "./\\", True),
        (r"^./a$", "./a", True),
        (r"./a^b", "./a^b", True),
        (r".*new.line", "./new\nline", True),
        (r"./\w+", "./word_1", True),
        (r"./..", "./é", True),  # by bytes, as in the C locale
        (r"./a**", "./aaa", True),
        (r"./a\{2\}", "./a{2}", True),
    ],
)
def test_patterns_are_those_of_find(pattern: str, path: str, matches: bool) -> None:
    assert path_pattern(pattern)(path) is matches


@pytest.mark.parametrize("pattern", [r"\(a*\)*\1", r"\(.*\)\(.*\)\2", "[", r"\(a", "a" * 5000, "a\\", r"\(\(\("])
def test_patterns_that_are_refused(pattern: str) -> None:
    with pytest.raises(InvalidRequestError, match="find:"):
        path_pattern(pattern)


def test_a_pattern_takes_time_in_proportion_to_the_path() -> None:
    """Each of these takes a backtracking matcher centuries."""
    for pattern in (r"\(a*\)*b", r"\(a\|aa\)+b", r"\(.*a\)\(.*a\)\(.*a\)\(.*a\)\(.*a\)\(.*a\)\(.*a\)\(.*a\)\(.*a\)b"):
        assert not path_pattern(pattern)("a" * 4000)


@pytest.mark.parametrize("call", ["head?bytes=5000000", "view?size=5000000", "download?"])
def test_answers_that_are_not_taken_are_few_in_memory(tmp_path: Path, call: str) -> None:
    """Forty of one user, of megabytes each; another user is answered meanwhile."""
    with in_thread(tmp_path / "home") as gateway, contextlib.ExitStack() as stack:
        zeros = tmp_path / "home" / "files" / "zeros"
        zeros.write_bytes(bytes(5_000_000))
        asked = f"{OPS}/{call}{'' if call.endswith('?') else '&'}path={zeros}"
        held = [stack.enter_context(socket.socket()) for _ in range(40)]
        for connection in held:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", int(gateway.url.rpartition(":")[2])))
            connection.sendall(
                f"GET {asked} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gateway.token()}\r\n\r\n".encode()
            )
        other = asyncio.run(client_of_another_user(gateway))
        with gateway.http(other) as http:
            assert len(http.get(asked).content) >= 5_000_000
        poll = select.poll()
        for connection in held:
            poll.register(connection, select.POLLIN)
        assert len(poll.poll(0)) <= 8


async def client_of_another_user(gateway: RunningGateway) -> tuple[str, str]:
    """Id and secret of a new one."""
    store = Store.connect(gateway.home / "private" / "gateway.db")
    try:
        return "other", await Clients(store).add("other", "somebody")
    finally:
        await store.close()
