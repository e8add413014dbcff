"""Check the address that the gateway listens on, its certificate, and its public URL."""

from __future__ import annotations

import datetime
import ipaddress
import socket
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit

import httpx

from crestline.bounded import MAX_REFUSAL, BoundedClient
from crestline.cli.checks import Check, Verdict, failed
from crestline.cli.checks.gateway.setup import Setup
from crestline.gateway.config import GatewayConfig, TlsConfig
from crestline.model import ConfigError

_SOON = 14
"""Days before its expiry by which a certificate should have been renewed."""


async def check(setup: Setup) -> AsyncIterator[Check]:
    """Check the port to listen on, the TLS certificate and `public_url`."""
    config = setup.config
    yield await _port(config)
    if config.tls is not None:
        for check in _certificate(config.tls, config.public_url):
            yield check
    yield _exposure(config)


async def _port(config: GatewayConfig) -> Check:
    where = f"{config.host} port {config.port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except OSError as error:
        if await _is_gateway(config):
            return Check("port", Verdict.OK, f"A gateway serves on {where} already.")
        hint = "End what listens there, or choose another port."
        if isinstance(error, PermissionError):
            hint = "Ports below 1024 need CAP_NET_BIND_SERVICE; or choose another."
        elif isinstance(error, socket.gaierror) or error.errno == 99:  # EADDRNOTAVAIL
            hint = "Name an address of this machine."
        return Check("port", Verdict.FAIL, f"Cannot listen on {where}: {error.strerror}.", hint)
    return Check("port", Verdict.OK, f"{where} is free.")


async def _is_gateway(config: GatewayConfig) -> bool:
    scheme = "http" if config.tls is None else "https"
    host = "127.0.0.1" if config.host in ("0.0.0.0", "::") else config.host  # noqa: S104 - a comparison
    try:
        # Only identifies the server. No credentials are sent, so its certificate does not matter.
        async with BoundedClient(limit=MAX_REFUSAL, seconds=5, verify=False, trust_env=False) as http:
            answer = await http.get(f"{scheme}://{host}:{config.port}/status/liveness")
    except httpx.HTTPError:
        return False
    return "f7t-appversion" in answer.headers


def _certificate(tls: TlsConfig, public_url: str | None) -> Iterator[Check]:
    from cryptography import x509

    from crestline.gateway.tls import ServerTls

    try:
        ServerTls(tls)
    except ConfigError as error:
        yield failed("certificate", error)
        return
    certificate = x509.load_pem_x509_certificates(tls.certificate.read_bytes())[0]
    left = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    if left.total_seconds() < 0:
        message = f"{tls.certificate} expired on {certificate.not_valid_after_utc:%Y-%m-%d}."
        yield Check("certificate", Verdict.FAIL, message, "Renew it; the gateway takes the new one up by itself.")
        return
    name = urlsplit(public_url or "").hostname
    names = _names(certificate)
    if name is not None and not any(_covers(each, name) for each in names):
        message = f"{tls.certificate} is for {', '.join(names) or 'no host name'}, and clients call {name}."
        yield Check("certificate", Verdict.FAIL, message, "Get one for the name in public_url.")
    elif left.days < _SOON:
        message = f"{tls.certificate} ends in {left.days} days."
        yield Check("certificate", Verdict.WARN, message, "Does its renewal work?")
    else:
        yield Check("certificate", Verdict.OK, f"{tls.certificate}, for {', '.join(names)}, {left.days} days left.")


def _names(certificate: object) -> list[str]:
    from cryptography import x509

    assert isinstance(certificate, x509.Certificate)  # noqa: S101 - for the type checker
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    addresses = [str(each) for each in found.get_values_for_type(x509.IPAddress)]
    return [*found.get_values_for_type(x509.DNSName), *addresses]


def _covers(pattern: str, name: str) -> bool:
    if pattern.startswith("*."):
        return name.partition(".")[2].lower() == pattern[2:].lower()
    return pattern.lower() == name.lower()


def _exposure(config: GatewayConfig) -> Check:
    try:
        is_loopback = ipaddress.ip_address(socket.gethostbyname(config.host)).is_loopback
    except (OSError, ValueError):
        is_loopback = False
    if not is_loopback and config.tls is None and not config.allow_plain_http:
        message = f"It would listen on {config.host}, beyond this machine, with plain HTTP."
        return Check("public_url", Verdict.FAIL, message, "Give [tls], listen on 127.0.0.1, or allow_plain_http.")
    if config.public_url is None:
        if not is_loopback:
            message = "Clients on other machines need to know the gateway's URL."
            return Check("public_url", Verdict.FAIL, message, "Give public_url.")
        return Check("public_url", Verdict.OK, "Not set: clients use the address that the gateway listens on.")
    if config.public_url.startswith("https://"):
        return Check("public_url", Verdict.OK, f"{config.public_url}.")
    hint = "Put a proxy with TLS before the gateway, or give [tls]."
    return Check("public_url", Verdict.WARN, f"{config.public_url} is plain HTTP.", hint)
