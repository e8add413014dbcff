"""A certificate authority for tests, and certificates of 127.0.0.1."""

from __future__ import annotations

import datetime
import ipaddress
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAY = datetime.timedelta(days=1)


class Authority:
    """Signs; `file` is what clients trust."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Authority of the tests")])
        builder = self._builder(self._name, self._key.public_key(), 30)
        certificate = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.file = place / "authority.pem"
        self.file.write_bytes(certificate.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def issue(self, certificate: Path, key: Path, *, days: float = 10, name: str = "127.0.0.1") -> int:
        """Write a new certificate and its key; the serial number."""
        private = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        address = x509.IPAddress(ipaddress.ip_address(name)) if name[0].isdigit() else x509.DNSName(name)
        signed = (
            self._builder(subject, private.public_key(), days)
            .add_extension(x509.SubjectAlternativeName([address]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        key.touch(0o600)
        key.write_bytes(
            private.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return signed.serial_number

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey, days: float) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 30 * _DAY)
            .not_valid_after(now + days * _DAY)
        )


def trust_tests_alone(place: Path) -> None:
    """Let this process and its children trust an authority that has signed nothing."""
    os.environ["SSL_CERT_FILE"] = str(Authority(place).file)


def environment_for_downloads() -> dict[str, str]:
    """The environment of a program that fetches packages: it trusts what this machine trusts."""
    mine = "crestline-tests-" in os.environ.get("SSL_CERT_FILE", "")
    return {name: value for name, value in os.environ.items() if not (mine and name == "SSL_CERT_FILE")}
