"""The gateway's secrets are below no file system that it serves, whatever its configuration says."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from crestline.gateway.config import load_config
from crestline.gateway.isolation import check_served_trees
from crestline.model import ConfigError
from harness.command import Command
from harness.gateway import in_thread


def refusal(tmp_path: Path, tree: str, **options: object) -> str:
    (tmp_path / "home" / "private").mkdir(parents=True, exist_ok=True)
    system = {"file_systems": [{"path": tree}], **options.pop("system", {})}  # type: ignore[dict-item]
    config = load_config(state_dir=tmp_path / "home", systems={"local": system}, **options)
    with pytest.raises(ConfigError) as refused:
        check_served_trees(config)
    return str(refused.value)


def test_a_tree_with_the_gateways_home_is_refused(tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(tmp_path / "home")
    (tmp_path / "other").symlink_to("/")
    for tree in ("/", str(tmp_path), f"{tmp_path}/home", f"{tmp_path}/alias", f"{tmp_path}/home/private", "other"):
        path = tree if tree.startswith("/") else f"{tmp_path}/{tree}"
        assert "would serve the gateway's secrets" in refusal(tmp_path, path)
    assert "would serve" in refusal(tmp_path, f"{tmp_path}/home/private/systems")
    systems = {"local": {"file_systems": [{"path": f"{tmp_path}/home/files"}]}}
    check_served_trees(load_config(state_dir=tmp_path / "home", systems=systems))


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"tls": {"certificate": "/etc/ssl/c.pem", "key": "TREE/key.pem"}}, "tls.key"),
        ({"openfga": {"url": "http://x", "store_id": "x", "token_file": "TREE/token"}}, "openfga.token_file"),
        ({"relay": {"hubs": {"h": {"key_file": "TREE/hub", "ingress": "unix:/x"}}}}, "relay.hubs.h.key_file"),
        (
            {
                "system": {
                    "s3": {"endpoint": "http://x", "access_key_id": "x", "secret_access_key_file": "TREE/s3"},
                }
            },
            "secret_access_key_file",
        ),
        ({"system": {"scheduler": {"type": "slurm", "restd": {"jwt_key_file": "TREE/jwt"}}}}, "jwt_key_file"),
    ],
)
def test_every_secret_that_the_configuration_names_counts(tmp_path: Path, options: object, what: str) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    written = json.loads(json.dumps(options).replace("TREE", str(tree)))
    assert what in refusal(tmp_path, str(tree), **written)


def test_keys_of_users_of_another_system_count(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    host = {"type": "ssh", "host": "x", "credentials": {"type": "user_keys", "directory": f"{tmp_path}/keys"}}
    systems = {
        "here": {"file_systems": [{"path": str(tmp_path / "keys")}]},
        "there": {"host": host, "file_systems": [{"path": str(tmp_path)}]},  # on that machine, as the user
    }
    with pytest.raises(ConfigError, match=r"systems\.there\.host\.credentials\.directory"):
        check_served_trees(load_config(state_dir=tmp_path / "elsewhere", systems=systems))


def test_serve_and_doctor_refuse_it(tmp_path: Path) -> None:
    command = Command(tmp_path)
    (tmp_path / "gateway.toml").write_text(
        f'state_dir = "{tmp_path}/home"\n[[systems.local.file_systems]]\npath = "{tmp_path}"\n'
    )
    line = command.refused("serve", "--config", "gateway.toml", "--port", "0", code=78)
    assert "would serve the gateway's secrets" in line
    assert b"would serve the gateway's secrets" in command("doctor", "--config", "gateway.toml", code=1).stdout


def test_by_default_no_tree_holds_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    for home, served in (("user/data/home", ["tmp"]), ("tmp/home", ["user"]), ("opt/home", ["tmp", "user"])):
        for folder in ("user", "tmp"):
            (tmp_path / folder).mkdir(exist_ok=True)
        place = tmp_path / home
        place.mkdir(parents=True)
        with in_thread(place) as gateway, gateway.http() as http:
            systems = http.get("/status/systems").json()["systems"]
            paths = [each["path"] for each in systems[0]["fileSystems"]]
            assert sorted(paths) == sorted([f"{place}/files", *(f"{tmp_path}/{each}" for each in served)])
            for path in (f"{place}/private/signing_key.json", f"{place}/client.json"):
                assert os.path.exists(path)
                assert http.get("/filesystem/local/ops/view", params={"path": path}).status_code == 400
