"""JupyterLab itself tells that the session's time limit is near."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx

from crestline_jupyterhub.session import notice
from harness.parts import require
from harness.ports import free_port

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


def test_the_schedulers_word_comes_before_the_limit() -> None:
    assert notice.session_end(60, {"SLURM_JOB_END_TIME": "1800000000"}) == 1800000000
    assert notice.session_end(None, {}) is None


def test_jupyterlab_shows_the_notice(tmp_path: Path) -> None:
    from playwright.sync_api import expect, sync_playwright

    require(CHROMIUM is not None, "there is no browser: install chromium")
    more = notice.write(tmp_path / "session", time.time() + 300, ahead=600)
    port = free_port()
    environment = os.environ | more | {"HOME": str(tmp_path), "JUPYTER_CONFIG_DIR": str(tmp_path / "config")}
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", f"--port={port}"]
    command += ["--IdentityProvider.token=", f"--ServerApp.root_dir={tmp_path}"]
    with (tmp_path / "lab.log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=tmp_path)
    try:
        _wait_until_up(port, server)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = browser.new_page()
            page.goto(f"http://127.0.0.1:{port}/lab", timeout=120_000)
            expect(page.get_by_text("its job reaches its time limit").first).to_be_visible(timeout=120_000)
            browser.close()
    finally:
        server.terminate()
        server.wait(60)


def _wait_until_up(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert server.poll() is None, "the server ended"
        try:
            if httpx.get(f"http://127.0.0.1:{port}/api", trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise TimeoutError("no server")
