"""`crestline doctor` and `systems`: what is well and what is not."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from harness.command import Command


def _checks(command: Command, *options: str | Path, code: int = 0) -> dict[str, dict[str, Any]]:
    lines = command("doctor", "--json", *options, code=code).stdout.splitlines()
    return {check["name"]: check for check in map(json.loads, lines)}


def test_a_healthy_connection(crestline: Command) -> None:
    before = crestline.json("ls", "-a")
    checks = _checks(crestline)
    assert {check["verdict"] for check in checks.values()} == {"ok"}, checks
    steps = ["sites file", "site", "gateway", "clock", "credentials", "system local", "features", "jobs", "files"]
    steps.append("jupyterhub")  # what its distribution adds, where it is installed
    assert list(checks) == steps
    assert "idempotency-key" in checks["features"]["message"]
    assert crestline.json("ls", "-a") == before, "it leaves nothing behind"


def test_no_sites_file(alone: Command) -> None:
    done = alone("doctor", code=1)
    assert done.stdout.decode().splitlines()[0].startswith("fail  sites file: ")
    assert done.stderr == b""


def test_a_sites_file_that_others_can_read(crestline: Command, tmp_path: Path) -> None:
    open_to_all = Command(tmp_path)
    open_to_all.sites_file.write_bytes(crestline.sites_file.read_bytes())
    open_to_all.sites_file.chmod(0o644)
    check = _checks(open_to_all, code=1)["sites file"]
    assert (check["verdict"], check["hint"]) == ("fail", f"Run: chmod 600 {open_to_all.sites_file}")


def test_a_wrong_secret(crestline: Command, tmp_path: Path) -> None:
    named = crestline.json("env", "--state-dir", crestline.place / "home")
    checks = _checks(Command(tmp_path, **{**named, "FIRECREST_CLIENT_SECRET": "nonsense"}), code=1)
    assert checks["gateway"]["verdict"] == "ok"
    assert checks["credentials"]["verdict"] == "fail"
    assert "nonsense" not in str(checks)


def test_a_gateway_that_is_away(tmp_path: Path) -> None:
    away = Command(tmp_path, FIRECREST_URL="http://127.0.0.1:9", FIRECREST_TOKEN="x")
    checks = _checks(away, code=1)
    assert list(checks) == ["site", "gateway"]
    assert checks["gateway"]["verdict"] == "fail"


@pytest.fixture
def something_else() -> Iterator[str]:
    """A web server that is no FirecREST and lives two hours ago."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404)
            self.end_headers()

        def date_time_string(self, timestamp: float | None = None) -> str:
            return "Mon, 01 Jan 2024 00:00:00 GMT"

        def log_message(self, *_: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_server_that_is_no_gateway_with_a_wrong_clock(tmp_path: Path, something_else: str) -> None:
    checks = _checks(Command(tmp_path, FIRECREST_URL=something_else, FIRECREST_TOKEN="x"), code=1)
    assert (checks["gateway"]["verdict"], checks["clock"]["verdict"]) == ("warn", "fail")


def test_a_gateways_configuration(alone: Command) -> None:
    file = alone.place / "gateway.toml"
    file.write_text('state_dir = "home"\nport = 0\n')
    assert {check["verdict"] for check in _checks(alone, "--config", file).values()} == {"ok"}
    assert not (alone.place / "home").exists(), "looking changes nothing"
    file.write_text(
        f'state_dir = "{file}/x"\nport = 0\n'
        f'[systems.a]\nscheduler = {{type = "lsf"}}\nfile_systems = [{{path = "/no/where"}}]\n'
    )
    checks = _checks(alone, "--config", file, code=1)
    wrong = {name for name, check in checks.items() if check["verdict"] == "fail"}
    assert wrong == {"home", "system a"}
    file.write_text("hoem = 1")
    assert "hoem" in _checks(alone, "--config", file, code=1)["configuration"]["message"]


def test_systems(crestline: Command) -> None:
    head, line = crestline("systems").stdout.decode().splitlines()
    assert head.split() == ["SYSTEM", "SITE", "SCHEDULER", "FILE", "SYSTEMS", "HEALTH"]
    assert line.split()[:2] == ["local", "local"]
    assert line.endswith("  ok")
    [system] = crestline.json("systems", "--site", "local")
    assert (system["site"], system["name"]) == ("local", "local")


def test_systems_of_several_sites_where_one_is_away(crestline: Command, tmp_path: Path) -> None:
    several = Command(tmp_path)
    several.sites_file.write_text(
        crestline.sites_file.read_text() + '[sites.away]\nurl = "http://127.0.0.1:9"\ntoken = "x"\n'
    )
    several.sites_file.chmod(0o600)
    entries = {entry["site"]: entry for entry in several.json("systems")}
    assert entries["local"]["name"] == "local"
    assert "127.0.0.1:9" in entries["away"]["error"]
    assert "no answer" in several("systems").stdout.decode()
