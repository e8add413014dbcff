"""`crestline keys`, `crestline clients` and `crestline audit`."""

from __future__ import annotations

import getpass
import json
import os
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from crestline.client import register_site
from crestline.testing.firecrest import PlainFirecrest, running
from harness.command import CRESTLINE, Command

USER = getpass.getuser()


def url_of(command: Command) -> str:
    return str(tomllib.loads(command.sites_file.read_text())["sites"]["local"]["url"])


def with_key(command: Command, key: str) -> Command:
    """The command for a user who has nothing but a key."""
    return Command(
        command.place / "elsewhere", FIRECREST_URL=url_of(command), FIRECREST_SYSTEM="local", FIRECREST_API_KEY=key
    )


def said(command: Command, *arguments: str | Path) -> Any:
    """What a command prints as JSON."""
    return json.loads(command(*arguments, "--json").stdout)


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[PlainFirecrest]:
    with running(tmp_path / "plain") as server:
        yield server


def test_a_key_is_all_that_a_program_needs(crestline: Command) -> None:
    done = crestline("keys", "create", "for the pipeline", "--expires", "30d")
    key = done.stdout.decode().strip()
    assert key not in done.stderr.decode()
    assert with_key(crestline, key)("run", "--", "echo", "hello").stdout == b"hello\n"
    [listed] = [each for each in said(crestline, "keys", "list") if each["name"] == "for the pipeline"]
    assert listed["expires"] - listed["created"] == 30 * 86400
    assert listed["key_id"] in key
    shown = crestline("keys", "list").stdout.decode()
    assert "for the pipeline" in shown
    assert key not in shown
    crestline("keys", "revoke", listed["key_id"])
    assert "was revoked" in with_key(crestline, key).refused("ps", code=77)


def test_a_key_with_few_scopes(crestline: Command) -> None:
    key = said(crestline, "keys", "create", "monitor", "--scope", "status:read", "--scope", "jobs:read")["secret"]
    monitor = with_key(crestline, key)
    assert said(monitor, "ps") is not None
    assert "lacks the scope 'files:read'" in monitor.refused("ls", "/tmp", code=77)
    assert "lacks the scope 'keys:write'" in monitor.refused("keys", "create", "more", code=77)
    assert "'jobs:all' is not a scope" in crestline.refused("keys", "create", "x", "--scope", "jobs:all", code=2)


def test_a_key_in_the_sites_file(crestline: Command, alone: Command) -> None:
    key = crestline("keys", "create", "for adapters").stdout.decode().strip()
    register_site("by-key", file=alone.sites_file, url=url_of(crestline), api_key=key, system="local")
    assert said(alone, "ps", "--site", "by-key") is not None


def test_the_operator_makes_the_first_key(crestline: Command) -> None:
    home = ("--state-dir", crestline.place / "home")
    key = said(crestline, "keys", "create", "first", "--user", "alice", "--group", "staff", *home)
    answer = httpx.get(f"{url_of(crestline)}/keys", headers={"X-API-Key": key["secret"]}, trust_env=False)
    assert (answer.status_code, answer.headers["F7T-AuthUsername"]) == (403, "alice")
    assert [each["key_id"] for each in said(crestline, "keys", "list", "--user", "alice", *home)] == [key["key_id"]]
    assert key["key_id"] in [each["key_id"] for each in said(crestline, "keys", "list", *home)]
    crestline("keys", "revoke", key["key_id"], *home)
    assert said(crestline, "keys", "list", "--user", "alice", *home) == []
    assert "--user" in crestline.refused("keys", "create", "nobody's", *home, code=2)


def test_clients_come_and_go_while_the_gateway_runs(crestline: Command) -> None:
    home = ("--state-dir", crestline.place / "home")
    secret = crestline("clients", "add", "portal", "--user", "bob", "--scope", "jobs:read", *home).stdout.decode()
    token_url = f"{url_of(crestline)}/oauth2/token"

    def token(**form: str) -> httpx.Response:
        return httpx.post(
            token_url,
            data={"grant_type": "client_credentials", **form},
            auth=("portal", secret.strip()),
            trust_env=False,
        )

    assert token().json()["scope"] == "jobs:read"
    assert token(scope="jobs:write").json()["error"] == "invalid_scope"
    headers = {"Authorization": f"Bearer {token().json()['access_token']}"}
    answer = httpx.get(f"{url_of(crestline)}/compute/local/jobs", headers=headers, trust_env=False)
    assert (answer.status_code, answer.headers["F7T-AuthUsername"]) == (200, "bob")
    assert {"client_id": "portal", "username": "bob", "scopes": ["jobs:read"]} in said(
        crestline, "clients", "list", *home
    )
    assert "portal" in crestline.refused("clients", "add", "portal", "--user", "eve", *home, code=65)
    crestline("clients", "remove", "portal", *home)
    assert token().status_code == 401
    assert "portal" in crestline.refused("clients", "remove", "portal", *home, code=66)


def test_the_audit_trail_is_read_on_the_gateways_home(crestline: Command) -> None:
    home = ("--state-dir", crestline.place / "home")
    reader = with_key(crestline, said(crestline, "keys", "create", "audited", "--scope", "status:read")["secret"])
    reader.refused("ps", code=77)
    crestline("keys", "create", "by hand", "--user", "carol", *home)
    lines = crestline("audit", "--json", *home).stdout.decode().splitlines()
    assert any('"POST /keys"' in line for line in lines)
    assert any('"crestline keys create"' in line and '"admin"' in line and USER in line for line in lines)
    denied = crestline("audit", "--denied", "--since", "1h", "--user", USER, *home).stdout.decode()
    assert denied.splitlines()[-1].endswith("The API key lacks the scope 'jobs:read'. Use one that has it.")
    assert crestline("audit", "--user", "nobody", "--json", *home).stdout == b""


@pytest.mark.parametrize("command", [["keys", "list"], ["clients", "list"], ["audit"]])
def test_where_no_gateway_has_run(alone: Command, command: list[str]) -> None:
    assert "crestline serve" in alone.refused(*command, "--state-dir", "nowhere", code=78)
    assert not (alone.place / "nowhere").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_the_store_of_another_user_is_left_alone(tmp_path: Path) -> None:
    command = Command(tmp_path / "place")
    with command.serving("--state-dir", command.place / "home"):
        pass
    database = command.place / "home" / "private" / "gateway.db"
    os.chown(database, 65534, 65534)
    assert "sudo -u nobody" in command.refused("clients", "list", "--state-dir", "home", code=78)


def test_a_plain_firecrest_has_no_keys(alone: Command, plain: PlainFirecrest) -> None:
    register_site(
        "plain",
        file=alone.sites_file,
        url=plain.url,
        token_url=plain.token_url,
        client_id=plain.client_id,
        client_secret=plain.client_secret,
    )
    assert "has no API keys" in alone.refused("keys", "list", code=65)
    assert "has no API keys" in alone.refused("keys", "create", "x", code=65)


def test_no_secret_on_any_command_line() -> None:
    """Nothing takes a key or a client's secret as an option."""
    for command in (["keys", "create"], ["keys", "revoke"], ["clients", "add"]):
        options = subprocess.run([CRESTLINE, *command, "--help"], capture_output=True, check=True, text=True).stdout
        assert "--secret" not in options
        assert "--key" not in options
