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
"""the entry point group"""


def host_class(options: Mapping[str, Any]) -> type[Host]:
    """The class that the `type` of a system's `host` table names.

    Raises:
        ConfigError: there is none of that name, or it cannot be imported.
    """
    return _class_of(str(options.get("type", "this_machine")))


def create_host(setup: HostSetup) -> Host:
    """The host that `type = "..."` names, not yet started.

    Raises:
        ConfigError: there is none of that name, or its options are wrong.
    """
    return host_class(setup.options).create(setup)


@cache  # asked for at each request
def _class_of(kind: str) -> type[Host]:
    found: type[Host] = load_plugin(GROUP, kind, "kind of host")
    return found
