"""The science page in a browser, as a scientist uses it, on the three backends.

`SCREENSHOTS=docs/images pytest tests/end_to_end/test_science_page.py -k local` writes the documentation's picture.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from crestline.client import Site
from crestline.testing.firecrest import running as plain_running
from harness.browser import Browser, chromium, picture
from harness.gateway import RunningGateway
from harness.ports import free_port
from harness.sites import gateway_site, plain_site
from harness.slurm_gateway import SlurmGateway

APP = Path(__file__).parents[2] / "examples" / "science_page" / "app.py"


@contextmanager
def served(site: Site, place: Path) -> Iterator[str]:
    """The page as its README starts it; yields its URL."""
    port = free_port()
    known = {
        "FIRECREST_URL": site.url,
        "FIRECREST_SYSTEM": site.system or "",
        "AUTH_TOKEN_URL": site.token_url or "",
        "FIRECREST_CLIENT_ID": site.client_id or "",
        "FIRECREST_CLIENT_SECRET": site.client_secret or "",
    }
    with (place / "app.log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, APP, "--port", str(port)], env=os.environ | known, stdout=log, stderr=subprocess.STDOUT
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _until_it_answers(url, process)
        yield url
    finally:
        process.terminate()
        process.wait(60)
    assert str(site.client_secret) not in (place / "app.log").read_text()


def _until_it_answers(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            httpx.get(f"{url}/about", trust_env=False, timeout=30).raise_for_status()
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError("the page was not served")


@pytest.fixture(params=["local", "slurm", "plain"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    if request.param == "local":
        gateway: RunningGateway = request.getfixturevalue("gateway")
        yield gateway_site(gateway)
    elif request.param == "slurm":
        slurm: SlurmGateway = request.getfixturevalue("slurm_gateway")
        client_id, secret = slurm.client_of("alice")
        yield gateway_site(slurm, client_id=client_id, client_secret=secret)
    else:
        with plain_running() as plain:
            yield plain_site(plain)


def test_a_scientist_submits_watches_and_looks(site: Site, tmp_path: Path) -> None:
    with chromium() as browser:
        _use(browser, site, tmp_path)
        assert browser.troubles == []


def _use(browser: Browser, site: Site, tmp_path: Path) -> None:
    with served(site, tmp_path) as url, browser.page() as page:
        page.goto(url)
        page.get_by_text(f"on {site.system}").wait_for()
        page.get_by_label("Steps").fill("400")
        page.get_by_label("Grid points").fill("128")
        page.get_by_role("button", name="Submit").click()
        first = page.locator("tbody tr").first
        first.get_by_text("completed").wait_for()
        page.get_by_text("step 400 of 400").wait_for()
        page.locator("#chosen[data-drawn]").wait_for()
        colours = page.evaluate(
            "() => { const c = document.getElementById('wave');"
            " return new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size; }"
        )
        assert colours > 50  # a picture and no empty field
        points = page.locator("#screen polyline").get_attribute("points")
        assert points is not None
        assert len(points.split()) == 128
        picture(page, "science-page")

        with page.expect_download() as download:
            page.get_by_role("button", name="result.json").click()
        result = json.loads(download.value.path().read_text())
        assert result["cells"] == 128
        brightness = result["screen"]
        middle = brightness[64]
        assert middle > 2 * min(brightness[45:64])  # light, dark, light: the fringes of two slits
        run = first.get_attribute("data-run")

        page.get_by_label("Steps").fill("100000")
        page.get_by_role("button", name="Submit").click()
        page.locator("tbody tr").nth(1).wait_for()
        page.locator("tbody tr").first.get_by_text("running").wait_for()
        page.get_by_role("button", name="Cancel").click()
        page.locator("tbody tr").first.get_by_text("cancelled").wait_for()

        answer = page.request.post(f"{url}/simulations", data={"cells": 100_000})
        assert answer.status == 400
        assert "cells" in answer.text()

    with served(site, tmp_path) as url, browser.page() as page:  # the page has been started anew
        page.goto(url)
        page.locator(f"tr[data-run='{run}']").get_by_text("completed").wait_for()
        assert page.locator("tbody tr").count() >= 2
        page.locator(f"tr[data-run='{run}']").get_by_role("button", name="Show").click()
        page.locator(f"#chosen[data-drawn='{run}']").wait_for()
        assert re.search(r"result\.json \d+ B", page.locator("#files").text_content() or "")
