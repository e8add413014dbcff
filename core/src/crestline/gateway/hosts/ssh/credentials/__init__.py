"""How the gateway logs in as a user on the other machine: one module per source of keys or certificates."""

from crestline.gateway.hosts.ssh.credentials.authority import CertificateAuthority
from crestline.gateway.hosts.ssh.credentials.base import Credentials, Identity
from crestline.gateway.hosts.ssh.credentials.service import CertificateService
from crestline.gateway.hosts.ssh.credentials.user_keys import UserKeys

__all__ = ["CertificateAuthority", "CertificateService", "Credentials", "Identity", "UserKeys"]
