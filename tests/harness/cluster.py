"""A real Slurm cluster behind a real sshd, in a container (`tests/cluster`)."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.container_shell import ContainerShell
from harness.parts import require

if TYPE_CHECKING:
    import asyncssh

FOLDER = Path(__file__).parents[1] / "cluster"
USERS = ("alice", "bob", "observer", *(f"user{number:02}" for number in range(1, 31)))
_SSH, _SLURMRESTD = 22, 6820

RELEASES = {"22.05": "bookworm", "24.11": "trixie"}
"""versions of Slurm, and the Debian release that has each"""
on_every_slurm = pytest.mark.parametrize("cluster", list(RELEASES), indirect=True)
"""for tests (or a file's `pytestmark`) that run on each version; the others run on the oldest"""


@dataclass
class Output:
    """What a command in the container left."""

    exit_status: int
    stdout: str
    stderr: str


class Cluster:
    """The running container. Keys lie in `keys`, one file per user (0600)."""

    def __init__(
        self,
        container: Any,
        host: str,
        keys: Path,
        host_public_key: str,
        user_ca: asyncssh.SSHKey,
        slurm_version: str,
        shared: Path,
    ) -> None:
        self.slurm_version = slurm_version
        """`22.05`"""
        self.shared = shared
        """a directory of this machine that the jobs have, too; everybody may write there"""
        self._container = container
        self.shell = ContainerShell(container.get_wrapped_container().id)
        self.host = host
        self.keys = keys
        self.host_public_key = host_public_key
        """`ssh-ed25519 AAAA...`"""
        self.user_ca = user_ca
        """the private key of the authority whose certificates sshd trusts"""

    @property
    def port(self) -> int:
        """Where sshd answers."""
        return int(self._container.get_exposed_port(_SSH))

    @property
    def machine(self) -> str:
        """Address of this machine as seen from the container."""
        container = self._container.get_wrapped_container()
        container.reload()
        networks = container.attrs["NetworkSettings"]["Networks"]
        return str(next(iter(networks.values()))["Gateway"])

    @property
    def slurmrestd_url(self) -> str:
        return f"http://{self.host}:{self._container.get_exposed_port(_SLURMRESTD)}"

    @property
    def known_hosts(self) -> str:
        """A line for a known_hosts file."""
        return f"[{self.host}]:{self.port} {self.host_public_key}\n"

    def key(self, user: str) -> Path:
        """The file of a user's private key."""
        return self.keys / user

    def exec(
        self, user: str, argv: Sequence[str], *, cwd: str | None = None, env: dict[str, str] | None = None
    ) -> Output:
        """Run a command in the container, past sshd."""
        ended = self.shell.start(user, argv, cwd=cwd, env=env).result()
        return Output(ended.exit_status, ended.stdout.decode(), ended.stderr.decode())

    def check(self, user: str, argv: Sequence[str], **options: Any) -> str:
        """As `exec`, for a command that must succeed; returns its stdout."""
        result = self.exec(user, argv, **options)
        assert result.exit_status == 0, f"{list(argv)} in the cluster: {result}"
        return result.stdout

    def put(self, directory: str, archive: bytes) -> None:
        """Unpack a tar archive in a directory of the container."""
        assert self._container.get_wrapped_container().put_archive(directory, archive)

    def share_python(self) -> None:
        """Let every user run the Python and the packages of these tests, at the paths that they have here."""
        self.check("root", ["chmod", "a+x", *map(str, Path(sys.base_prefix).parents)])

    def jwt(self, user: str, lifespan: int = 3600) -> str:
        """A token for slurmrestd (`X-SLURM-USER-TOKEN`)."""
        out = self.check("root", ["scontrol", "token", f"username={user}", f"lifespan={lifespan}"])
        return out.strip().removeprefix("SLURM_JWT=")

    def stop(self, part: str) -> None:
        """End a part: `slurmctld`, `slurmdbd`, `slurmd:n01`, `slurmrestd`, `mariadbd`, `munged`, `sshd`.

        The sessions that sshd has opened go on.
        """
        self._supervise("stop", part)

    def start(self, part: str) -> None:
        """Start a part again, and wait until it answers."""
        self._supervise("start", part)
        self._await(part)

    def pause(self, part: str = "slurmctld") -> None:
        """Freeze a part: it keeps its connections and answers nothing."""
        self._supervise("signal", "STOP", part)

    def resume(self, part: str = "slurmctld") -> None:
        """Let a paused part go on."""
        self._supervise("signal", "CONT", part)

    @contextmanager
    def stopped(self, part: str) -> Iterator[None]:
        """Stop a part, and start it again afterwards."""
        self.stop(part)
        try:
            yield
        finally:
            self.start(part)

    @contextmanager
    def paused(self, part: str = "slurmctld") -> Iterator[None]:
        """Freeze a part, and let it go on afterwards."""
        self.pause(part)
        try:
            yield
        finally:
            self.resume(part)

    def cut_connections(self) -> None:
        """End every SSH session, without any farewell."""
        self.exec("root", ["pkill", "-KILL", "-f", r"^sshd: .*(@|\[(priv|net|accepted)\])"])

    def freeze(self) -> None:
        """Stop the whole machine: connections stay open and nothing answers."""
        self._container.get_wrapped_container().pause()

    def thaw(self) -> None:
        """Let the whole machine go on."""
        self._container.get_wrapped_container().unpause()

    def _supervise(self, *command: str) -> None:
        self.check("root", ["supervisorctl", *command])

    def _await(self, part: str) -> None:
        probes = {
            "slurmctld": ["scontrol", "ping"],
            "slurmdbd": ["sacctmgr", "-n", "list", "cluster"],
            "mariadbd": ["mariadb-admin", "ping"],
            "munged": ["munge", "--no-input"],
        }
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if part == "sshd":
                if _greets(self.host, self.port):
                    return
            elif part not in probes:
                return
            else:
                answer = self.exec("root", probes[part])
                if answer.exit_status == 0 and "DOWN" not in answer.stdout:
                    return
            time.sleep(0.1)
        raise TimeoutError(f"{part} did not come back")


def _greets(host: str, port: int) -> bool:
    """Whether an SSH server says hello; docker-proxy accepts connections for a port without a listener."""
    try:
        with socket.create_connection((host, port), timeout=5) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


@pytest.fixture(scope="session")
def clusters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Cluster]]:
    """The cluster with a version of Slurm; it starts when it is first asked for, and stays for the whole session."""
    with ExitStack() as stack:
        yield cache(lambda version: stack.enter_context(started(tmp_path_factory.mktemp("cluster"), version)))


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest, clusters: Callable[[str], Cluster]) -> Cluster:
    """The cluster. A test that stops or pauses a part brings it back."""
    return clusters(getattr(request, "param", "22.05"))


@contextmanager
def started(folder: Path, slurm_version: str = "22.05") -> Iterator[Cluster]:
    """A cluster with a version of Slurm; its keys lie in `folder`."""
    image = _image(RELEASES[slurm_version])
    # testcontainers reads these when it is imported. Its reaper comes from a registry; and on a machine that looks like
    # a container itself it would take the bridge's address for the published ports.
    os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
    os.environ.setdefault("TESTCONTAINERS_CONNECTION_MODE", "docker_host")
    os.environ.setdefault("TC_HOST", "127.0.0.1")
    import asyncssh
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy

    keys = folder / "keys"
    keys.mkdir(mode=0o700)
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    user_ca = asyncssh.generate_private_key("ssh-ed25519")
    authorized = folder / "authorized_keys"
    authorized.mkdir(0o755)
    for user in USERS:
        key = asyncssh.generate_private_key("ssh-ed25519", comment=user)
        (keys / user).touch(0o600)
        key.write_private_key(keys / user)
        key.write_public_key(authorized / user)
    container = (
        DockerContainer(image)
        .with_copy_into_container(host_key.export_private_key(), "/etc/ssh/host_key", 0o600)
        .with_copy_into_container(user_ca.export_public_key(), "/etc/ssh/user_ca.pub", 0o644)
        .with_copy_into_container(authorized, "/etc/ssh")
        .waiting_for(LogMessageWaitStrategy("CLUSTER READY").with_startup_timeout(120))
    )
    shared = folder / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    container.with_volume_mapping(str(shared), str(shared), "rw")
    container.ports.update({f"{port}/tcp": ("127.0.0.1", None) for port in (_SSH, _SLURMRESTD)})
    for prefix in _python():
        container.with_volume_mapping(str(prefix), str(prefix), "ro")
    with container:
        cluster = Cluster(
            container,
            container.get_container_host_ip(),
            keys,
            host_key.export_public_key().decode().strip(),
            user_ca,
            slurm_version,
            shared,
        )
        for mount in (*_python(), shared):
            cluster.check("root", ["chmod", "a+x", *map(str, mount.parents[:-1])])  # Docker made these for root alone
        yield cluster
        cluster.shell.close()


def _python() -> list[Path]:
    """The directories of this Python and its packages; jobs find them at the same paths."""
    prefixes = {Path(sys.prefix), Path(sys.base_prefix)}
    return [prefix for prefix in prefixes if prefix != Path("/usr")]  # the container's own Debian has the same there


def _image(release: str) -> str:
    """The tag of the cluster's image on a Debian release, built if need be."""
    require(
        shutil.which("docker") is not None, "there is no `docker` command: install Docker, or as root run .ci/prepare"
    )
    engine = subprocess.run(["docker", "info"], capture_output=True, check=False)
    require(engine.returncode == 0, "no Docker engine answers: start one, or as root run .ci/prepare")
    build = subprocess.run([str(FOLDER / "build"), release], capture_output=True, text=True, check=False)
    require(build.returncode == 0, f"the cluster's image cannot be built (.ci/prepare can): {build.stderr[-2000:]}")
    return build.stdout.strip()
