"""No program that a command, or a gateway for it, starts finds a secret in its arguments or its environment."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from crestline.cli import app as cli
from harness.gateway import in_thread

STARTS = {"subprocess.Popen", "os.exec", "os.posix_spawn", "os.system", "os.spawn", "pty.spawn"}
MARK = "S3cretMark"


class Starts:
    """What this process starts while it is on: Python never removes an audit hook."""

    def __init__(self) -> None:
        self.is_on = False
        self.seen: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.is_on and event in STARTS:
            environment = arguments[-1] or dict(os.environ)  # None: that of this process
            self.seen.append(repr((event, arguments, environment)))


def test_no_child_process_is_told_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    starts = Starts()
    with in_thread(tmp_path / "home") as gateway:
        files = tmp_path / "home" / "files"
        (files / "there").mkdir()
        (files / "there" / "text").write_text("x\n")
        (tmp_path / "job.sh").write_text('#!/bin/sh\ntest -n "$WORD"\n')
        client, secret = gateway.client
        for name, value in {
            "FIRECREST_URL": gateway.url,
            "FIRECREST_SYSTEM": "local",
            "AUTH_TOKEN_URL": gateway.token_url,
            "FIRECREST_CLIENT_ID": client,
            "FIRECREST_CLIENT_SECRET": secret,
            "CRESTLINE_SITES": str(tmp_path / "sites.toml"),
        }.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)
        ends: dict[str, int] = {}
        starts.is_on = True
        for command in (
            ["systems"],
            ["submit", "job.sh", "--env", f"WORD={MARK}"],
            ["run", "--env", f"WORD={MARK}", "--", "true"],
            ["ps"],
            ["wait", "1"],
            ["logs", "1"],
            ["cat", f"{files}/there/text"],
            ["cp", "job.sh", f":{files}/there/copy"],
            ["cp", f":{files}/there/text", "text"],
            ["cp", "-r", f":{files}/there", "all"],
            ["cancel", "1"],
            ["doctor"],
        ):
            ends[command[0]] = cli.run(command)
        starts.is_on = False
    assert {name: code for name, code in ends.items() if code and name != "cancel"} == {}  # it has ended
    assert any("posix_spawn" in each for each in starts.seen), "no job was started in this process"
    assert [each for each in starts.seen if secret in each or MARK in each] == []
