"""The page in front of real Slurm, as one of its users."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from harness.browser import Browser, chromium
from harness.gateway_page import log, sign_in, state, submit
from harness.slurm_gateway import SlurmGateway

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.fixture(scope="module")
def browser(slurm_gateway: SlurmGateway) -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


def test_a_user_submits_follows_and_cancels(page: Page, slurm_gateway: SlurmGateway) -> None:
    sign_in(page, slurm_gateway, "#/", slurm_gateway.client_of("alice"))
    page.get_by_role("table", name="Partitions of cluster").wait_for()
    page.goto(f"{slurm_gateway.url}/#/submit/cluster")
    partition = page.get_by_label("Partition").locator("option").nth(1)
    partition.wait_for(state="attached")
    page.get_by_label("Partition").select_option(value=partition.get_attribute("value"))
    script = (
        "#!/bin/bash\n#SBATCH --time=00:30:00\necho as $USER; squeue -h -j $SLURM_JOB_ID -o 'limit %l'\nsleep 600\n"
    )
    job = submit(page, script, name="page", time_limit="00:07:00", nodes="1")
    state(page, "RUNNING").wait_for()
    log(page, "as alice").wait_for()
    log(page, "limit 7:00").wait_for()  # the form wins over the script
    page.get_by_role("button", name=f"Cancel job {job}").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the job").click()
    state(page, "CANCELLED").wait_for()
    page.goto(f"{slurm_gateway.url}/#/jobs/cluster")
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name=job, exact=True))
    state(row, "CANCELLED").wait_for()
    page.goto(f"{slurm_gateway.url}/#/files/cluster/home/alice")
    page.get_by_role("link", name=f"slurm-{job}.out").wait_for()
