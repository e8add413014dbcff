"""`examples/gateway/backup.py`: what is backed up from a gateway that serves can be restored, and upgraded."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from crestline.cli.app import app
from harness.gateway import in_thread, place_home
from harness.page_blocks import ROOT

SCRIPT = ROOT / "examples/gateway/backup.py"
JOB = {"job": {"script": "#!/bin/sh\n", "name": "kept", "standardOutput": "/dev/null", "standardError": "/dev/null"}}


@dataclass
class BackedUp:
    """What the gateway had when its backup was made."""

    archive: Path
    client: tuple[str, str]
    token: str
    api_key: str
    job_id: str
    workdir: Path

    def submit(self, http: httpx.Client) -> httpx.Response:
        body = {"job": JOB["job"] | {"workingDirectory": str(self.workdir)}}
        return http.post("/compute/local/jobs", json=body, headers={"Idempotency-Key": "kept"})


@pytest.fixture(scope="module")
def backed_up(tmp_path_factory: pytest.TempPathFactory) -> BackedUp:
    folder = tmp_path_factory.mktemp("backed-up")
    with in_thread(folder / "home") as gateway, gateway.http() as http:
        found = BackedUp(folder / "backup.tar", gateway.client, gateway.token(), "", "", folder)
        found.job_id = found.submit(http).raise_for_status().json()["jobId"]
        found.api_key = http.post("/keys", json={"name": "nightly"}).raise_for_status().json()["secret"]
        (gateway.home / "files" / "of-a-user").touch()
        subprocess.run([sys.executable, SCRIPT, gateway.home, found.archive], check=True)
        http.post("/keys", json={"name": "later"}).raise_for_status()
        again = subprocess.run(
            [sys.executable, SCRIPT, gateway.home, found.archive], capture_output=True, text=True, check=False
        )
        assert "FileExistsError" in again.stderr, "no backup is overwritten"
    return found


def test_the_archive_has_the_secrets_and_no_user_files(backed_up: BackedUp) -> None:
    assert backed_up.archive.stat().st_mode & 0o777 == 0o600
    with tarfile.open(backed_up.archive) as tar:
        members = {member.name: member for member in tar.getmembers()}
    assert {"client.json", "private/gateway.db", "private/identifier"} <= set(members)
    assert not [name for name in members if name.startswith("files") or name.endswith(("-wal", "-shm"))]
    for name in ("client.json", "private", "private/gateway.db"):
        assert not members[name].mode & 0o077, name


@pytest.mark.parametrize("schema", ["", "0001"], ids=["same version", "of an earlier version"])
def test_a_restored_gateway_goes_on(backed_up: BackedUp, tmp_path: Path, schema: str) -> None:
    home = tmp_path / "home"
    place_home(home)
    subprocess.run(["tar", "-xpf", backed_up.archive, "-C", home.resolve()], check=True)
    if schema:
        done = CliRunner().invoke(app, ["database", "downgrade", schema, "--state-dir", str(home)])
        assert done.exit_code == 0, done.output
    with in_thread(home) as gateway:
        assert gateway.client == backed_up.client
        with gateway.http() as http:
            assert backed_up.submit(http).raise_for_status().json()["jobId"] == backed_up.job_id
            names = [key["name"] for key in http.get("/keys").json()["keys"]]
            assert names == ["nightly"], "as it was at the time of the backup"
        for credential in (backed_up.token, backed_up.api_key):
            headers = {"Authorization": f"Bearer {credential}"}
            assert httpx.get(f"{gateway.url}/status/systems", headers=headers).status_code == 200
