"""How a relay is set up: which hubs it serves."""

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
    """file with the key that the hub signs sessions with, readable by its owner alone"""
    ingress: str
    """where that hub's proxy comes in: `127.0.0.1:9001`, or `unix:/run/crestline/relay.sock`"""
    certificate: str | None = None
    """PEM files that make the ingress speak TLS"""
    private_key: str | None = None
    max_streams_per_session: Annotated[int, msgspec.Meta(ge=1)] = 512
    """requests and WebSockets that one server may have open at once"""
    max_streams_per_user: Annotated[int, msgspec.Meta(ge=1)] = 1024
    """the same for all servers of one user"""
    max_streams: Annotated[int, msgspec.Meta(ge=0)] = 0
    """the same for all users of the hub, a quarter of them for users with few; 0: what half of the process's
    descriptors allow"""
    idle_timeout: Annotated[float, msgspec.Meta(gt=0)] = 900.0
    """seconds without a byte in either direction after which a request or a WebSocket is closed"""

    def key(self) -> HubKey:
        """
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
        """
        Raises:
            ConfigError: no certificate where one is needed, or one that cannot be used.
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
    """by a name that the log uses"""


class StandaloneConfig(RelayConfig, kw_only=True, forbid_unknown_fields=True):
    """A relay's own file."""

    limits: ConnectionLimits = ConnectionLimits()
    trusted_proxies: list[str] = []
    """addresses and networks of proxies that may bring many connections, and whose `X-Forwarded-For` is believed"""


def load_relay_config(file: Path) -> StandaloneConfig:
    """Read a relay's own TOML file.

    Raises:
        ConfigError: the file is absent, is not TOML, or has a key or value that cannot be used.
    """
    try:
        values: dict[str, Any] = tomllib.loads(read_config(file))
        return msgspec.convert(values, StandaloneConfig)
    except OSError as error:
        raise ConfigError(f"Cannot read {file}: {error.strerror}.", hint="Name a readable file.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"{file} cannot be used: {error}.", hint="See docs/how-to/relay.md.") from error
