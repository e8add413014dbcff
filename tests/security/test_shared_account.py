"""On the gateway's own machine every job is the gateway's: users get no system there unless all are trusted."""

from __future__ import annotations

import getpass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from crestline.gateway import systems
from crestline.gateway.config import load_config
from crestline.gateway.isolation import check_shared_account
from crestline.gateway.replicas import Replicas
from crestline.gateway.state_directory import StateDirectory
from crestline.gateway.store import Store
from crestline.model import ConfigError
from harness.command import Command
from harness.gateway import in_thread

SSH = {"host": {"type": "ssh", "host": "there"}, "file_systems": [{"path": "/scratch"}]}
OIDC = [{"issuer": "https://provider.example", "audience": "gateway"}]


@pytest.mark.parametrize(
    ("options", "users", "why"),
    [
        ({"systems": {"here": {}, "there": SSH}}, (), "logs in to there"),
        ({"systems": {"here": {"scheduler": {"type": "slurm"}}, "there": SSH}}, (), "logs in to there"),
        ({"oidc": OIDC}, (), r"all users of https://provider\.example"),
        ({}, ("alice", "bob"), "its clients for alice, bob"),
    ],
)
def test_local_beside_others_is_refused(tmp_path: Path, options: Any, users: tuple[str, ...], why: str) -> None:
    users = (*users, getpass.getuser())
    with pytest.raises(ConfigError, match=why) as refused:
        check_shared_account(load_config(state_dir=tmp_path, **options), users)
    assert "--trust-all-users" in str(refused.value)
    check_shared_account(load_config(state_dir=tmp_path, trust_all_users=True, **options), users)


@pytest.mark.parametrize("options", [{}, {"systems": {"there": SSH}, "oidc": OIDC}, {"systems": {"a": {}, "b": {}}}])
def test_one_user_or_ssh_alone_is_fine(tmp_path: Path, options: Any) -> None:
    check_shared_account(load_config(state_dir=tmp_path, **options), {getpass.getuser()})


@pytest.mark.anyio
@pytest.mark.parametrize("scheduler", [None, {"type": "local"}, {"type": "plugin"}])
async def test_jobs_of_a_system_behind_ssh_never_run_as_the_gateway(
    tmp_path: Path, scheduler: dict[str, str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`local` is the default, for a system with another host too."""
    if scheduler == {"type": "plugin"}:
        monkeypatch.setattr(systems, "create_scheduler", lambda *_: SimpleNamespace(acts_as_gateway=True))
    host = {"type": "ssh", "host": "h", "known_hosts": "h ssh-ed25519 AAAA", "credentials": {"type": "authority"}}
    table = {"host": host, "file_systems": [{"path": "/scratch"}]} | ({"scheduler": scheduler} if scheduler else {})
    config = load_config(state_dir=tmp_path, oidc=OIDC, systems={"there": table})
    home = StateDirectory(tmp_path)
    home.create()
    store = await Store.open(home.database)
    try:
        with pytest.raises(ConfigError, match="would run its users' jobs as the gateway"):
            systems.build_system("there", config.systems["there"], home, store, lambda: "", Replicas(store))
    finally:
        await store.close()


def test_serve_and_doctor_say_it(tmp_path: Path) -> None:
    command = Command(tmp_path)
    config = f'state_dir = "{tmp_path}/home"\n[[oidc]]\nissuer = "http://127.0.0.1:9"\naudience = "x"\n'
    (tmp_path / "gateway.toml").write_text(config)
    line = command.refused("serve", "--config", "gateway.toml", "--port", "0", code=78)
    assert "belong to the gateway's own account" in line
    assert b"fail  isolation" in command("doctor", "--config", "gateway.toml", code=1).stdout
    (tmp_path / "gateway.toml").write_text(f"trust_all_users = true\n{config}")
    assert b"isolation" not in command("doctor", "--config", "gateway.toml", code=1).stdout
    with command.serving("--config", "gateway.toml") as served:
        assert served["url"]


def test_a_user_who_comes_later_is_refused(tmp_path: Path) -> None:
    home = tmp_path / "home"
    command = Command(tmp_path)
    with in_thread(home, trust_all_users=False) as gateway:
        secret = command("clients", "add", "web", "--user", "mallory", "--state-dir", home).stdout.decode().split()[-1]
        with gateway.http(("web", secret)) as http:
            for url in ("/filesystem/local/ops/ls?path=/tmp", "/compute/local/jobs", "/status/local/nodes"):
                answer = http.get(url)
                assert answer.status_code == 403, (url, answer.text)
                assert "belong to the gateway's own account, which mallory is not" in answer.text
            assert http.post("/compute/local/jobs", json={"job": {"script": "#!/bin/sh\nid"}}).status_code == 403
        with gateway.http() as http:
            assert http.get("/compute/local/jobs").status_code == 200
    # At the next start it is known that there are several.
    line = command.refused("serve", "--state-dir", home, "--port", "0", code=78)
    assert "its clients for mallory" in line
    (tmp_path / "gateway.toml").write_text(f'state_dir = "{home}"\n')
    assert b"its clients for mallory" in command("doctor", "--config", "gateway.toml", code=1).stdout
