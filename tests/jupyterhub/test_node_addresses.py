"""Where a session may say that it listens, if the site names no networks."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Sequence
from types import SimpleNamespace

import httpx
import pytest

from crestline.testing.firecrest import PlainFirecrest
from crestline_jupyterhub import callback, node_addresses
from harness.hub import Hub
from harness.hub_settings import HERE, HUB, QUICK, TINY
from harness.hub_site import hub_before_firecrest

HUB_URL = "http://127.0.0.1:8081/hub/api"
OUTSIDE = "198.51.100.7"


def own_address() -> str:
    """The address of this machine's default route; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((OUTSIDE, 9))
        return str(probe.getsockname()[0])


NEVER = ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", "169.254.169.254", "fe80::1", "224.0.0.1", "ff02::1"]
NEVER += ["0.0.0.0", "::", "fd00:ec2::254", own_address(), f"::ffff:{own_address()}", "::ffff:169.254.169.254"]
NEVER += [
    "fd00:ec2::23",
    "fd20:ce::254",
    "fd00:ec2::254%1",
    "fe80::1%lo",
    "::1%lo",
    "::%1",
    "::ffff:0.0.0.0",
    "255.255.255.255",
]


@pytest.mark.anyio
@pytest.mark.parametrize("host", NEVER)
async def test_addresses_of_the_hub_and_of_special_use_belong_to_no_node(host: str) -> None:
    assert not await node_addresses.is_possible(host, HUB_URL)


@pytest.mark.anyio
async def test_address_that_the_hubs_name_has_belongs_to_no_node(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(names: list[str]) -> set[str]:
        return {"10.11.12.13"} if names == ["hub.example.org"] else set()

    monkeypatch.setattr(node_addresses, "resolve", resolve)
    assert not await node_addresses.is_possible("10.11.12.13", "https://hub.example.org/hub/api")
    assert await node_addresses.is_possible("10.11.12.14", "https://hub.example.org/hub/api")


def test_private_networks_are_believed_and_others_are_not() -> None:
    for host in ("10.1.2.3", "172.31.0.1", "192.168.1.1", "fd12::1", "::ffff:10.1.2.3"):
        assert node_addresses.is_private(host)
    translated = ("64:ff9b::7f00:1", "2002:7f00:1::", "::127.0.0.1", "::ffff:0:127.0.0.1")
    for host in ("8.8.8.8", "100.100.100.200", "172.32.0.1", "2001:db8::1", OUTSIDE, *translated):
        assert not node_addresses.is_private(host)


def test_only_an_address_in_its_usual_form_is_taken() -> None:
    for host in ("2130706433", "0x7f000001", "127.1", "0177.0.0.1", "010.0.0.1", "localhost", "10.0.0.1 ", "::1]"):
        with pytest.raises(ValueError, match="does not appear to be"):
            callback._address(host, 80)


@pytest.mark.anyio
async def test_an_address_with_a_zone_is_no_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nodes() -> str:
        return "nid01"

    for networks in ([], ["fd00::/8", "fe80::/10"]):
        for host in ("fd12::1%1", "fe80::1%eth0"):
            assert not await node_addresses.is_trusted(host, networks, HUB_URL, nodes)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Hub, PlainFirecrest]]:
    settings = HUB + TINY.replace(HERE, "") + QUICK
    assert "node_networks" not in settings
    with hub_before_firecrest(tmp_path_factory.mktemp("hub"), base=settings) as site:
        yield site


def test_session_cannot_lead_the_proxy_to_the_hubs_machine_by_default(site: tuple[Hub, PlainFirecrest]) -> None:
    hub, plain = site
    plain.settings.start_delay = 3600
    hub.spawn("anna")
    hub.wait(lambda: list((plain.home / ".crestline/jupyterhub").glob("*-anna-*/session.json")), "no session")
    (file,) = (plain.home / ".crestline/jupyterhub").glob("*-anna-*/session.json")
    nonce = json.loads(file.read_text())["nonce"]
    hub.wait(lambda: "is job" in hub.log(), "no job")

    def say(host: str) -> int:
        news = {"nonce": nonce, "port": 4711, "host": host}
        return httpx.post(f"{hub.url}/hub/api/crestline/callback", json=news, timeout=60).status_code

    for host in ("127.0.0.1", "::1", "169.254.169.254", own_address(), OUTSIDE):
        assert say(host) == 409
    assert "c.FirecRESTSpawner.node_networks" in hub.log()
    assert say("10.255.0.77") == 204
    for job in plain.jobs():
        plain.scheduler.end(job.id, "CANCELLED")


@pytest.mark.anyio
async def test_doctor_says_which_addresses_are_believed() -> None:
    async def nodes() -> list[SimpleNamespace]:
        return [SimpleNamespace(name="localhost")]

    found = [each async for each in node_addresses.check_nodes(SimpleNamespace(nodes=nodes))]  # type: ignore[arg-type]
    ((name, message, hint),) = found
    assert name == "jupyterhub"
    assert "10.0.0.0/8" in message
    assert "127.0.0.1" in message
    assert '["127.0.0.0/8"]' in hint


@pytest.mark.anyio
async def test_public_address_is_believed_if_a_node_of_the_job_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = {"login": "198.51.100.1", "nid01": "198.51.100.2", "nid02": OUTSIDE, "127.0.0.1": "127.0.0.1"}

    async def resolve(names: list[str]) -> set[str]:
        return {addresses[name] for name in names}

    async def trusted(host: str, nodes: str = "nid[01-02]", networks: Sequence[str] = ()) -> bool:
        async def job_nodes() -> str:
            return nodes

        return await node_addresses.is_trusted(host, networks, HUB_URL, job_nodes)

    monkeypatch.setattr(node_addresses, "resolve", resolve)
    assert await trusted(OUTSIDE)
    assert not await trusted(addresses["login"])
    assert not await trusted("2001:db8::1")
    assert not await trusted(OUTSIDE, nodes="")
    assert await trusted("203.0.113.9", networks=["203.0.113.0/24"])
    assert not await trusted("10.0.0.1", networks=["203.0.113.0/24"])
