"""The gateway's state directory: its keys are of no use if others may exchange them."""

from __future__ import annotations

import contextlib
import os
import pwd
from pathlib import Path

import pytest

from crestline.client import load_sites
from crestline.gateway.config import load_config
from crestline.gateway.state_directory import StateDirectory
from crestline.model import ConfigError
from crestline.relay.config import load_relay_config
from harness.parts import require


@pytest.mark.parametrize("level", ["home", "parent"])
def test_a_home_that_others_may_write_is_refused(tmp_path: Path, level: str) -> None:
    home = tmp_path / "parent" / "home"
    home.mkdir(parents=True)
    open_directory = home if level == "home" else home.parent
    open_directory.chmod(0o777)
    with pytest.raises(ConfigError, match="Others may write"):
        StateDirectory(home).create()
    assert not (home / "private").exists(), "no key was made"
    open_directory.chmod(0o755)
    StateDirectory(home).create()


def test_a_link_does_not_hide_an_open_directory(tmp_path: Path) -> None:
    real = tmp_path / "open" / "home"
    real.mkdir(parents=True)
    real.parent.chmod(0o777)
    (tmp_path / "link").symlink_to(real)
    with pytest.raises(ConfigError, match="Others may write"):
        StateDirectory(tmp_path / "link").create()


def test_a_home_of_another_user_is_refused(tmp_path: Path) -> None:
    require(os.geteuid() == 0, "only root can make a directory of another user: run this test as root")
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 12345, 12345)
    with pytest.raises(ConfigError, match="belongs to another user"):
        StateDirectory(home).create()


def test_a_home_below_a_sticky_directory_is_fine(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o1777)
    StateDirectory(tmp_path / "shared" / "home").create()


@pytest.mark.parametrize("mode", [0o602, 0o620, 0o660, 0o666])
def test_a_configuration_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    """It names commands to run, and where credentials go."""
    file = tmp_path / "config.toml"
    file.touch()
    os.chown(file, -1, 12345)  # a group of others
    for load in (load_config, load_relay_config, load_sites):
        file.chmod(mode)
        with pytest.raises(ConfigError, match="Others may write"):
            load(file)
        file.chmod(0o644)
        with contextlib.suppress(ConfigError):  # it is empty
            load(file)


def test_the_group_of_the_user_alone_may_write_a_configuration(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.touch(0o660)
    os.chown(file, -1, pwd.getpwuid(os.geteuid()).pw_gid)
    assert load_sites(file) == {}
