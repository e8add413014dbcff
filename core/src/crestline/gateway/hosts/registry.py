"""Hosts by the word that the configuration uses for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crestline.gateway.hosts.base import Host, TemporaryFiles
from crestline.gateway.hosts.this_machine import ThisMachine
from crestline.gateway.paths import PathGuard
from crestline.model import ConfigError
from crestline.wire.tar import ArchiveLimits


@dataclass(frozen=True)
class HostSetup:
    """What a host is made from."""

    name: str
    """of the system"""
    guard: PathGuard
    options: Mapping[str, Any]
    """the system's `host` table"""
    directory: Path
    """of the gateway, private to this system"""
    archives: ArchiveLimits = field(default_factory=ArchiveLimits)
    temporary_files: TemporaryFiles = field(default_factory=TemporaryFiles)


def create_host(setup: HostSetup) -> Host:
    """The host that `type = "..."` names, not yet started.

    Raises:
        ConfigError: there is none of that name, or its options are wrong.
    """
    match setup.options.get("type", "this_machine"):
        case "this_machine":
            return ThisMachine(setup.name, setup.guard, setup.archives, setup.temporary_files)
        case "ssh":
            from crestline.gateway.hosts.ssh.setup import create_ssh_host

            return create_ssh_host(
                setup.name, setup.guard, setup.options, setup.directory, setup.archives, setup.temporary_files
            )
        case other:
            raise ConfigError(f"There is no kind of host {other!r}.", hint="Choose one of: this_machine, ssh.")
