"""The site that is measured: Slurm in a container behind sshd, and the gateway before it as a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import tomlkit

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from harness.cluster import Cluster, started
from harness.gateway import GatewayProcess
from harness.ports import free_port
from harness.slurm_gateway import prepare

USERS = tuple(f"user{number:02}" for number in range(1, 31))
COMMANDS = ("squeue", "sacct", "sbatch", "scancel", "scontrol", "sinfo", "sacctmgr")
_COUNTED = "/opt/counted"
_COUNTS = "/tmp/scheduler-commands"


class Site:
    """`slurm` is the cluster as a site would set it up; `counted` is the same with every scheduler command counted."""

    def __init__(self, cluster: Cluster, gateway: GatewayProcess, folder: Path, secrets: dict[str, str]) -> None:
        self.cluster = cluster
        self.gateway = gateway
        self.folder = folder
        self._secrets = secrets

    @property
    def url(self) -> str:
        return self.gateway.url

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def process(self) -> psutil.Process:
        assert self.gateway.process is not None
        return psutil.Process(self.gateway.process.pid)

    def restart(self) -> None:
        """A gateway without a past."""
        self.gateway.stop()
        self.gateway.start()

    def token(self, user: str) -> str:
        return self.gateway.token((f"{user}-client", self._secrets[user]))

    def headers(self, user: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(user)}"}

    # the raw side

    def ssh(self, user: str, *, tool: str = "ssh") -> list[str]:
        """The words of `ssh` (or `scp`, `sftp`) as a user has them, with a connection that stays open."""
        options = {
            "ControlMaster": "auto",
            "ControlPath": f"{self.folder}/%r",
            "ControlPersist": "600",
            "IdentityFile": str(self.cluster.key(user)),
            "UserKnownHostsFile": str(self.folder / "known_hosts"),
            "IdentitiesOnly": "yes",
            "LogLevel": "ERROR",
        }
        words = [each for name, value in options.items() for each in ("-o", f"{name}={value}")]
        return [tool, *words, "-P" if tool in ("scp", "sftp") else "-p", str(self.cluster.port)]

    def by_hand(self, user: str, command: str, *, input: bytes = b"") -> str:
        """One command as the user would type it."""
        words = [*self.ssh(user), f"{user}@{self.cluster.host}", command]
        done = subprocess.run(words, input=input, capture_output=True, check=True)
        return done.stdout.decode()

    # scheduler commands on the system `counted`

    def reset_counts(self) -> None:
        self.cluster.check("root", ["sh", "-c", f": > {_COUNTS} && chmod 666 {_COUNTS}"])

    def counts(self) -> dict[str, int]:
        lines = self.cluster.check("root", ["cat", _COUNTS]).split()
        return {command: lines.count(command) for command in COMMANDS if command in lines}

    def submit_by_hand(self, user: str, script: str) -> str:
        """A job id."""
        return self.by_hand(user, "sbatch --parsable", input=script.encode()).strip()


@contextmanager
def site() -> Iterator[Site]:
    """Everything up; about ten seconds once the image is built."""
    with tempfile.TemporaryDirectory(prefix="crestline-bench-") as name, started(Path(name)) as cluster:
        folder = Path(name)
        _count_commands(cluster)
        home = folder / "home"
        system = prepare(cluster, home, USERS)
        system["scheduler"]["observer"] = "observer"
        counted = {**system, "scheduler": {**system["scheduler"], "directory": _COUNTED}}
        alone = {**counted, "scheduler": {"type": "slurm", "directory": _COUNTED}}
        config = folder / "site.toml"
        systems = {"slurm": system, "counted": counted, "unobserved": alone}
        config.write_text(tomlkit.dumps({"issuer": {"token_lifetime": 86400}, "systems": systems}))
        (folder / "known_hosts").write_text(cluster.known_hosts)
        secrets = json.loads((home / "clients.json").read_text())
        gateway = GatewayProcess(home, free_port(), "--config", str(config))
        gateway.start()
        try:
            yield Site(cluster, gateway, folder, secrets)
        finally:
            gateway.stop()


def _count_commands(cluster: Cluster) -> None:
    wrapper = f'#!/bin/sh\nname="${{0##*/}}"\necho "$name" >> {_COUNTS}\nexec "/usr/bin/$name" "$@"\n'
    names = " ".join(f"{_COUNTED}/{command}" for command in COMMANDS)
    script = f"mkdir -p {_COUNTED} && for f in {names}; do printf '%s' \"$1\" > $f; chmod 755 $f; done"
    cluster.check("root", ["sh", "-c", script, "sh", wrapper])
    cluster.check("root", ["sh", "-c", f": > {_COUNTS} && chmod 666 {_COUNTS}"])


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` (0 to 1) of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def timed(action: object, times: int) -> list[float]:
    """Seconds of each call."""
    durations = []
    for _ in range(times):
        began = time.perf_counter()
        action()  # type: ignore[operator]
        durations.append(time.perf_counter() - began)
    return durations
