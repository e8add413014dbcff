"""Hosts by the word that the configuration uses for them, all found through entry points.

A host, of this distribution or of another one, is a subclass of `Host`, listed in its distribution as

    [project.entry-points."crestline.hosts"]
    kubernetes = "my_package:KubernetesHost"
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from crestline.gateway.hosts.base import Host, HostSetup
from crestline.plugins import load_plugin

GROUP = "crestline.hosts"
"""The entry point group."""


def host_class(options: Mapping[str, Any]) -> type[Host]:
    """Return the class for the `type` of a system's `host` table.

    Raises:
        ConfigError: the type is unknown, or its class cannot be imported.
    """
    return _class_of(str(options.get("type", "local")))


def create_host(setup: HostSetup) -> Host:
    """Create the host of the given type, which `start` starts.

    Raises:
        ConfigError: the type is unknown, or an option is invalid.
    """
    return host_class(setup.options).create(setup)


@cache  # called for each request
def _class_of(kind: str) -> type[Host]:
    found: type[Host] = load_plugin(GROUP, kind, "kind of host")
    return found
