"""Reads the configuration of an SSH host."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from crestline.gateway.config import read_secret_file
from crestline.gateway.hosts.base import HostSetup
from crestline.gateway.hosts.ssh.credentials import CertificateAuthority, CertificateService, Credentials, UserKeys
from crestline.gateway.hosts.ssh.settings import SshSettings
from crestline.model import ConfigError


class UserKeysOptions(msgspec.Struct, tag="user_keys", kw_only=True, forbid_unknown_fields=True):
    """A directory with one private key file for each user, named after the user."""

    directory: str


class AuthorityOptions(msgspec.Struct, tag="authority", kw_only=True, forbid_unknown_fields=True):
    """The built-in certificate authority; `lifetime` of a certificate in seconds."""

    key_file: str | None = None
    """File of the authority's key; None: a key that the gateway creates in its private directory."""
    lifetime: int = 300
    source_address: tuple[str, ...] = ()


class ServiceOptions(msgspec.Struct, tag="service", kw_only=True, forbid_unknown_fields=True):
    """A certificate service over HTTP; `timeout` in seconds."""

    url: str
    token_file: str | None = None
    """File with the gateway's own token, for background work without a caller."""
    timeout: float = 5


CredentialsOptions = UserKeysOptions | AuthorityOptions | ServiceOptions


def read_options(setup: HostSetup) -> tuple[SshSettings, Credentials, Sequence[Path]]:
    """Return the settings, the credentials, and the files created for them.

    Raises:
        ConfigError: an option is missing, unknown or invalid.
    """
    values = {key: value for key, value in setup.options.items() if key not in ("type", "credentials")}
    try:
        settings = msgspec.convert(values, SshSettings)
        chosen: CredentialsOptions = msgspec.convert(setup.options.get("credentials"), CredentialsOptions)
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"The host of the system {setup.name!r} cannot be set up: {error}.", hint="Correct its table."
        ) from error
    return settings, *_credentials(chosen, setup.directory)


def _credentials(options: CredentialsOptions, directory: Path) -> tuple[Credentials, Sequence[Path]]:
    match options:
        case UserKeysOptions():
            return UserKeys(Path(options.directory)), ()
        case AuthorityOptions():
            key_file = Path(options.key_file) if options.key_file else directory / "ssh_authority"
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            CertificateAuthority.create(key_file)
            authority = CertificateAuthority(key_file, lifetime=options.lifetime, source_address=options.source_address)
            return authority, () if options.key_file else (key_file,)
        case ServiceOptions():
            token = read_secret_file(options.token_file, "credentials.token_file") if options.token_file else None
            return CertificateService(options.url, token=token, timeout=options.timeout), ()
