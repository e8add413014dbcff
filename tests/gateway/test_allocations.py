"""Budgets of accounts: what sshare says, and how it reaches the client, the command and the choice of a site."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crestline.client import Capability, choose_system, connect, register_site
from crestline.client.federation.probe import budget_left
from crestline.gateway.hosts import Completed
from crestline.gateway.schedulers.local.scheduler import LocalScheduler
from crestline.gateway.schedulers.slurm.allocations import read_allocations
from crestline.gateway.schedulers.slurm.commands import SlurmCommands
from crestline.gateway.schedulers.slurm.options import SlurmOptions
from crestline.model import Allocation, GatewayUnavailableError, JobSpec, NoEligibleSiteError, UnsupportedError
from crestline.wire.extensions import AllocationInfo
from harness.cluster import Cluster
from harness.command import Command
from harness.gateway import RunningGateway, in_thread
from harness.scripted_commands import ScriptedCommands, succeeded
from harness.sites import gateway_site
from harness.slurm_gateway import SlurmGateway

pytestmark = pytest.mark.anyio

SHARES = b"""\
root|||cpu=900,mem=0,energy=0,node=0,billing=0
 proj||cpu=60000,gres/gpu=600,node=N|cpu=15000,mem=7,energy=0,node=2,billing=15000,gres/gpu=900
  proj|alice|billing=120|cpu=1,billing=30
  proj|bob|billing=120|cpu=1,billing=30
 other|||cpu=90,mem=0
"""


ACCOUNTS = succeeded(b"proj|other\nproj|proj\n")


async def ask(**answers: Completed) -> list[AllocationInfo]:
    return await read_allocations(SlurmCommands(ScriptedCommands(answers), SlurmOptions()), "alice")


async def test_slurm_tells_budgets_in_hours() -> None:
    found = await ask(sacctmgr=ACCOUNTS, sshare=succeeded(SHARES))
    assert found == [
        AllocationInfo(account="proj", unit="cpu-hours", budget=1000, used=250),
        AllocationInfo(account="proj", unit="gres/gpu-hours", budget=10, used=15),
        AllocationInfo(account="proj", unit="billing-hours", budget=2, used=0.5, user="alice"),
        AllocationInfo(account="other", unit="cpu-hours", used=1.5),
    ]


async def test_slurm_is_asked_for_the_accounts_of_the_user_alone() -> None:
    commands = ScriptedCommands({"sacctmgr": ACCOUNTS, "sshare": succeeded(SHARES)})
    await read_allocations(SlurmCommands(commands, SlurmOptions()), "alice")
    assert {"--accounts=other,proj", "--users=alice"} <= set(commands.argvs[-1])


async def test_a_slurm_without_accounts_or_usage_does_not_tell() -> None:
    with pytest.raises(UnsupportedError, match="no account of yours"):
        await ask(sacctmgr=succeeded(b""))
    basic = b"You are not running a supported priority plugin\n(priority/basic).\n"
    with pytest.raises(UnsupportedError, match="keeps no usage"):
        await ask(sacctmgr=ACCOUNTS, sshare=Completed(1, b"", basic))


async def test_an_outage_is_not_taken_for_silence() -> None:
    with pytest.raises(GatewayUnavailableError):
        await ask(sacctmgr=ACCOUNTS, sshare=Completed(1, b"", b"sshare: error: Unable to contact slurm controller"))


def test_what_is_left() -> None:
    assert Allocation(account="a", unit="u", budget=2, used=3).left == 0
    assert Allocation(account="a", unit="u", budget=2, used=0.5).left == 1.5
    assert Allocation(account="a", unit="u", used=3).left is None
    assert Allocation(account="a", unit="u", budget=3).left is None


@pytest.mark.parametrize(
    ("account", "share"),
    [("used-up", 0.0), ("half", 0.5), ("scarce", 0.1), ("free", 1.0), ("unknown", 1.0), (None, 1.0)],
)
def test_the_scarcest_budget_of_an_account_counts(account: str | None, share: float) -> None:
    def of(name: str, budget: float | None, used: float) -> Allocation:
        return Allocation(account=name, unit="cpu-hours", budget=budget, used=used)

    found = [of("used-up", 0, 0), of("half", 10, 5), of("scarce", 10, 9), of("scarce", 10, 0), of("free", None, 9)]
    assert budget_left(found, account) == pytest.approx(share)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with in_thread(tmp_path_factory.mktemp("allocations") / "home") as gateway:
        yield gateway


def register(gateway: RunningGateway, **more: Any) -> None:
    values = {"url": gateway.url, "token_url": gateway.token_url, "system": gateway.system}
    register_site("here", **values, client_id=gateway.client[0], client_secret=gateway.client[1], **more)


async def test_a_scheduler_that_does_not_tell(gateway: RunningGateway) -> None:
    register(gateway)
    async with connect("here") as system:
        assert Capability.ALLOCATIONS in system.capabilities
        with pytest.raises(UnsupportedError, match="does not report budgets"):
            await system.allocations()
    assert (await choose_system(JobSpec(script="#!/bin/sh\n"))).target == "local@here"


@pytest.fixture
def budgets(monkeypatch: pytest.MonkeyPatch) -> None:
    async def tell(scheduler: LocalScheduler, user: str) -> list[AllocationInfo]:
        return [
            AllocationInfo(account="gone", unit="node-hours", budget=10, used=12.5),
            AllocationInfo(account="rich", unit="node-hours", budget=1000, used=250.25),
            AllocationInfo(account="rich", unit="cpu-hours", used=9, user=user),
        ]

    monkeypatch.setattr(LocalScheduler, "allocations", tell)


async def test_a_site_where_the_account_is_used_up_is_not_chosen(gateway: RunningGateway, budgets: None) -> None:
    register(gateway)
    assert (await choose_system(JobSpec(script="#!/bin/sh\n"))).target == "local@here"
    assert (await choose_system(JobSpec(script="#!/bin/sh\n#SBATCH -A rich\n"))).target == "local@here"
    with pytest.raises(NoEligibleSiteError, match="account 'gone' has no budget left"):
        await choose_system(JobSpec(script="#!/bin/sh\n#SBATCH -A gone\n"))
    register(gateway, account="gone")
    with pytest.raises(NoEligibleSiteError, match="account 'gone' has no budget left"):
        await choose_system(JobSpec(script="#!/bin/sh\n"))


async def test_the_command(gateway: RunningGateway, budgets: None, tmp_path: Path) -> None:
    command = Command(tmp_path)
    register_site(
        "here", file=command.sites_file, url=gateway.url, token_url=gateway.token_url, system=gateway.system,
        client_id=gateway.client[0], client_secret=gateway.client[1],
    )  # fmt: skip
    lines = command("allocations").stdout.decode().splitlines()
    assert [line.split() for line in lines[:3]] == [
        ["ACCOUNT", "USER", "UNIT", "BUDGET", "USED", "LEFT"],
        ["gone", "node-hours", "10", "12.5", "0"],
        ["rich", "node-hours", "1000", "250.25", "749.75"],
    ]
    assert json.loads(command("allocations", "--json").stdout)[1] == {
        "account": "rich", "unit": "node-hours", "budget": 1000, "used": 250.25, "user": None, "left": 749.75,
    }  # fmt: skip


async def test_real_slurm_tells_a_budget(slurm_gateway: SlurmGateway, cluster: Cluster) -> None:
    client_id, secret = slurm_gateway.client_of("alice")
    account = ["sacctmgr", "-i", "modify", "account", "where", "name=other", "set"]
    cluster.check("root", [*account, "GrpTRESMins=cpu=6000"])
    try:
        async with connect(gateway_site(slurm_gateway, client_id=client_id, client_secret=secret)) as system:
            found = {(each.account, each.unit): each for each in await system.allocations()}
    finally:
        cluster.check("root", [*account, "GrpTRESMins=cpu=-1"])
    other, proj = found["other", "cpu-hours"], found["proj", "cpu-hours"]
    assert (other.budget, other.user, other.left) == (100, None, 100 - (other.used or 0))
    assert proj.budget is None
    assert proj.used is not None
