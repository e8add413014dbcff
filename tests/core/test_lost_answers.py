"""Changes to files whose answer is lost on its way happen once, on every API, and count as done."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import httpx
import pytest

from crestline.client import Site, System, connect
from crestline.client.backends.iri import tasks
from crestline.client.backends.lost_answers import never, settle
from crestline.client.backends.messages import NotSentError, UnfinishedError
from crestline.model import GatewayUnavailableError
from crestline.testing import iri
from crestline.testing.firecrest import running
from crestline.testing.iri import TOKEN
from harness.backends import QUICK
from harness.gateway import in_thread

pytestmark = pytest.mark.anyio

LIMIT = 40_000
SIZE = LIMIT + 10


class LosingTransport(httpx.AsyncBaseTransport):
    """Carries all requests, and loses the answer to the next one that changes something.

    Attributes:
        armed: whether it does that.
        status: what a proxy answers in its place; 0: the connection breaks.
    """

    armed = False
    status = 0

    def __init__(self) -> None:
        self._network = httpx.AsyncHTTPTransport(verify=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await self._network.handle_async_request(request)
        if not self.armed or request.method in ("GET", "HEAD") or _READS.intersection(request.url.path.split("/")):
            return answer
        self.armed = False
        await answer.aread()
        await answer.aclose()
        if self.status:
            return httpx.Response(self.status, stream=httpx.ByteStream(b"<html>"))
        raise httpx.ReadError("reset")

    async def aclose(self) -> None:
        await self._network.aclose()


_READS = {"ls", "stat", "checksum", "download", "view", "tail"}
"""operations that some APIs send as POST"""


@pytest.fixture(scope="module", params=["plain", "gateway", "iri"])
def facility(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Path]]:
    place = tmp_path_factory.mktemp("files")
    if request.param == "plain":
        with running(max_ops_file_size=LIMIT, upload_poll=0.02) as plain:
            yield Site(name="site", url=plain.url, token=plain.token(), system=plain.system), plain.home
    elif request.param == "gateway":
        with in_thread(tmp_path_factory.mktemp("gateway") / "home") as gateway:
            yield Site(name="site", url=gateway.url, token=gateway.token(), system=gateway.system), place
    else:
        with iri.running(place) as doe:
            yield Site(name="site", url=doe.url, api="iri", token=TOKEN, options={"workdir": str(place)}), place


async def _pack_and_unpack(system: System, root: Path) -> None:
    (root / "out").mkdir()
    await system.backend.files.compress(f"{root}/tree", f"{root}/tree.tar.gz")
    await system.backend.files.extract(f"{root}/tree.tar.gz", f"{root}/out")


async def _upload_large(system: System, root: Path) -> None:
    (root / "local").write_bytes(b"l" * SIZE)
    await system.upload(root / "local", f"{root}/large")


Change = Callable[[System, Path], Awaitable[object]]
CHANGES: dict[str, tuple[Change, Callable[[Path], bool]]] = {
    "mkdir": (lambda s, d: s.mkdir(f"{d}/new"), lambda d: (d / "new").is_dir()),
    "mkdir -p": (lambda s, d: s.mkdir(f"{d}/p/q", parents=True), lambda d: (d / "p/q").is_dir()),
    "symlink": (lambda s, d: s.symlink(f"{d}/a", f"{d}/link"), lambda d: os.readlink(d / "link") == f"{d}/a"),
    "chmod": (lambda s, d: s.chmod(f"{d}/a", "600"), lambda d: (d / "a").stat().st_mode & 0o777 == 0o600),
    "move": (lambda s, d: s.move(f"{d}/a", f"{d}/b"), lambda d: _names(d) == ["b", "tree"]),
    "move a directory": (lambda s, d: s.move(f"{d}/tree", f"{d}/to"), lambda d: _names(d / "to") == ["sub"]),
    "copy": (lambda s, d: s.copy(f"{d}/a", f"{d}/b"), lambda d: (d / "b").read_text() == "a"),
    "copy a directory": (lambda s, d: s.copy(f"{d}/tree", f"{d}/to"), lambda d: _names(d / "to") == ["sub"]),
    "remove": (lambda s, d: s.remove(f"{d}/a"), lambda d: _names(d) == ["tree"]),
    "remove a directory": (lambda s, d: s.remove(f"{d}/tree"), lambda d: _names(d) == ["a"]),
    "write": (lambda s, d: s.write_bytes(f"{d}/b", b"b"), lambda d: (d / "b").read_bytes() == b"b"),
    "write nothing": (lambda s, d: s.write_bytes(f"{d}/b", b""), lambda d: (d / "b").read_bytes() == b""),
    "write a large file": (_upload_large, lambda d: (d / "large").stat().st_size == SIZE),
    "pack and unpack": (_pack_and_unpack, lambda d: _names(d / "out/tree") == ["sub"]),
}


def _names(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))


async def test_a_change_happens_once(facility: tuple[Site, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_SHORTEST", 0.01)
    site, place = facility
    transport = LosingTransport()
    wrong = {}
    async with connect(site, policy=QUICK, transport=transport) as system:
        for name, (change, is_done) in CHANGES.items():
            root = place / name.replace(" ", "")
            (root / "tree/sub").mkdir(parents=True)
            (root / "a").write_text("a")
            transport.status = 502 - transport.status
            transport.armed = True
            try:
                await change(system, root)
            except Exception as error:
                wrong[name] = str(error)
            if transport.armed or not is_done(root):
                wrong.setdefault(name, f"armed: {transport.armed}, there: {sorted(root.rglob('*'))}")
    assert not wrong


@pytest.mark.parametrize("facility", ["plain"], indirect=True)
async def test_a_removal_that_took_too_long_was_one(facility: tuple[Site, Path]) -> None:
    """FirecREST's 408 is followed by a job, which finds nothing where the command went on to its end."""
    site, place = facility
    transport = LosingTransport()
    transport.status, transport.armed = 408, True
    (place / "slow").mkdir()
    async with connect(site, policy=QUICK, transport=transport) as system:
        await system.remove(f"{place}/slow")
    assert not (place / "slow").exists()
    assert not transport.armed


@pytest.mark.parametrize(
    ("error", "tries"),
    [(GatewayUnavailableError("lost"), 3), (UnfinishedError("slow"), 1), (NotSentError("refused"), 1)],
)
async def test_what_cannot_have_been_lost_is_not_sent_again(error: GatewayUnavailableError, tries: int) -> None:
    """A task of an hour is not begun three times."""
    sent = []

    async def send() -> None:
        sent.append(1)
        raise error

    with pytest.raises(type(error)):
        await settle(send, never)
    assert len(sent) == tries
