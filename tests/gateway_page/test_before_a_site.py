"""`crestline page` in a browser: the same page before a plain FirecREST."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from crestline.cli.page.server import PageServer
from crestline.client import register_site
from crestline.testing.firecrest import running
from harness.gateway_page import go, state, submit

if TYPE_CHECKING:
    from playwright.sync_api import Page


def test_a_link_a_job_its_log_and_the_end(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRESTLINE_SITES", str(tmp_path / "sites.toml"))
    with running(tmp_path) as site:
        credentials = {"client_id": site.client_id, "client_secret": site.client_secret}
        register_site("there", url=site.url, token_url=site.token_url, system=site.system, **credentials)
        server = PageServer("there", 0)
        thread = threading.Thread(target=server.run_forever, daemon=True)
        thread.start()
        try:
            page.goto(f"{server.url}/#/sign-in/{server.session._code}")
            page.get_by_role("button", name="Sign out").wait_for()
            go(page, "Submit")
            submit(page, "#!/bin/bash\n#SBATCH --time=00:05:00\necho from a browser\n")
            state(page, "COMPLETED").first.wait_for()
            page.get_by_label("Output: ").filter(has_text="from a browser").wait_for()
            go(page, "Files")
            page.get_by_role("heading", name=f"Files on {site.system}").wait_for()
            page.get_by_role("link", name="slurm-1.out").wait_for()
            page.get_by_role("button", name="Sign out").click()
            page.get_by_role("heading", name="Sign in").first.wait_for()
        finally:
            server.should_exit = True
            thread.join(30)
