"""`crestline serve` and `crestline env`: what they print, what they write, and what they refuse."""

from __future__ import annotations

import json
import signal
import stat
import subprocess
import tomllib
from pathlib import Path

import httpx
import pytest

from harness.command import CRESTLINE, TIMEOUT, Command


def _mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


def test_serve_tells_how_to_connect_and_keeps_the_secret(alone: Command) -> None:
    home = alone.place / "a state directory"
    with alone.start("serve", "--state-dir", home, "--port", "0") as process:
        assert process.stdout is not None
        lines = []
        while not lines or not lines[-1].startswith("Ctrl-C"):
            lines.append(process.stdout.readline().decode())
            assert lines[-1], process.communicate()
        said = "".join(lines)
        url = lines[0].split()[-1]
        assert httpx.get(f"{url}/status/liveness", trust_env=False).status_code == 200
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=TIMEOUT)
        assert process.returncode == 0
    secret = json.loads((home / "client.json").read_text())["client_secret"]
    assert secret not in said + rest.decode() + errors.decode()
    assert errors == b""
    for fact in (
        f"{url}/docs",
        f"FirecREST   {url}\n",
        f"IRI API     {url}/iri/api/v1, or with v2\n",
        str(home / "client.json"),
        f"eval \"$(crestline env --state-dir '{home}')\"",
        "site 'local'",
    ):
        assert fact in said


def test_serve_registers_the_latest_gateway_as_site_local(alone: Command) -> None:
    alone.sites_file.write_text('# mine\n[sites.cscs]\nurl = "https://example.org"\n')
    alone.sites_file.chmod(0o644)
    homes = [alone.place / "one", alone.place / "two"]
    for home in homes:
        with alone.serving("--state-dir", home) as facts:
            site = tomllib.loads(alone.sites_file.read_text())["sites"]["local"]
            assert (site["url"], site["token_url"]) == (facts["url"], f"{facts['url']}/oauth2/token")
            assert site["client_secret"] == json.loads((home / "client.json").read_text())["client_secret"]
            assert alone.json("ps", "--site", "local@local") == []
            assert facts["sites_file"] == str(alone.sites_file)
            assert facts["iri_url"] == f"{facts['url']}/iri/api/v1"
    assert _mode(alone.sites_file) == 0o600
    assert alone.sites_file.read_text().startswith("# mine\n[sites.cscs]")
    assert _mode(homes[0] / "client.json") == 0o600
    assert _mode(homes[0] / "private") == 0o700


def test_serve_with_a_configuration(alone: Command) -> None:
    (alone.place / "files").mkdir()
    files = f'[{{path = "{alone.place / "files"}", default_work_dir = true}}]'
    (alone.place / "gateway.toml").write_text(f'state_dir = "home"\n[systems.Alps]\nfile_systems = {files}\n')
    with alone.serving("--config", "gateway.toml", "--state-dir", "other") as facts:
        assert facts["state_dir"] == str(alone.place / "other"), "an option wins over the file"
        assert [system["name"] for system in alone.json("systems")] == ["Alps"]


def test_env_is_for_eval(alone: Command) -> None:
    home = alone.place / 'it\'s "home" $x'
    with alone.serving("--state-dir", home) as facts:
        shell = 'eval "$("$0" env --state-dir "$1")"; env'
        done = subprocess.run(
            ["/bin/sh", "-c", shell, CRESTLINE, home], env=alone.environment, capture_output=True, check=True
        )
        shown = dict(line.split("=", 1) for line in done.stdout.decode().splitlines() if "=" in line)
        named = alone.json("env", "--state-dir", home)
        secret = json.loads((home / "client.json").read_text())["client_secret"]
        assert named == {
            "FIRECREST_URL": facts["url"],
            "AUTH_TOKEN_URL": f"{facts['url']}/oauth2/token",
            "FIRECREST_CLIENT_ID": "local-client",
            "FIRECREST_CLIENT_SECRET": secret,
            "FIRECREST_SYSTEM": "local",
        }
        assert named.items() <= shown.items()
        assert Command(alone.place / "elsewhere", **named).json("ps") == [], "the variables alone are enough"


def test_env_before_any_serve(alone: Command) -> None:
    line = alone.refused("env", "--state-dir", "nowhere", code=78)
    assert line.endswith(f"Start it: crestline serve --state-dir {alone.place / 'nowhere'}")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--host", "0.0.0.0"], "--allow-plain-http"),
        (["--host", "0.0.0.0", "--allow-plain-http"], "--public-url"),
        (["--host", "no.such.host.invalid"], "Cannot listen on no.such.host.invalid"),
        (["--config", "absent.toml"], "absent.toml"),
    ],
)
def test_serve_refuses(alone: Command, options: list[str], said: str) -> None:
    line = alone.refused("serve", "--state-dir", "home", "--port", "0", *options, code=78)
    assert said in line
    assert not alone.sites_file.exists()


def test_serve_beyond_this_machine_when_told_so(alone: Command) -> None:
    public = ["--host", "0.0.0.0", "--allow-plain-http", "--public-url", "http://gateway.example.org/crestline/"]
    with alone.serving("--state-dir", "home", *public) as facts:
        assert facts["url"] == "http://gateway.example.org/crestline"


def test_serve_where_another_serves(alone: Command) -> None:
    with alone.serving("--state-dir", "home") as facts:
        port = facts["url"].rpartition(":")[2]
        assert "--port" in alone.refused("serve", "--state-dir", "other", "--port", port, code=78)


def test_a_gateway_that_cannot_start_says_why_in_one_line(alone: Command) -> None:
    (alone.place / "gateway.toml").write_text('[systems.a.scheduler]\ntype = "lsf"\n')
    line = alone.refused("serve", "--config", "gateway.toml", "--state-dir", "home", "--port", "0", code=78)
    assert "'lsf'" in line


def test_without_the_gateways_packages(alone: Command) -> None:
    """As after `pip install crestline`: litestar is hidden, and the rest of the command works."""
    (alone.place / "hidden").mkdir()
    (alone.place / "hidden" / "litestar.py").write_text("raise ModuleNotFoundError(\"hidden\", name='litestar')\n")
    bare = Command(alone.place, PYTHONPATH=str(alone.place / "hidden"))
    line = bare.refused("serve", "--state-dir", "home", "--port", "0", code=78)
    assert "pip install 'crestline[gateway]'" in line
    assert "litestar" in line
    bare.refused("ps", code=78)


def test_serve_twice_names_the_other(alone: Command) -> None:
    home = alone.place / "twice"
    with alone.serving("--state-dir", home) as facts:
        said = alone.refused("serve", "--state-dir", home, "--port", "0", code=78)
        pid = json.loads((home / "endpoint.json").read_text())["pid"]
        assert facts["url"] in said
        assert f"kill {pid}" in said


def test_commands_without_a_gateway_name_serve(alone: Command) -> None:
    assert "crestline serve" in alone.refused("ps", code=78)
    with alone.serving("--state-dir", alone.place / "stopped"):
        pass
    for words in (["ps"], ["ls"], ["submit", "-"], ["wait", "1"], ["logs", "1"], ["cancel", "1"], ["cp", "x", ":"]):
        assert "Start it with `crestline serve`" in alone.refused(*words, code=69), words
    for words in (["systems"], ["keys", "list"], ["keys", "create", "x"], ["keys", "revoke", "x"]):
        assert "Start it with `crestline serve`" in alone.refused(*words, code=69), words
    assert b"Start it with `crestline serve`" in alone("doctor", code=1).stdout
