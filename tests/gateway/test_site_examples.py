"""`examples/gateway`: each file is what the program it is for accepts."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from crestline.gateway.config import load_config
from harness.command import CRESTLINE, Command
from harness.parts import require

FOLDER = Path(__file__).parents[2] / "examples" / "gateway"


def test_the_configuration_is_one(tmp_path: Path) -> None:
    config = load_config(FOLDER / "gateway.toml")
    assert config.public_url == "https://hpc.example.org/firecrest"
    assert config.systems["cluster"].scheduler["type"] == "slurm"
    commented = re.findall(r'^# (database = "[^"]+")$', (FOLDER / "gateway.toml").read_text(), re.MULTILINE)
    assert tomllib.loads(commented[0])["database"].startswith("postgresql://")


def test_doctor_reads_it_and_names_what_a_machine_lacks(tmp_path: Path) -> None:
    text = (FOLDER / "gateway.toml").read_text().replace("/var/lib/crestline", str(tmp_path / "home"))
    text = text.replace("/etc/crestline/known_hosts", str(tmp_path / "known_hosts"))
    text = text.replace("https://auth.example.org", "http://127.0.0.1:9")
    (tmp_path / "gateway.toml").write_text(text)
    (tmp_path / "known_hosts").touch()
    lines = Command(tmp_path)("doctor", "--json", "--config", "gateway.toml", code=1).stdout.splitlines()
    checks = {check["name"]: check for check in map(json.loads, lines)}
    assert checks["configuration"]["verdict"] == "ok"
    assert checks["public_url"]["verdict"] == "ok"
    assert checks["identity provider http://127.0.0.1:9/realms/hpc"]["verdict"] == "fail"


def test_the_unit_is_one(tmp_path: Path) -> None:
    require(shutil.which("systemd-analyze") is not None, "there is no `systemd-analyze`: install Debian's `systemd`")
    text = (FOLDER / "crestline.service").read_text()
    unit = tmp_path / "crestline.service"
    unit.write_text(text.replace("/opt/crestline/bin/crestline", str(CRESTLINE)))
    verified = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    complaints = [line for line in verified.stderr.splitlines() if "crestline.service" in line]
    assert verified.returncode == 0, verified.stderr
    assert complaints == []
    rated = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=25", unit],
        capture_output=True,
        text=True,
        check=False,
    )
    assert rated.returncode == 0, rated.stdout[-500:]


@pytest.mark.parametrize("file", ["crestline.service", "Containerfile"])
def test_the_command_lines_are_understood(tmp_path: Path, file: str) -> None:
    """They fail by the one thing that a test lacks: the configuration file."""
    text = (FOLDER / file).read_text()
    if file == "Containerfile":
        words = [
            word for line in re.findall(r"^(?:ENTRYPOINT|CMD) (.*)$", text, re.MULTILINE) for word in json.loads(line)
        ]
    else:
        words = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)[0].split()
    words = [word.replace("/var/lib/crestline", str(tmp_path / "home")) for word in words]
    assert words[0] == "/opt/crestline/bin/crestline"
    line = Command(tmp_path).refused(*words[1:], code=78)
    assert "/etc/crestline/gateway.toml" in line


def test_the_proxy_passes_what_the_gateway_needs() -> None:
    text = (FOLDER / "nginx.conf").read_text()
    prefix = load_config(FOLDER / "gateway.toml").public_url
    assert prefix is not None
    path = prefix.removeprefix("https://hpc.example.org")
    assert f"location {path}/ {{" in text
    assert "proxy_pass http://crestline/;" in text, "the slash strips the prefix"
