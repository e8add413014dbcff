"""What a gateway, `crestline doctor`, a hub and a runner read of their own peers has bounds of size, depth and time."""

from __future__ import annotations

import gzip
import json
import socketserver
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from joserfc.jwk import ECKey

from crestline.bounded import BoundedClient
from crestline.cli.checks import Check, Verdict
from crestline.cli.checks.connection import check_connection
from crestline.cli.checks.gateway import identity, listening
from crestline.cli.checks.gateway.setup import Setup
from crestline.gateway.authorization.openfga import OpenFga
from crestline.gateway.config import GatewayConfig, OidcConfig, OpenFgaConfig, S3Config
from crestline.gateway.hosts.ssh.credentials import CertificateService
from crestline.gateway.identity.oidc import ProviderKeys
from crestline.gateway.schedulers.slurm import restd
from crestline.gateway.schedulers.slurm.options import RestOptions
from crestline.gateway.transfers.objects import StagedObject
from crestline.gateway.transfers.s3 import session, store
from crestline.gateway.transfers.s3.store import Head, ObjectStore
from crestline.model import CrestlineError
from crestline.relay.tokens import HubKey
from crestline_gitlab_runner.gitlab_api import GitLabApi
from crestline_jupyterhub.reaper import owned_attempts
from crestline_jupyterhub.relay_sessions import SessionManager

pytestmark = pytest.mark.anyio

MIB = 1 << 20
LIMIT = 4 * MIB
BUFFERS = 32 * MIB
"""bytes that sockets hold at most"""
SLOW = "a byte now and then"
KNOWN = "/.well-known/openid-configuration"


class Peer(socketserver.ThreadingTCPServer):
    """Answers every request with the same head and the same pieces; counts what was taken of it."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.sound: dict[str, bytes] = {}
        """content of the paths that are answered well"""
        self.head = ""
        self.pieces: Callable[[], Iterator[bytes]] = lambda: iter(())
        self.taken = 0
        self.over = threading.Event()


class _Handler(socketserver.BaseRequestHandler):
    server: Peer

    def handle(self) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            if not (data := self.request.recv(65536)):
                return
            request += data
        content = self.server.sound.get(request.split(b" ")[1].decode())
        try:
            if content is not None:
                self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(content), content))
                return
            self.request.sendall(f"HTTP/1.1 200 OK\r\n{self.server.head}Connection: close\r\n\r\n".encode())
            for piece in self.server.pieces():
                if self.server.over.is_set():
                    return
                self.request.sendall(piece)
                self.server.taken += len(piece)
        except OSError:
            return


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield server
        server.over.set()
        server.shutdown()


def endless(piece: bytes, pause: float = 0.0) -> Callable[[Peer], None]:
    def prepare(peer: Peer) -> None:
        peer.taken, peer.head = 0, ""

        def pieces() -> Iterator[bytes]:
            for _ in range(64 if not pause else 10_000):
                peer.over.wait(pause)
                yield piece

        peer.pieces = pieces

    return prepare


def content(body: bytes, head: str = "") -> Callable[[Peer], None]:
    def prepare(peer: Peer) -> None:
        peer.taken = 0
        peer.head, peer.pieces = head, lambda: iter([body])

    return prepare


ANSWERS: dict[str, Callable[[Peer], None]] = {
    "without end": endless(bytes(MIB)),
    SLOW: endless(b" ", pause=0.02),
    "bomb": content(gzip.compress(bytes(16 * MIB)), "Content-Encoding: gzip\r\n"),
    "bomb in a bomb": content(gzip.compress(gzip.compress(bytes(16 * MIB))), "Content-Encoding: gzip, gzip\r\n"),
    "deep list": content(b"[" * 200_000),
    "deep object": content(b'{"keys":' * 200_000),
    "many values": content(b'{"keys":[' + b"{}," * (MIB // 4) + b"{}]}"),
    "numbers": content(b'{"issuer": 1e999, "keys": [{"kty": 5}], "allowed": 9e999, "job": 1}'),
    "wrong kinds": content(b'{"keys": {"a": []}, "jobs": 3, "items": [1], "_pagination": 7, "certificate": []}'),
}


async def _failing(checks: AsyncIterator[Check]) -> None:
    """Checks of `doctor` say by their verdict what others raise."""
    if any([check.verdict is not Verdict.OK async for check in checks]):
        raise CrestlineError("A check failed.")


async def _oidc(peer: Peer, _: Path) -> None:
    await ProviderKeys(peer.url, timeout=60).keys(None)


async def _oidc_keys(peer: Peer, _: Path) -> None:
    peer.sound[KNOWN] = json.dumps({"issuer": peer.url, "jwks_uri": f"{peer.url}/keys"}).encode()
    await ProviderKeys(peer.url, timeout=60).keys(None)


async def _openfga(peer: Peer, _: Path) -> None:
    asking = OpenFga(OpenFgaConfig(url=peer.url, store_id="x"))
    try:
        await asking.allows("alice", "s")
    finally:
        await asking.close()


async def _certificates(peer: Peer, _: Path) -> None:
    service = CertificateService(peer.url, token="t")
    try:
        await service.credentials("alice")
    finally:
        await service.close()


async def _slurmrestd(peer: Peer, path: Path) -> None:
    (path / "key").write_bytes(b"k" * 32)
    peer.sound["/openapi/v3"] = b'{"paths": {"/slurm/v0.0.42/jobs/": {}}}'
    asking = restd.Slurmrestd(RestOptions(url=peer.url, jwt_key_file=path / "key"), 60)
    try:
        await asking.queue("alice", None)
    finally:
        await asking.close()


async def _slurmrestd_versions(peer: Peer, path: Path) -> None:
    (path / "key").write_bytes(b"k" * 32)
    asking = restd.Slurmrestd(RestOptions(url=peer.url, jwt_key_file=path / "key"), 60)
    try:
        await asking.ping("alice")
    finally:
        await asking.close()


STAGED = StagedObject(transfer_id="t", bucket="b", key="k", upload_id="u")


async def _doctor_identity(peer: Peer, _: Path) -> None:
    config = GatewayConfig(oidc=[OidcConfig(issuer=peer.url, audience="a")])
    await _failing(identity.check(Setup(config, None)))


async def _doctor_keys(peer: Peer, path: Path) -> None:
    peer.sound[KNOWN] = json.dumps({"issuer": peer.url, "jwks_uri": f"{peer.url}/keys"}).encode()
    await _doctor_identity(peer, path)


async def _doctor_openfga(peer: Peer, _: Path) -> None:
    await _failing(identity.check(Setup(GatewayConfig(openfga=OpenFgaConfig(url=peer.url, store_id="x")), None)))
    raise CrestlineError("It says nothing of its own here.")


async def _doctor_port(peer: Peer, _: Path) -> None:
    await _failing(listening.check(Setup(GatewayConfig(port=peer.server_address[1]), None)))


async def _doctor_gateway(_: Peer, __: Path) -> None:
    await _failing(check_connection(None))


async def _hub(peer: Peer, _: Path) -> None:
    await owned_attempts(peer.url, "t")


async def _relay(peer: Peer, _: Path) -> None:
    assert await SessionManager(peer.url, HubKey("k" * 32)).job_of("s") is None


async def _artifacts(peer: Peer, path: Path) -> None:
    (path / "archive").write_bytes(b"x")
    api = GitLabApi(authority="", largest=LIMIT)
    await api.upload_artifacts(peer.url, "1", "t", path / "archive", name="a", query={})
    raise CrestlineError("It reads nothing but the status.")


async def _results(peer: Peer, path: Path) -> None:
    await GitLabApi(authority="", largest=LIMIT).download_artifacts(peer.url, "1", "t", path / "archive")
    raise CrestlineError("It is a file within its limit, whatever it holds.")


CALLERS: dict[str, Callable[[Peer, Path], Awaitable[None]]] = {
    "discovery": _oidc,
    "keys": _oidc_keys,
    "openfga": _openfga,
    "certificates": _certificates,
    "slurmrestd": _slurmrestd,
    "slurmrestd's versions": _slurmrestd_versions,
    "doctor: identity provider": _doctor_identity,
    "doctor: keys": _doctor_keys,
    "doctor: openfga": _doctor_openfga,
    "doctor: port": _doctor_port,
    "doctor: gateway": _doctor_gateway,
    "reaper: hub": _hub,
    "spawner: relay": _relay,
    "driver: upload": _artifacts,
    "driver: download": _results,
}


@pytest.mark.parametrize("caller", CALLERS)
async def test_answers_of_peers_have_bounds(
    caller: str, peer: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restd, "_LIMIT", LIMIT)
    monkeypatch.setattr("crestline_jupyterhub.reaper.MAX_ANSWER", LIMIT)
    monkeypatch.setattr("crestline_gitlab_runner.gitlab_api._TRIES", 1)
    monkeypatch.setenv("FIRECREST_URL", peer.url)
    monkeypatch.setenv("FIRECREST_TOKEN", "t")
    begin = BoundedClient.__init__
    for answer, prepare in ANSWERS.items():
        if (caller, answer) == ("driver: download", SLOW):
            continue  # the job's own time limit ends it
        more = {"seconds": 0.3 if answer == SLOW else 60.0}
        with monkeypatch.context() as patch:
            patch.setattr(BoundedClient, "__init__", lambda self, more=more, **options: begin(self, **(options | more)))
            prepare(peer)
            with refused(f"{answer} to {caller}"):
                await CALLERS[caller](peer, tmp_path)
        assert peer.taken <= LIMIT + BUFFERS, answer


async def test_keys_do_not_come_in_the_clear(peer: Peer) -> None:
    """The address of the keys is the provider's choice."""
    document = {"issuer": peer.url, "jwks_uri": "http://192.0.2.1/keys"}
    peer.sound[KNOWN] = json.dumps(document).encode()
    with refused("an address in the clear"):
        await ProviderKeys(peer.url, timeout=60).keys(None)
    (check,) = [
        each
        async for each in identity.check(Setup(GatewayConfig(oidc=[OidcConfig(issuer=peer.url, audience="a")]), None))
    ]
    assert "plain HTTP" in check.message
    peer.sound[KNOWN] = json.dumps(document | {"jwks_uri": f"{peer.url}/keys"}).encode()
    peer.sound["/keys"] = json.dumps({"keys": [ECKey.generate_key().as_dict(private=False) | {"kid": "1"}]}).encode()
    assert [key.kid for key in (await ProviderKeys(peer.url, timeout=60).keys("1")).keys] == ["1"]


async def test_answers_of_an_object_store_have_bounds(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_SILENCE", 0.0)
    asked = ObjectStore(S3Config(endpoint=peer.url, access_key_id="a"), "secret")
    await asked.start()
    try:
        for answer, prepare in ANSWERS.items():
            monkeypatch.setattr(session, "_WHOLE", 0.3 if answer == SLOW else 60.0)
            for call in (asked.ping, lambda: asked.begin("b", "k")):
                prepare(peer)
                with refused(answer):
                    await call()
                assert peer.taken <= LIMIT + BUFFERS, answer
            if answer != SLOW:
                prepare(peer)
                with refused(answer):
                    received = [len(chunk) async for chunk in asked.read(STAGED, Head(10, "e", False), 0, 10)]
                    assert sum(received) > 10, "it was read as it is"
    finally:
        await asked.stop()


@contextmanager
def refused(what: str) -> Iterator[None]:
    try:
        yield
    except CrestlineError:
        return
    pytest.fail(f"{what} was taken for an answer")
