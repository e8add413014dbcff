"""Protects the gateway's secrets from users. An unsafe configuration is refused at start and at reload."""

from __future__ import annotations

import getpass
import os
from collections.abc import Collection, Iterator
from functools import cache
from typing import Any

import msgspec

from crestline.gateway.config import FileSystemConfig, GatewayConfig, SystemConfig
from crestline.gateway.hosts.registry import host_class
from crestline.gateway.paths import is_inside
from crestline.gateway.state_directory import StateDirectory
from crestline.model import ConfigError, PermissionDeniedError

_SECRET_FILES = {"key", "private_key", "key_file", "token_file", "jwt_key_file", "secret_access_key_file"}


def check_served_trees(config: GatewayConfig) -> None:
    """Check that no file system on this machine contains a secret of the configuration, and the reverse.

    Behind SSH, the users' own permissions decide, on a machine that does not have the gateway's secrets.

    Raises:
        ConfigError: a secret is below a file system, or a file system is in a directory of secrets.
    """
    state_dir = StateDirectory(config.state_dir)
    secrets = [(what, os.path.realpath(path)) for what, path in _secrets(config, state_dir)]
    for name, system in config.systems.items():
        if not acts_as_gateway(system):
            continue
        for tree in system.file_systems or []:
            root = os.path.realpath(tree.path)
            for what, path in secrets:
                if is_inside(path, root) or (os.path.isdir(path) and is_inside(root, path)):
                    raise ConfigError(
                        f"The file system {tree.path} of {name!r} would serve {what}, {path}.",
                        hint="Serve another folder, or move the secret out of it (for the gateway's own: --state-dir).",
                    )


def without_secrets(paths: list[FileSystemConfig], state_dir: StateDirectory) -> list[FileSystemConfig]:
    """Return those of `paths` that contain no secret of a gateway with this state directory."""
    secrets = [os.path.realpath(path) for path in state_dir.secrets]
    return [each for each in paths if not any(is_inside(path, os.path.realpath(each.path)) for path in secrets)]


def check_shared_account(config: GatewayConfig, usernames: Collection[str] = ()) -> None:
    """Check whether users other than the operator have a system whose jobs run as the gateway's own account.

    A job there can read everything that the gateway can read: its signing key, and the keys for other machines.

    Args:
        config: the configuration.
        usernames: users of the built-in issuer's clients.

    Raises:
        ConfigError: they do, and `trust_all_users` is not set.
    """
    shared = [name for name, system in config.systems.items() if acts_as_gateway(system)]
    if not shared or config.trust_all_users:
        return
    others = sorted(set(usernames) - {operator()})
    if remote := [name for name, system in config.systems.items() if not acts_as_gateway(system)]:
        reason = f"so they can read the keys with which it logs in to {', '.join(remote)}"
    elif config.oidc:
        reason = f"so all users of {config.oidc[0].issuer} can read its secrets and each other's files"
    elif others:
        reason = f"so its clients for {', '.join(others)} can read its secrets and each other's files"
    else:
        return
    raise ConfigError(
        f"Jobs and files of {', '.join(shared)} belong to the gateway's own account, {reason}.",
        hint="Give the system a host of type ssh, or take it out. If every user is trusted as the operator is, set"
        " trust_all_users = true (--trust-all-users).",
    )


def check_shared_user(config: GatewayConfig, system: SystemConfig, username: str) -> None:
    """Refuse a user who was added since the start.

    Raises:
        PermissionDeniedError: jobs and files there belong to the gateway's own account, and this is another user.
    """
    if acts_as_gateway(system) and not config.trust_all_users and username != operator():
        raise PermissionDeniedError(
            f"Jobs and files of this system belong to the gateway's own account, which {username} is not.",
            hint="Ask the operator: the system needs a host of type ssh, or the gateway trust_all_users.",
        )


@cache
def operator() -> str:
    """Return the name of the gateway's own account."""
    return getpass.getuser()


def acts_as_gateway(system: SystemConfig) -> bool:
    """Whether all users' files and commands there belong to the gateway's own account."""
    return host_class(system.host).acts_as_gateway


def _secrets(config: GatewayConfig, state_dir: StateDirectory) -> Iterator[tuple[str, str]]:
    yield from (("the gateway's secrets", str(path)) for path in state_dir.secrets)
    yield from _files_in(msgspec.to_builtins(config, enc_hook=str), "")


def _files_in(table: Any, where: str) -> Iterator[tuple[str, str]]:
    """Yield the paths in the configuration that hold secrets, including those in options of schedulers and hosts."""
    if isinstance(table, list):
        for each in table:
            yield from _files_in(each, where)
    if not isinstance(table, dict):
        return
    for key, value in table.items():
        place = f"{where}.{key}" if where else key
        if not isinstance(value, str):
            yield from _files_in(value, place)
        elif key in _SECRET_FILES or (key == "directory" and where.endswith(".credentials")):
            yield f"`{place}`", os.path.expanduser(value)
