"""The SSH host against a real sshd with its default limits: commands, users, outages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncssh
import pytest

from crestline.gateway.hosts.ssh import SshHost
from crestline.model import ConfigError, GatewayUnavailableError, PermissionDeniedError, UnsupportedError
from crestline.wire.status import SshTimeouts
from harness.cluster import Cluster
from harness.ssh import PATIENT, ssh_host
from harness.waiting import until, until_answered

pytestmark = pytest.mark.anyio

SHORT = SshTimeouts(connection=3, login=3, command_execution=3, keep_alive=2)
LONG = 60.0
"""seconds for a command that works"""


@pytest.fixture(scope="module")
async def host(cluster: Cluster) -> AsyncIterator[SshHost]:
    async with ssh_host(cluster) as running:
        yield running


async def test_arguments_arrive_as_they_are(host: SshHost) -> None:
    nasty = [
        "",
        " ",
        "a b",
        "'",
        '"',
        "$HOME",
        "`id`",
        "$(id)",
        ";",
        "|",
        "\n",
        "*",
        "~",
        "-n",
        "\\",
        "!x",
        "名",
        "\udcff",
    ]
    result = await host.run("alice", ["printf", r"%s\0", *nasty], timeout=LONG)
    assert result.stdout == b"".join(each.encode("utf-8", "surrogateescape") + b"\0" for each in nasty)


async def test_everything_that_a_command_has(host: SshHost) -> None:
    result = await host.run(
        "alice",
        ["sh", "-c", 'cat; pwd; echo "$ONE"; echo oops >&2; exit 3'],
        input=b"\0\xff",
        env={"ONE": "a,b 'c'"},
        cwd="/scratch",
        timeout=LONG,
    )
    assert (result.exit_status, result.stdout, result.stderr) == (3, b"\0\xff/scratch\na,b 'c'\n", b"oops\n")
    assert (await host.run("alice", ["cat"], timeout=LONG)).stdout == b""
    assert (await host.run("alice", ["sh", "-c", "kill -9 $$"], timeout=LONG)).exit_status == 128 + 9
    assert (await host.run("alice", ["no-such-program"], timeout=LONG)).exit_status == 127
    large = b"x" * 3_000_000
    echoed = await host.run("alice", ["cat"], input=large, timeout=LONG, max_output=len(large))
    assert echoed.stdout == large


async def test_users_are_themselves(host: SshHost, cluster: Cluster) -> None:
    for user in ("alice", "bob"):
        info = await host.user_info(user)
        assert info.user.name == user
        assert info.user.id == cluster.check(user, ["id", "-u"]).strip()
        assert [each.name for each in info.groups if each.default] == [user]
    path = "/scratch/for-alice-alone"
    await host.files("alice").write(path, _once(b"secret"))
    await host.files("alice").chmod(path, "600")
    for call in (
        host.files("bob").open(path),
        host.files("bob").checksum(path),
        host.files("bob").write(path, _once(b"mine")),
        host.files("bob").remove(path),
        host.files("bob").chmod(path, "666"),
    ):
        with pytest.raises(PermissionDeniedError):
            await call
    assert cluster.check("root", ["cat", path]) == "secret"


@pytest.mark.parametrize("user", ["nobody-here", "../alice", "alice/../bob", "", "-oProxyCommand=x", "a b", ".."])
async def test_a_user_without_a_key_is_denied(host: SshHost, user: str) -> None:
    with pytest.raises(PermissionDeniedError):
        await host.run(user, ["true"], timeout=LONG)


async def test_many_commands_at_once_respect_the_servers_limit(cluster: Cluster) -> None:
    async with ssh_host(cluster, queue=240) as host:
        results = await asyncio.gather(
            *(host.run("user06", ["sh", "-c", f"sleep 0.3; echo {number}"], timeout=LONG) for number in range(64))
        )
        assert [int(each.stdout) for each in results] == list(range(64))
        counted = await host.run("user06", ["pgrep", "-c", "-u", "user06", "sshd"], timeout=LONG)
        assert int(counted.stdout) <= 4


async def test_a_server_that_takes_fewer_sessions_than_we_think(cluster: Cluster) -> None:
    async with ssh_host(cluster, max_sessions=30, max_connections=1, queue=240) as host:
        results = await asyncio.gather(*(host.run("bob", ["sleep", "0.3"], timeout=LONG) for _ in range(40)))
        assert {each.exit_status for each in results} == {0}


async def test_who_waits_is_served_in_order(cluster: Cluster) -> None:
    async with ssh_host(cluster, max_sessions=2, max_connections=1, queue=240) as host:
        done: list[int] = []

        async def one(number: int) -> None:
            await host.run("alice", ["true"], timeout=LONG)
            done.append(number)

        await asyncio.gather(*(one(number) for number in range(12)))
        assert done == list(range(12))
        holding = asyncio.ensure_future(host.run("alice", ["sleep", "30"], timeout=LONG))
        waiting = asyncio.ensure_future(host.run("alice", ["true"], timeout=LONG))
        await asyncio.sleep(0)
        waiting.cancel()
        holding.cancel()
        assert (await host.run("alice", ["echo", "free"], timeout=LONG)).stdout == b"free\n"


async def test_a_queue_that_is_too_long_says_so(cluster: Cluster) -> None:
    async with ssh_host(cluster, max_sessions=2, max_connections=1, queue=0.5) as host:
        await host.run("alice", ["true"], timeout=LONG)
        holding = asyncio.ensure_future(host.run("alice", ["sleep", "60"], timeout=LONG))
        await asyncio.sleep(0)
        with pytest.raises(GatewayUnavailableError, match="busy") as refused:
            await host.run("alice", ["true"], timeout=LONG)
        assert refused.value.retry_after
        holding.cancel()


async def test_a_command_that_is_given_up_does_not_go_on(host: SshHost, cluster: Cluster) -> None:
    with pytest.raises(GatewayUnavailableError, match="no answer in time"):
        await host.run("alice", ["sleep", "98765"], timeout=0.5)
    await until(lambda: cluster.exec("root", ["pgrep", "-f", "sleep 98765"]).exit_status == 1)


async def test_a_program_that_is_not_installed_is_unsupported(host: SshHost, cluster: Cluster) -> None:
    cluster.check("root", ["mv", "/usr/bin/file", "/usr/bin/file.away"])
    try:
        with pytest.raises(UnsupportedError, match="not found"):
            await host.files("alice").file_type("/scratch")
    finally:
        cluster.check("root", ["mv", "/usr/bin/file.away", "/usr/bin/file"])


async def test_another_host_key_is_refused(cluster: Cluster) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    for known_hosts in (f"[{cluster.host}]:{cluster.port} {other}", "", "# nothing\n"):
        async with ssh_host(cluster, known_hosts=known_hosts) as host:
            with pytest.raises(GatewayUnavailableError, match="host key"):
                await host.run("alice", ["true"], timeout=LONG)


async def test_known_hosts_that_cannot_be_read(cluster: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    async with ssh_host(cluster, known_hosts=str(file)) as host:
        with pytest.raises(ConfigError, match="known_hosts"):
            await host.run("alice", ["true"], timeout=LONG)
        file.write_text(cluster.known_hosts)  # read at every login
        assert (await host.run("alice", ["true"], timeout=LONG)).exit_status == 0


async def test_connections_of_all_users_are_limited(cluster: Cluster) -> None:
    async with ssh_host(cluster, max_clients=2) as host:
        for user in ("alice", "bob", "user01", "user02"):  # idle ones make room
            assert (await host.run(user, ["id", "-un"], timeout=LONG)).stdout.decode().strip() == user
        holding = [
            asyncio.ensure_future(host.run(user, ["sleep", "60"], timeout=LONG)) for user in ("user03", "user04")
        ]
        for user in ("user03", "user04"):
            await until(lambda user=user: cluster.exec("root", ["pgrep", "-u", user, "sleep"]).exit_status == 0)
        with pytest.raises(GatewayUnavailableError, match="in use"):
            await host.run("user05", ["true"], timeout=LONG)
        for each in holding:
            each.cancel()


async def test_sshd_stopped_and_connections_cut(cluster: Cluster) -> None:
    async with ssh_host(cluster) as host:
        await host.run("alice", ["true"], timeout=LONG)
        running = asyncio.ensure_future(host.run("alice", ["sleep", "500"], timeout=600))
        await until(lambda: cluster.exec("root", ["pgrep", "-f", "sleep 500"]).exit_status == 0)
        cluster.stop("sshd")
        try:
            assert (await host.run("alice", ["true"], timeout=LONG)).exit_status == 0  # sessions go on
            cluster.cut_connections()
            with pytest.raises(GatewayUnavailableError, match="connection was lost"):
                await running
            for _ in range(3):
                with pytest.raises(GatewayUnavailableError, match="cannot be reached") as refused:
                    await host.run("alice", ["true"], timeout=LONG)
                assert refused.value.retry_after
            with pytest.raises(GatewayUnavailableError):
                await host.ping()
            with pytest.raises(GatewayUnavailableError):
                await host.files("alice").open("/scratch/any")
            before = time.process_time()
            refusals = await asyncio.gather(
                *(host.run(f"user{number:02}", ["true"], timeout=LONG) for number in range(1, 31)),
                return_exceptions=True,
            )
            assert all(isinstance(each, GatewayUnavailableError) for each in refusals)
            assert time.process_time() - before < 10  # no caller retries in vain
        finally:
            cluster.start("sshd")
        await _recovers(host)
        await host.ping()


async def test_a_machine_that_hangs(cluster: Cluster) -> None:
    async with ssh_host(cluster, timeout=SHORT) as host:
        await host.run("alice", ["true"], timeout=LONG)
        cluster.freeze()
        try:
            # The connection is there and nothing answers; then the keep-alive finds out, and no login comes through.
            for _ in range(3):
                async with asyncio.timeout(30):
                    with pytest.raises(GatewayUnavailableError):
                        await host.run("alice", ["true"], timeout=3)
            async with asyncio.timeout(30):
                with pytest.raises(GatewayUnavailableError):
                    await host.ping()
        finally:
            cluster.thaw()
        await _recovers(host)


async def test_a_host_that_is_not_there(cluster: Cluster) -> None:
    async with ssh_host(cluster, port=1, timeout=PATIENT) as host:
        with pytest.raises(GatewayUnavailableError, match="Connection refused"):
            await host.run("alice", ["true"], timeout=LONG)
        with pytest.raises(GatewayUnavailableError):
            await host.ping()


async def test_ping_of_machine_and_paths(cluster: Cluster) -> None:
    async with ssh_host(cluster) as host:
        await host.ping()
        await host.ping_path("/scratch")
    async with ssh_host(cluster, observer="observer") as host:
        await host.ping()
        await host.ping_path("/scratch")
        with pytest.raises(GatewayUnavailableError, match="No such file"):
            await host.ping_path("/not-mounted")


async def test_idle_connections_are_closed(cluster: Cluster) -> None:
    timeouts = SshTimeouts(connection=20, login=20, command_execution=60, keep_alive=30, idle_timeout=0)
    async with ssh_host(cluster, timeout=timeouts) as host:
        await host.run("user09", ["true"], timeout=LONG)
        await until(lambda: cluster.exec("root", ["pgrep", "-u", "user09"]).exit_status == 1)
        assert (await host.run("user09", ["true"], timeout=LONG)).exit_status == 0


async def _recovers(host: SshHost) -> None:
    """Answers again within a few tries."""
    await until_answered(lambda: host.run("alice", ["true"], timeout=20), GatewayUnavailableError)


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
