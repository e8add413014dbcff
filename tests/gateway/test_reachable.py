"""Behind a proxy under a prefix, and with TLS of its own."""

from __future__ import annotations

import re
import signal
import ssl
from collections.abc import Iterator
from pathlib import Path

import firecrest
import httpx
import pytest
import tomlkit
from cryptography import x509
from firecrest.v2 import Firecrest

from crestline.gateway.config import TlsConfig
from crestline.gateway.tls import ServerTls
from crestline.model import ConfigError
from harness.certificates import Authority
from harness.command import Command
from harness.gateway import GatewayProcess
from harness.ports import free_port
from harness.reverse_proxy import ReverseProxy, reverse_proxy
from harness.waiting import until_blocking

PREFIX = "/hpc/firecrest"


@pytest.fixture(scope="module")
def proxy() -> Iterator[ReverseProxy]:
    with reverse_proxy(PREFIX) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def behind(proxy: ReverseProxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway behind the proxy. Its `url` is the proxy's."""
    home = tmp_path_factory.mktemp("behind") / "home"
    process = GatewayProcess(home, free_port(), "--public-url", f"{proxy.url}/")
    process.start()
    proxy.serve(process.url)
    process.url = proxy.url
    yield process
    process.stop()


def test_every_url_that_leaves_the_gateway_has_the_prefix(behind: GatewayProcess) -> None:
    with behind.http() as http:
        discovery = http.get("/.well-known/openid-configuration").json()
        assert discovery["token_endpoint"] == f"{behind.url}/oauth2/token"
        assert httpx.get(discovery["jwks_uri"]).json()["keys"]
        page = http.get("/").text
        assert f'<base href="{PREFIX}/">' in page
        links = [link for link in re.findall(r'(?:src|href)="([^"]+)"', page) if not link.startswith(("#", PREFIX))]
        assert len(links) >= 4
        for link in links:
            assert httpx.get(f"{behind.url}/{link}", follow_redirects=True).status_code == 200, link
        docs = http.get("/docs").text
        assets = re.findall(r'(?:src|href)="(/[^"]+)"', docs)
        assert len(assets) >= 3
        for asset in assets:
            assert httpx.get(httpx.URL(behind.url).join(asset)).status_code == 200, asset
        document = http.get("/docs/openapi.json").json()
        assert document["servers"] == [{"url": PREFIX}]
        (system,) = http.get("/status/systems").json()["systems"]
        assert system["dataOperation"]["data_transfer"]["publicUrl"] == behind.url


def test_pyfirecrest_works_through_it(behind: GatewayProcess, tmp_path: Path) -> None:
    client_id, secret = behind.client
    client = Firecrest(behind.url, firecrest.ClientCredentialsAuth(client_id, secret, behind.token_url))
    files = f"{behind.home}/files"
    submitted = client.submit("local", working_dir=files, script_str="#!/bin/bash\necho here\n")
    (job,) = client.wait_for_job("local", submitted["jobId"])
    assert job["status"]["state"] == "COMPLETED"
    content = bytes(range(256)) * 4096 * 7
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(content)
    client.upload("local", str(source), files, "large", blocking=True)  # by signed URLs, so large is it
    client.download("local", f"{files}/large", str(back), blocking=True)
    assert back.read_bytes() == content


def test_our_own_client_finds_it_by_the_sites_file(behind: GatewayProcess, tmp_path: Path) -> None:
    command = Command(tmp_path)
    command.sites_file.write_bytes(behind.home.with_name(f"{behind.home.name}-sites.toml").read_bytes())
    command.sites_file.chmod(0o600)
    assert behind.url in command.sites_file.read_text()
    assert command("run", "--", "echo", "through").stdout == b"through\n"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def serial_of(url: str) -> int:
    address = httpx.URL(url)
    pem = ssl.get_server_certificate((address.host, address.port or 443))
    return x509.load_pem_x509_certificate(pem.encode()).serial_number


def test_tls_of_its_own_and_a_renewed_certificate(authority: Authority, tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    first = authority.issue(certificate, key)
    config = tmp_path / "gateway.toml"
    config.write_text(tomlkit.dumps({"tls": {"certificate": str(certificate), "key": str(key)}}))
    command = Command(tmp_path)
    context = ssl.create_default_context(cafile=str(authority.file))
    options = ["--config", config, "--state-dir", "home", "--port", "0"]
    with command.start("serve", "--json", *options) as process:
        assert process.stdout is not None
        url = re.findall(r'"url": ?"([^"]+)"', process.stdout.readline().decode())[0]
        assert url.startswith("https://127.0.0.1:")
        with httpx.Client(verify=context, base_url=url, trust_env=False) as http:
            assert http.get("/status/liveness").status_code == 200
            assert http.get("/.well-known/openid-configuration").json()["token_endpoint"].startswith(url)
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/status/liveness", trust_env=False)
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{url.replace('https', 'http')}/status/liveness", trust_env=False)
        assert serial_of(url) == first
        key.write_text("nonsense")
        process.send_signal(signal.SIGHUP)
        second = authority.issue(tmp_path / "new.pem", tmp_path / "new-key.pem")
        assert serial_of(url) == first
        (tmp_path / "new-key.pem").replace(key)
        (tmp_path / "new.pem").replace(certificate)
        process.send_signal(signal.SIGHUP)
        until_blocking(lambda: serial_of(url) == second, what="the new certificate is not served")
        with httpx.Client(verify=context, base_url=url, trust_env=False) as http:
            assert http.get("/status/liveness").status_code == 200
        process.terminate()
        process.communicate(timeout=90)


@pytest.mark.parametrize("broken", ["absent", "nonsense", "of another", "with a passphrase"])
def test_tls_files_that_cannot_be_used(authority: Authority, tmp_path: Path, broken: str) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    authority.issue(certificate, key)
    match broken:
        case "absent":
            key.unlink()
        case "nonsense":
            key.write_text("nonsense")
        case "of another":
            authority.issue(tmp_path / "other.pem", key)
        case _:
            from cryptography.hazmat.primitives import serialization

            private = serialization.load_pem_private_key(key.read_bytes(), None)
            encryption = serialization.BestAvailableEncryption(b"secret")
            encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
            key.write_bytes(private.private_bytes(encoding, form, encryption))
    with pytest.raises(ConfigError, match="cannot be used for TLS"):
        ServerTls(TlsConfig(certificate=certificate, key=key))


def test_without_a_usable_certificate_it_does_not_start(tmp_path: Path) -> None:
    tls = {"certificate": str(tmp_path / "certificate.pem"), "key": str(tmp_path / "key.pem")}
    (tmp_path / "gateway.toml").write_text(tomlkit.dumps({"tls": tls}))
    line = Command(tmp_path).refused("serve", "--config", "gateway.toml", "--state-dir", "home", "--port", "0", code=78)
    assert "cannot be used for TLS" in line


def test_plain_http_beyond_this_machine_by_the_configuration(tmp_path: Path) -> None:
    config = {"host": "0.0.0.0", "port": 0, "state_dir": str(tmp_path / "home")}
    file = tmp_path / "gateway.toml"
    file.write_text(tomlkit.dumps(config))
    command = Command(tmp_path)
    assert "--allow-plain-http" in command.refused("serve", "--config", file, code=78)
    file.write_text(tomlkit.dumps(config | {"allow_plain_http": True, "public_url": "http://gateway.example.org"}))
    with command.start("serve", "--json", "--config", file) as process:
        assert process.stdout is not None
        assert b"gateway.example.org" in process.stdout.readline()
