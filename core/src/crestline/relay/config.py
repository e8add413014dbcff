"""Configuration of a relay: the hubs that it serves."""

from __future__ import annotations

import ssl
import tomllib
from pathlib import Path
from typing import Annotated, Any

import msgspec

from crestline.model import ConfigError
from crestline.private_files import read_config
from crestline.relay.tokens import HubKey
from crestline.serving.limits import ConnectionLimits


class HubConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Settings of one JupyterHub behind the relay."""

    key_file: str
    """File with the key with which the hub signs sessions, readable by its owner only."""
    ingress: str
    """Address for that hub's proxy: `127.0.0.1:9001`, or `unix:/run/crestline/relay.sock`."""
    certificate: str | None = None
    """PEM file of the certificate for an ingress with TLS."""
    private_key: str | None = None
    max_streams_per_session: Annotated[int, msgspec.Meta(ge=1)] = 512
    """Maximum number of open requests and WebSockets of one server."""
    max_streams_per_user: Annotated[int, msgspec.Meta(ge=1)] = 1024
    """The same for all servers of one user."""
    max_streams: Annotated[int, msgspec.Meta(ge=0)] = 0
    """The same for all users of the hub, a quarter of them reserved for users with few; 0: as many as half of the
    process's file descriptors allow."""
    idle_timeout: Annotated[float, msgspec.Meta(gt=0)] = 900.0
    """Seconds without a byte in either direction after which a request or a WebSocket is closed."""

    def key(self) -> HubKey:
        """Read the key.

        Raises:
            ConfigError: the key file cannot be used.
        """
        file = Path(self.key_file).expanduser()
        try:
            if file.stat().st_mode & 0o077:
                raise ConfigError(f"Others may read {file}.", hint=f"chmod 600 {file}")
            return HubKey(file.read_bytes())
        except OSError as error:
            raise ConfigError(
                f"Cannot read {file}: {error.strerror}.", hint=f"umask 077; openssl rand -hex 32 > {file}"
            ) from error
        except ValueError as error:
            raise ConfigError(f"{file}: {error}", hint=f"openssl rand -hex 32 > {file}") from error

    def tls(self) -> ssl.SSLContext | None:
        """Return the TLS context of the ingress; None: plain HTTP.

        Raises:
            ConfigError: a required certificate is missing, or it cannot be used.
        """
        if self.certificate is None:
            host = self.ingress.rpartition(":")[0].strip("[]")
            if not self.ingress.startswith("unix:") and host not in ("127.0.0.1", "::1", "localhost"):
                raise ConfigError(
                    f"The ingress {self.ingress} would be open to the network in plain HTTP.",
                    hint="Give it a certificate and a private key, or put the relay on the hub's machine (127.0.0.1).",
                )
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(self.certificate, self.private_key)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"{self.certificate} cannot be used: {error}.", hint="Name PEM files.") from error
        return context


class RelayConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The relay's part of a gateway's configuration."""

    hubs: dict[str, HubConfig] = {}
    """Settings of each hub, by a name for the log."""


class StandaloneConfig(RelayConfig, kw_only=True, forbid_unknown_fields=True):
    """Configuration file of a standalone relay."""

    limits: ConnectionLimits = ConnectionLimits()
    trusted_proxies: list[str] = []
    """Addresses and networks of proxies that can open many connections, and whose `X-Forwarded-For` the relay
    trusts."""


def load_relay_config(file: Path) -> StandaloneConfig:
    """Read the TOML file of a standalone relay.

    Raises:
        ConfigError: the file does not exist, is not TOML, or has an invalid key or value.
    """
    try:
        values: dict[str, Any] = tomllib.loads(read_config(file))
        return msgspec.convert(values, StandaloneConfig)
    except OSError as error:
        raise ConfigError(f"Cannot read {file}: {error.strerror}.", hint="Name a readable file.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"{file} cannot be used: {error}.", hint="See docs/how-to/relay.md.") from error
