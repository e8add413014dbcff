"""Large files and lists over SSH: bounded memory, and other requests are not delayed."""

from __future__ import annotations

import asyncio
import hashlib
import os
import resource
from collections.abc import AsyncIterator

import pytest

from crestline.gateway.hosts.ssh import SshHost
from harness.cluster import Cluster
from harness.ssh import ssh_host
from harness.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(900)]

MIB = 1024 * 1024


@pytest.fixture(scope="module")
async def host(cluster: Cluster) -> AsyncIterator[SshHost]:
    async with ssh_host(cluster, stall=120) as running:
        yield running


@pytest.mark.parametrize("size", [200, pytest.param(5 * 1024, marks=pytest.mark.soak)])
async def test_a_large_file_needs_little_memory(host: SshHost, cluster: Cluster, size: int) -> None:
    files = host.files("alice")
    block = os.urandom(MIB)
    sent = hashlib.sha256()

    async def content() -> AsyncIterator[bytes]:
        for number in range(size):
            part = number.to_bytes(8, "big") + block[8:]
            sent.update(part)
            yield part

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    await files.write("/scratch/large", content())
    received = hashlib.sha256()
    async for chunk in files.read("/scratch/large"):
        received.update(chunk)
    assert received.hexdigest() == sent.hexdigest()
    assert (await files.checksum("/scratch/large")).checksum == sent.hexdigest()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * 1024 < 100 * MIB
    cluster.check("root", ["rm", "/scratch/large"])


async def test_a_reader_that_leaves_lets_go(host: SshHost, cluster: Cluster) -> None:
    def archivers() -> set[str]:
        return set(str(cluster.exec("root", ["pgrep", "-x", "tar"]).stdout).split())

    of_others = archivers()
    cluster.check("alice", ["truncate", "-s", "1G", "/scratch/sparse"])
    for _ in range(20):
        stream = host.files("alice").read("/scratch/sparse")
        async for _chunk in stream:
            break
        await stream.aclose()  # type: ignore[attr-defined]
        packed = host.files("alice").tar("/scratch", ["sparse"])
        async for _chunk in packed:
            break
        await packed.aclose()  # type: ignore[attr-defined]
    assert (await host.run("alice", ["echo", "free"], timeout=60)).stdout == b"free\n"
    await until(lambda: archivers() <= of_others)


async def test_a_hundred_thousand_entries_do_not_delay_others(host: SshHost, cluster: Cluster) -> None:
    cluster.check("alice", ["mkdir", "/scratch/many"])
    cluster.check("alice", ["sh", "-c", "cd /scratch/many && seq -f 'entry-%06.0f' 1 100000 | xargs touch"])
    beats = 0

    async def heartbeat() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0.001)
            beats += 1

    beating = asyncio.ensure_future(heartbeat())
    entries = await host.files("alice").list("/scratch/many")
    beating.cancel()
    assert [each.name for each in entries] == [f"entry-{number:06}" for number in range(1, 100_001)]
    assert beats > 50, "the listing was read in too few steps: others had to wait"
