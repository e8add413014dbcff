"""Budgets of the user's accounts on the page."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING

import pytest

from crestline.gateway.schedulers.local.scheduler import LocalScheduler
from crestline.wire.extensions import AllocationInfo
from harness.gateway import RunningGateway
from harness.gateway_page import sign_in

if TYPE_CHECKING:
    from playwright.sync_api import Page


def test_what_is_left_of_each_account(page: Page, gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    async def told(self: LocalScheduler, user: str) -> list[AllocationInfo]:
        return [
            AllocationInfo(account="<b>proj", unit="cpu-hours", budget=1000.0, used=250.5),
            AllocationInfo(account="proj", unit="gpu-hours", budget=10.0, used=12.0, user=user),
            AllocationInfo(account="empty", unit="cpu-hours", budget=0.0),
            AllocationInfo(account="free", unit="cpu-hours", used=7.0),
        ]

    monkeypatch.setattr(LocalScheduler, "allocations", told)
    sign_in(page, gateway, "#/")
    table = page.get_by_role("table", name=f"Allocations on {gateway.system}")
    table.wait_for()
    _, *rows = [row.inner_text().split("\t") for row in table.get_by_role("row").all()]
    assert [row[0] for row in rows] == ["<b>proj", f"proj ({getpass.getuser()})", "empty", "free"]
    assert [row[2:] for row in rows] == [
        ["1,000", "250.5", "749.5 (74 %)"],
        ["10", "12", "0 (0 %)"],
        ["0", "\N{EN DASH}", "0"],
        ["no limit", "7", "\N{EN DASH}"],
    ]


def test_a_scheduler_that_does_not_tell_shows_none(page: Page, gateway: RunningGateway) -> None:
    with page.expect_response("**/allocations"):
        sign_in(page, gateway, "#/")
    page.get_by_role("table", name=f"Partitions of {gateway.system}").wait_for()
    assert page.get_by_role("table", name=f"Allocations on {gateway.system}").count() == 0
    assert page.locator("[role=alert]").count() == 0
