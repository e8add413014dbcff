"""`crestline doctor --config`: what is wrong with a site's set-up, in plain words."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import tomlkit

from crestline.cli.checks import Check, Verdict
from crestline.cli.checks.gateway import check_gateway
from harness.certificates import Authority
from harness.cluster import Cluster
from harness.command import Command
from harness.oidc import OidcProvider
from harness.postgresql import PostgresServer

pytestmark = pytest.mark.timeout(900)


class Site:
    """A set-up that is sound until a test breaks it."""

    def __init__(self, command: Command, config: dict[str, Any]) -> None:
        self.config = config
        self._command = command

    def checks(self, *options: str, code: int = 1) -> dict[str, dict[str, str]]:
        """What doctor says, by the names of the checks."""
        self._write()
        done = self._command("doctor", "--json", "--config", "gateway.toml", *options, code=code)
        assert done.stderr == b""
        return {check["name"]: check for check in map(json.loads, done.stdout.splitlines())}

    def fault(self, user: str | None = None) -> Check:
        """The one check that fails; without the start of a process, which would be most of the time."""
        file = self._write()

        async def look() -> list[Check]:
            return [check async for check in check_gateway(file, user)]

        (fault,) = [check for check in asyncio.run(look()) if check.verdict is Verdict.FAIL]
        return fault

    def _write(self) -> Path:
        file = self._command.place / "gateway.toml"
        file.write_text(tomlkit.dumps(self.config))
        return file


@pytest.fixture
def plain(tmp_path: Path) -> Site:
    """Of one machine."""
    return Site(Command(tmp_path), {"state_dir": str(tmp_path / "home"), "port": 0})


@pytest.fixture
def slurm(cluster: Cluster, tmp_path: Path) -> Site:
    """In front of the test cluster."""
    host = {
        "type": "ssh",
        "host": cluster.host,
        "port": cluster.port,
        "known_hosts": cluster.known_hosts,
        "timeout": {"connection": 20, "login": 20, "command_execution": 60},
        "credentials": {"type": "user_keys", "directory": str(cluster.keys)},
    }
    system = {
        "host": host,
        "scheduler": {"type": "slurm", "timeout": 20.0},
        "file_systems": [{"path": "/scratch", "default_work_dir": True}],
    }
    return Site(Command(tmp_path), {"state_dir": str(tmp_path / "home"), "port": 0, "systems": {"cluster": system}})


def test_a_sound_site(slurm: Site, tmp_path: Path) -> None:
    checks = slurm.checks("--user", "alice", code=0)
    assert {check["verdict"] for check in checks.values()} == {"ok"}, checks
    assert {"munge", "slurmctld"} & checks.keys() == {"slurmctld"}
    assert "alice" in checks["login on cluster"]["message"]
    assert checks["programs of cluster"]["message"].startswith("slurm")
    assert "jobs of alice" in checks["scheduler of cluster"]["message"]
    assert not (tmp_path / "home").exists(), "looking changes nothing"


def test_without_a_user_no_login_is_claimed(slurm: Site) -> None:
    assert slurm.checks(code=0)["login on cluster"]["verdict"] == "warn"


def test_another_host_key(slurm: Site, cluster: Cluster) -> None:
    import asyncssh

    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    slurm.config["systems"]["cluster"]["host"]["known_hosts"] = f"[{cluster.host}]:{cluster.port} {other}"
    fault = slurm.fault("alice")
    assert fault.name == "login on cluster"
    assert "host key" in fault.message


def test_a_user_without_a_key_and_one_whom_sshd_refuses(slurm: Site, cluster: Cluster, tmp_path: Path) -> None:
    assert slurm.fault("nobody").name == "login on cluster"
    keys = tmp_path / "keys"
    keys.mkdir(0o700)
    (keys / "alice").touch(0o600)
    (keys / "alice").write_bytes(cluster.key("bob").read_bytes())
    slurm.config["systems"]["cluster"]["host"]["credentials"]["directory"] = str(keys)
    fault = slurm.fault("alice")
    assert "Permission denied" in fault.message


def test_a_closed_ssh_port_is_reported(slurm: Site) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        slurm.config["systems"]["cluster"]["host"]["port"] = taken.getsockname()[1]
        assert "cannot be reached" in slurm.fault("alice").message


def test_programs_that_are_not_there(slurm: Site) -> None:
    slurm.config["systems"]["cluster"]["scheduler"]["directory"] = "/opt/nowhere"
    fault = slurm.fault("alice")
    assert fault.name == "scheduler of cluster"
    assert "sbatch" in fault.message


def test_directories(slurm: Site, cluster: Cluster) -> None:
    slurm.config["systems"]["cluster"]["file_systems"] = [
        {"path": "/no/where", "default_work_dir": True},
        {"path": "/etc"},
        {"path": "/home"},
    ]
    checks = slurm.checks("--user", "alice")
    verdicts = [checks[f"file system {path} of cluster"]["verdict"] for path in ("/no/where", "/etc", "/home")]
    assert verdicts == ["fail", "warn", "ok"]


@pytest.mark.parametrize(("part", "name"), [("munged", "munge"), ("slurmctld", "slurmctld"), ("slurmdbd", "slurmdbd")])
def test_a_part_that_is_down(slurm: Site, cluster: Cluster, part: str, name: str) -> None:
    cluster.stop(part)
    try:
        checks = slurm.checks("--user", "alice")
    finally:
        cluster.start(part)
    assert checks[name]["verdict"] == "fail", checks
    assert "running" in checks[name]["hint"]


@contextmanager
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_port_that_something_else_has(plain: Site) -> None:
    with taken_port() as port:
        plain.config["port"] = port
        assert plain.fault().name == "port"


def test_exposed_without_tls(plain: Site) -> None:
    plain.config["host"] = "0.0.0.0"
    assert "plain HTTP" in plain.fault().message


def test_a_home_that_others_can_read(plain: Site, tmp_path: Path) -> None:
    (tmp_path / "home" / "private").mkdir(parents=True)
    (tmp_path / "home" / "private").chmod(0o755)
    assert plain.fault().hint.startswith("Run: chmod go=")


@pytest.mark.parametrize(
    ("issue", "verdict", "said"),
    [
        ({"days": 100}, "ok", "days left"),
        ({"days": 3}, "warn", "ends in"),
        ({"days": -3}, "fail", "expired"),
        ({"days": 100, "name": "other.example.org"}, "fail", "clients call"),
    ],
)
def test_certificates(plain: Site, tmp_path: Path, issue: dict[str, Any], verdict: str, said: str) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    Authority(tmp_path).issue(certificate, key, **issue)
    plain.config |= {
        "tls": {"certificate": str(certificate), "key": str(key)},
        "public_url": "https://127.0.0.1:8443",
    }
    check = plain.checks(code=int(verdict == "fail"))["certificate"]
    assert check["verdict"] == verdict
    assert said in check["message"]


def test_databases(plain: Site, postgresql: PostgresServer) -> None:
    plain.config["systems"] = {}
    plain.config["database"] = postgresql.create_database("doctor")
    checks = plain.checks()
    assert "PostgreSQL 1" in checks["database"]["message"]
    assert postgresql.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", "doctor") == "0"
    plain.config["database"] = postgresql.url("doctor", "not-to-be-shown")
    fault = plain.checks()["database"]
    assert fault["verdict"] == "fail"
    assert "password authentication failed" in fault["message"]
    assert "not-to-be-shown" not in str(fault)
    plain.config["database"] = "postgresql://x:not-to-be-shown@127.0.0.1:9/x"
    fault = plain.checks()["database"]
    assert "does not answer" in fault["message"]


def test_identity_providers(plain: Site, oidc_provider: OidcProvider) -> None:
    sound = {"issuer": oidc_provider.issuer, "audience": "x"}
    slash = {"issuer": f"{oidc_provider.issuer}/", "audience": "x"}
    away = {"issuer": "http://127.0.0.1:9", "audience": "x"}
    plain.config["oidc"] = [sound, slash, away]
    checks = plain.checks()
    said = [checks[f"identity provider {each['issuer']}"] for each in (sound, slash, away)]
    assert [check["verdict"] for check in said] == ["ok", "fail", "fail"]
    assert "slash" in said[1]["hint"]
    assert "cannot be reached" in said[2]["message"]
