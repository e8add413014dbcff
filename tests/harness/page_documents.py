"""Configuration and data on a page, read by whatever reads them in earnest."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import yaml

from crestline.client import load_sites
from crestline.client.backends import registry as backends
from crestline.gateway.config import GatewayConfig, load_config
from crestline.gateway.hosts.base import HostSetup
from crestline.gateway.hosts.registry import create_host
from crestline.gateway.paths import PathGuard
from crestline.gateway.schedulers import registry
from crestline.relay.config import load_relay_config
from crestline_gitlab_runner.settings import load_settings
from harness.page_commands import check_command


def check_toml(text: str, place: Path) -> None:
    """A configuration file, told by its tables."""
    file = place / "block.toml"
    file.write_text(text.replace("/etc/crestline/", f"{place}/"))
    file.chmod(0o600)
    for key in ("jwt_hs256.key", "relay.key"):
        (place / key).write_text("a key of a page, that opens nothing\n")
        (place / key).chmod(0o600)
    tables = tomllib.loads(text).keys()
    if tables == {"project"}:
        groups = tomllib.loads(text)["project"]["entry-points"].keys()
        assert groups <= {registry.GROUP, backends.GROUP}
    elif tables & {"sites", "default"}:
        load_sites(file)
    elif "hubs" in tables:
        load_relay_config(file)
    elif tables & {"gateway", "workspace", "stages", "images", "recovery", "job"}:
        load_settings(file)
    elif tables == {"runners"}:
        _check_runners(tomllib.loads(text)["runners"])
    else:
        _check_gateway(load_config(file), place)


def _check_gateway(config: GatewayConfig, place: Path) -> None:
    for name, system in config.systems.items():
        host = create_host(HostSetup(name, PathGuard(name, []), system.host, place / name))
        options = {"type": "local"} | system.scheduler
        kind = str(options.pop("type"))
        registry.create_scheduler(kind, registry.SchedulerSetup(name, options, host, place / name))


def _check_runners(runners: Any) -> None:
    """GitLab Runner's own file: its settings for a custom executor, and the commands that it is given."""
    for runner in runners if isinstance(runners, list) else [runners]:
        custom = runner["custom"]
        stages = {name.partition("_")[0] for name in custom}
        assert stages <= {"config", "prepare", "run", "cleanup", "graceful", "force"}, custom
        for stage in stages & {"config", "prepare", "run", "cleanup"}:
            assert custom.keys() >= {f"{stage}_exec", f"{stage}_args"}
            if custom[f"{stage}_exec"].endswith("/crestline"):
                arguments = custom[f"{stage}_args"]
                assert arguments[:2] == ["gitlab", stage]
                check_command(["crestline", *arguments])


def check_json(text: str) -> None:
    """One document, or one on each line."""
    try:
        json.loads(text)
    except json.JSONDecodeError:
        for line in text.splitlines():
            json.loads(line)


def check_yaml(text: str) -> None:
    """At least one document."""
    assert [each for each in yaml.safe_load_all(text) if each]
