"""The gateway's configuration: one TOML file, and what holds without it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec
import platformdirs

from crestline.model import ConfigError
from crestline.wire.status import FileSystem

DEFAULT_HOME = Path(platformdirs.user_data_dir("crestline", appauthor=False))


class FileSystemConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A tree that the file endpoints serve."""

    path: str
    data_type: str = "users"
    default_work_dir: bool = False


class SystemConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One system; FirecREST's `cluster`."""

    host: dict[str, Any] = msgspec.field(default_factory=lambda: {"type": "this_machine"})
    """where the files are and commands run: `type` (see `hosts.registry`) and the options of that kind of host"""
    scheduler: dict[str, Any] = msgspec.field(default_factory=lambda: {"type": "local"})
    """`type` (see `schedulers.registry`) and the options of that scheduler"""
    file_systems: list[FileSystemConfig] | None = None
    """None: `<home>/files` as the default, the user's home, the temporary directory"""
    max_ops_file_size: int = 5 * 1024 * 1024
    """bytes that the `ops` endpoints carry in one request"""


class IssuerConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The built-in OAuth2 issuer; durations in seconds."""

    token_lifetime: int = 300
    refresh_lifetime: int = 30 * 86400


class OidcConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An OpenID Connect provider whose tokens are taken beside those of the built-in issuer."""

    issuer: str
    """its URL, exactly as the claim `iss` has it"""
    audience: str
    """what the claim `aud` must name"""
    username_claim: str = "preferred_username"
    """the claim that holds the POSIX user on the systems"""
    ca_file: str | None = None
    """PEM file of the authority that signed the provider's certificate"""


class GatewayConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    home: Path = DEFAULT_HOME
    public_url: str | None = None
    """base of every URL that leaves the gateway; None: the address it listens on"""
    issuer: IssuerConfig = msgspec.field(default_factory=IssuerConfig)
    oidc: list[OidcConfig] = []
    systems: dict[str, SystemConfig] = msgspec.field(default_factory=lambda: {"local": SystemConfig()})
    max_body_size: int = 64 * 1024 * 1024
    """bytes of a request body that is read into memory; streams have no limit"""
    min_token_ttl: int = 30
    """a token that lives fewer seconds than this is refused, as FirecREST does"""


def load_config(file: Path | None = None, **overrides: Any) -> GatewayConfig:
    """Read the configuration; `overrides` that are not None win over the file.

    Raises:
        ConfigError: the file is absent, is not TOML, or has a key or value that cannot be used.
    """
    values: dict[str, Any] = {}
    if file is not None:
        try:
            values = tomllib.loads(file.read_text())
        except OSError as error:
            raise ConfigError(f"Cannot read {file}: {error.strerror}.", hint="Name a readable file.") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file} is not TOML: {error}.", hint="Correct that line.") from error
    values |= {key: value for key, value in overrides.items() if value is not None}
    try:
        config = msgspec.convert(values, GatewayConfig, dec_hook=_decode)
    except msgspec.ValidationError as error:
        where = file or "the options"
        raise ConfigError(f"{where} cannot be used: {error}.", hint="See `crestline serve --help`.") from error
    config.home = config.home.expanduser().absolute()
    return config


def _decode(kind: type, value: Any) -> Any:
    if kind is Path:
        return Path(value)
    raise TypeError(kind)


def wire_file_systems(config: SystemConfig) -> list[FileSystem]:
    """The configured file systems as `/status/systems` shows them."""
    return [
        msgspec.convert(
            {"path": each.path, "dataType": each.data_type, "defaultWorkDir": each.default_work_dir}, FileSystem
        )
        for each in config.file_systems or []
    ]
