"""Decides at which addresses a session can listen, so that no job leads the hub's proxy to another machine."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from urllib.parse import urlsplit

from crestline.client import System
from crestline.model import UnsupportedError, hostlist

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
"""Networks that are trusted by default."""
METADATA = ("fd00:ec2::/32", "fd20:ce::/64")
"""Networks in them in which clouds show a machine its secrets. The others are link-local."""
RESOLVE_TIMEOUT = 10.0
MAX_NODES = 64
"""Maximum number of a job's nodes that are resolved."""
SHOWN_NODES = 3


async def is_trusted(
    host: str, networks: Collection[str], hub_url: str, job_nodes: Callable[[], Awaitable[str]]
) -> bool:
    """Whether a session may listen at this address.

    Args:
        host: IP address.
        networks: the site's networks; empty: trust private networks and the nodes of the job.
        hub_url: URL of the hub's API.
        job_nodes: returns the hostlist of the session's job.

    Raises:
        CrestlineError: the scheduler does not report where the job runs.
    """
    if "%" in host:  # the zone is an interface of the node, not of the hub
        return False
    if networks:
        return is_configured(host, networks)
    if not await is_possible(host, hub_url):
        return False
    return is_private(host) or str(_plain(host)) in await resolve(names_of(await job_nodes(), MAX_NODES))


def is_configured(host: str, networks: Iterable[str]) -> bool:
    """Whether an address is in one of the site's networks."""
    address = _plain(host)
    return any(address in ipaddress.ip_network(network) for network in networks)


async def is_possible(host: str, hub_url: str) -> bool:
    """Whether a node can have this address: it is neither the hub's own nor reserved.

    Args:
        host: IP address.
        hub_url: URL of the hub's API.
    """
    address = _plain(host)
    special = address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified
    if special or is_configured(str(address), METADATA) or _is_local_address(address):
        return False
    return str(address) not in await resolve([urlsplit(hub_url).hostname or ""])


def is_private(host: str) -> bool:
    """Whether an address is in a private network."""
    return is_configured(host, PRIVATE)


async def resolve(names: Collection[str]) -> set[str]:
    """Return the addresses of the names. Names without an address are left out."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_TIMEOUT):
            found = await asyncio.gather(
                *(loop.getaddrinfo(name, None, type=socket.SOCK_STREAM) for name in names if name),
                return_exceptions=True,
            )
    except TimeoutError:
        return set()
    return {str(_plain(each[4][0])) for answer in found if isinstance(answer, list) for each in answer}


def names_of(nodes: str, limit: int) -> list[str]:
    """Return the first names of a hostlist."""
    return [name for _, name in zip(range(limit), hostlist.expand(nodes), strict=False)]


def _plain(host: str) -> Address:
    """Return the address without a zone, and an IPv4 address in IPv6 notation as IPv4."""
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _is_local_address(address: Address) -> bool:
    """Whether an interface of this machine has the address, so that a socket can be bound to it."""
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True


async def check_nodes(system: System) -> AsyncIterator[tuple[str, str, str]]:
    """Report to `crestline doctor` which addresses of sessions the spawner trusts if `node_networks` is not set.

    Yields:
        name of the check, result, and what to do.
    """
    nodes: Sequence[str] = []
    with contextlib.suppress(UnsupportedError):  # some APIs do not list nodes
        nodes = [node.name for node in await system.nodes()][:SHOWN_NODES]
    addresses = sorted(await resolve(nodes))
    message = f"Without node_networks, sessions may listen in private networks ({', '.join(PRIVATE)})"
    message += f" and at the addresses of their jobs' nodes ({', '.join(addresses)}, ...)" if addresses else ""
    message += ", but not on the hub's own machine."
    hint = 'Name the nodes\' networks in c.FirecRESTSpawner.node_networks; one machine: ["127.0.0.0/8"].'
    yield "jupyterhub", message, hint
