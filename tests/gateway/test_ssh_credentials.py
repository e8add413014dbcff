"""How the gateway becomes a user: key files, its own certificate authority, and a certificate service over HTTP."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import asyncssh
import pytest

from crestline.gateway.hosts.ssh.credentials import CertificateAuthority, CertificateService, UserKeys
from crestline.gateway.identity import caller_token
from crestline.model import AuthenticationError, ConfigError, GatewayUnavailableError, PermissionDeniedError
from harness.cluster import Cluster
from harness.ssh import ssh_host
from harness.waiting import until

pytestmark = pytest.mark.anyio


async def test_a_key_that_others_can_read_is_not_used(cluster: Cluster, tmp_path: Path) -> None:
    key = tmp_path / "alice"
    key.write_bytes(cluster.key("alice").read_bytes())
    key.chmod(0o640)
    with pytest.raises(ConfigError, match="not the gateway's alone"):
        await UserKeys(tmp_path).credentials("alice")
    key.chmod(0o600)
    assert (await UserKeys(tmp_path).credentials("alice")).certificate is None
    (tmp_path / "bob").symlink_to(key)
    with pytest.raises(ConfigError):
        await UserKeys(tmp_path).credentials("bob")


async def test_content_of_an_invalid_key_file_is_not_shown(tmp_path: Path) -> None:
    key = tmp_path / "alice"
    key.touch(0o600)
    key.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nhush-hush\n-----END OPENSSH PRIVATE KEY-----\n")
    with pytest.raises(ConfigError) as refused:
        await UserKeys(tmp_path).credentials("alice")
    assert "hush" not in repr(refused.value)
    assert refused.value.__cause__ is None


async def test_another_users_key_does_not_open_an_account(cluster: Cluster, tmp_path: Path) -> None:
    key = tmp_path / "bob"
    key.touch(0o600)
    key.write_bytes(cluster.key("alice").read_bytes())
    async with ssh_host(cluster, UserKeys(tmp_path)) as host:
        with pytest.raises(PermissionDeniedError, match="Permission denied"):
            await host.run("bob", ["true"], timeout=60)


@pytest.fixture
def authority(cluster: Cluster, tmp_path: Path) -> Path:
    """The private key of the authority that the cluster's sshd trusts."""
    file = tmp_path / "authority"
    file.touch(0o600)
    cluster.user_ca.write_private_key(file)
    return file


async def test_the_gateways_own_authority_opens_every_account(cluster: Cluster, authority: Path) -> None:
    async with ssh_host(cluster, CertificateAuthority(authority)) as host:
        for user in ("alice", "bob"):
            assert (await host.run(user, ["id", "-un"], timeout=60)).stdout.decode().strip() == user
        with pytest.raises(PermissionDeniedError):
            await host.run("user-without-account", ["true"], timeout=60)


async def test_another_authority_opens_none(cluster: Cluster, tmp_path: Path) -> None:
    CertificateAuthority.create(tmp_path / "new")
    CertificateAuthority.create(tmp_path / "new")  # keeps what is there
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o600
    authority = CertificateAuthority(tmp_path / "new")
    assert authority.public_key.startswith("ssh-ed25519 ")
    async with ssh_host(cluster, authority) as host:
        with pytest.raises(PermissionDeniedError):
            await host.run("alice", ["true"], timeout=60)


async def test_a_certificate_says_as_little_as_possible(authority: Path, tmp_path: Path) -> None:
    identity = await CertificateAuthority(authority, lifetime=300).credentials("alice")
    assert identity.certificate is not None
    (tmp_path / "cert.pub").write_bytes(identity.certificate.export_certificate())
    shown = _shown(tmp_path / "cert.pub")
    assert "Type: ssh-ed25519-cert-v01@openssh.com user certificate" in shown
    assert shown.partition("Principals:")[2].split()[0] == "alice"
    assert "Extensions: (none)" in shown
    assert time.time() < (identity.expires or 0) <= time.time() + 300
    again = await CertificateAuthority(authority).credentials("alice")
    assert again.key.public_data != identity.key.public_data
    assert "PRIVATE" not in repr(identity)


def _shown(certificate: Path) -> str:
    """What OpenSSH itself reads in it."""
    command = ["ssh-keygen", "-L", "-f", str(certificate)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


async def test_an_expired_certificate_opens_nothing(cluster: Cluster, authority: Path) -> None:
    async with ssh_host(cluster, CertificateAuthority(authority, lifetime=-30)) as host:
        with pytest.raises(PermissionDeniedError):
            await host.run("alice", ["true"], timeout=60)


async def test_a_connection_does_not_outlive_its_certificate(cluster: Cluster, authority: Path) -> None:
    signing = CertificateAuthority(authority, lifetime=20)
    async with ssh_host(cluster, signing) as host:
        first = await _connection(host)
        assert await _connection(host) == first

        async def is_another() -> bool:
            return await _connection(host) != first

        await until(is_another, what="another connection than the first")


async def _connection(host: object) -> bytes:
    result = await host.run("alice", ["printenv", "SSH_CONNECTION"], timeout=60)  # type: ignore[attr-defined]
    return bytes(result.stdout)


class Service:
    """A certificate service over HTTP as a site may have one: tokens are `token-of-<user>`."""

    def __init__(self, authority: asyncssh.SSHKey) -> None:
        self.authority = authority
        self.lifetime = 300
        self.answer: tuple[int, bytes] | None = None
        self.requests = 0
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                service.requests += 1
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, content = service.answer or service.sign(self.headers["Authorization"], body)
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/certificates"

    def sign(self, authorization: str, body: dict[str, str], principal: str | None = None) -> tuple[int, bytes]:
        user = body["username"]
        if authorization == "Bearer token-of-banned":
            return 403, b"{}"
        if authorization not in (f"Bearer token-of-{user}", "Bearer token-of-gateway"):
            return 401, b"{}"
        certificate = self.authority.generate_user_certificate(
            asyncssh.import_public_key(body["public_key"]),
            "test",
            principals=[principal or user],
            valid_before=int(time.time()) + self.lifetime,
        )
        return 201, json.dumps({"certificate": certificate.export_certificate().decode()}).encode()


@pytest.fixture
def service(cluster: Cluster) -> Iterator[Service]:
    running = Service(cluster.user_ca)
    thread = threading.Thread(target=running.server.serve_forever)
    thread.start()
    yield running
    running.server.shutdown()
    running.server.server_close()
    thread.join()


async def test_a_token_becomes_a_login(cluster: Cluster, service: Service) -> None:
    async with ssh_host(cluster, CertificateService(service.url), max_connections=1) as host:
        with pytest.raises(AuthenticationError, match="no access token"):
            await host.run("alice", ["true"], timeout=60)
        for token, error in (("token-of-bob", AuthenticationError), ("token-of-banned", PermissionDeniedError)):
            caller_token.set(token)
            with pytest.raises(error) as refused:
                await host.run("alice", ["true"], timeout=60)
            assert token not in str(refused.value)
        caller_token.set("token-of-alice")
        assert (await host.run("alice", ["id", "-un"], timeout=60)).stdout == b"alice\n"


async def test_certificates_are_kept_until_shortly_before_they_expire(service: Service) -> None:
    asking = CertificateService(service.url, token="token-of-gateway")
    first = await asking.credentials("alice")
    assert await asking.credentials("alice") is first
    assert await asking.credentials("bob") is not first
    assert service.requests == 2
    service.lifetime = 10  # less than the margin
    for _ in range(2):
        await asking.credentials("user01")
    assert service.requests == 4
    await asking.close()


async def test_what_a_service_may_answer_wrongly(service: Service) -> None:
    asking = CertificateService(service.url, token="token-of-gateway")
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    own_key = {"username": "alice", "public_key": other}
    wrong = [
        (500, b"oops"),
        (302, b""),
        (200, b"no json"),
        (200, b'{"certificate": "ssh-ed25519 AAAA"}'),
        (200, json.dumps({"certificate": other}).encode()),
        service.sign("Bearer token-of-gateway", own_key),
        service.sign("Bearer token-of-gateway", own_key, principal="root"),
    ]
    for answer in wrong:
        service.answer = answer
        with pytest.raises(GatewayUnavailableError, match="certificate service"):
            await asking.credentials("alice")
    service.server.shutdown()
    service.server.server_close()
    with pytest.raises(GatewayUnavailableError, match="does not answer"):
        await asking.credentials("alice")
    await asking.close()


def test_tokens_do_not_travel_in_the_clear() -> None:
    with pytest.raises(ConfigError, match="not https"):
        CertificateService("http://ca.example.org/sign")
