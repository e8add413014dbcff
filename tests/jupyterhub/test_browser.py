"""A user's way in a browser: log in, choose, wait, run a cell, stop.

`SCREENSHOTS=docs/images pytest tests/jupyterhub/test_browser.py` writes the documentation's pictures.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from harness.browser import chromium, picture
from harness.hub import PASSWORD, Hub

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.fixture
def page() -> Iterator[Page]:
    with chromium() as browser, browser.page(viewport={"width": 1100, "height": 900}) as page:
        page.set_default_timeout(120_000)
        yield page


def test_a_user_logs_in_chooses_computes_and_stops(example_hub: Hub, page: Page) -> None:
    page.goto(f"{example_hub.url}/hub/spawn")
    page.get_by_label("Username").fill("wanda")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()

    page.get_by_label("Nodes").fill("1")
    page.get_by_label("Duration (hours)").fill("2")
    page.get_by_label("Queue").select_option(index=1)
    page.get_by_role("radiogroup", name="Start a distributed Dask cluster?").get_by_label("Yes").check()
    picture(page, "jupyterhub-form")
    page.get_by_role("button", name="Start").click()
    page.wait_for_url("**/hub/spawn-pending/**")
    page.get_by_text("Event log").click()
    page.get_by_text("the server is starting").first.wait_for()
    picture(page, "jupyterhub-starting")

    page.wait_for_url("**/user/wanda/lab**")
    page.locator(".jp-LauncherCard[data-category='Notebook']").first.click()
    cell = page.locator(".jp-Notebook .jp-CodeCell .cm-content").first
    cell.click()
    page.keyboard.insert_text(
        "import os\n"
        "from dask.distributed import Client\n"
        'client = Client(scheduler_file=os.environ["DASK_SCHEDULER_FILE"])\n'
        "squares = client.map(lambda n: n * n, range(1000))\n"
        'print("sum of squares:", client.submit(sum, squares).result())'
    )
    page.locator(".jp-Notebook .jp-CodeCell", has_text="sum of squares").wait_for()
    # The notebook's own indicator says idle while there is no kernel yet, and JupyterLab drops what is run then.
    page.locator("#jp-main-statusbar").get_by_text("Python 3 (ipykernel) | Idle").wait_for()
    page.keyboard.press("Shift+Enter")
    output = page.locator(".jp-Notebook .jp-OutputArea-output").first
    output.wait_for()
    assert output.inner_text().strip() == "sum of squares: 332833500"
    picture(page, "jupyterhub-notebook")

    page.goto(f"{example_hub.url}/hub/home")
    page.locator("#stop").click()
    page.locator("#start", has_text="Start My Server").wait_for()
    server = example_hub.server("wanda")
    assert server is None or not server["ready"]
