"""Hosts by name: those of other distributions take part like the built-in ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from crestline.gateway.config import SystemConfig
from crestline.gateway.hosts.base import HostSetup
from crestline.gateway.hosts.local import LocalHost
from crestline.gateway.hosts.registry import create_host
from crestline.gateway.hosts.ssh import SshHost
from crestline.gateway.isolation import acts_as_gateway
from crestline.gateway.paths import PathGuard
from crestline.model import ConfigError

SSH = {"type": "ssh", "host": "h", "known_hosts": "h ssh-ed25519 AAAA", "credentials": {"type": "authority"}}


def setup(place: Path, **options: object) -> HostSetup:
    return HostSetup("s", PathGuard("s", ["/scratch"]), options, place / "systems" / "s")


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution in the path with a host that acts as the gateway does."""
    (tmp_path / "jail_plugin.py").write_text(
        "from crestline.gateway.hosts.local import LocalHost\nclass Jail(LocalHost):\n    pass\n"
    )
    info = tmp_path / "jail-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: jail\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[crestline.hosts]\njail = jail_plugin:Jail\n")
    monkeypatch.syspath_prepend(str(tmp_path))


def test_built_in_hosts(tmp_path: Path) -> None:
    assert isinstance(create_host(setup(tmp_path)), LocalHost)
    host = create_host(setup(tmp_path, **SSH))
    assert isinstance(host, SshHost)
    assert [file.name for file in host.secret_files] == ["ssh_authority"]
    assert acts_as_gateway(SystemConfig())
    assert not acts_as_gateway(SystemConfig(host=SSH))


def test_a_key_of_the_operator_is_not_shared(tmp_path: Path) -> None:
    [made] = create_host(setup(tmp_path, **SSH)).secret_files
    own = SSH | {"credentials": {"type": "authority", "key_file": str(made)}}
    assert not create_host(setup(tmp_path, **own)).secret_files


@pytest.mark.usefixtures("plugin")
def test_a_plug_in_is_confined_as_its_class_says(tmp_path: Path) -> None:
    assert type(create_host(setup(tmp_path, type="jail"))).__name__ == "Jail"
    assert acts_as_gateway(SystemConfig(host={"type": "jail"}))


def test_unknown_host(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        create_host(setup(tmp_path, type="teleport"))
    assert "ssh" in caught.value.hint
