"""Programs in the cluster's container, past sshd: for tests of what they say, not of the way to them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence

from crestline.gateway.hosts import MAX_ANSWER, Commands, Completed
from crestline.model import GatewayUnavailableError
from harness.cluster import Cluster


class ContainerCommands(Commands):
    """As any user; counts what it runs."""

    def __init__(self, cluster: Cluster) -> None:
        self._shell = cluster.shell
        self.ran: Counter[str] = Counter()
        """Slurm's programs by name"""
        self.argvs: list[list[str]] = []

    async def run(
        self,
        user: str,
        argv: Sequence[str],
        *,
        input: bytes | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        timeout: float,
        max_output: int = MAX_ANSWER,
    ) -> Completed:
        self.argvs.append(list(argv))
        self.ran[next(word for word in argv if word.startswith(("s", "true")) and word.isalpha() and word != "sh")] += 1
        running = self._shell.start(user, argv, input=input or b"", env=env, cwd=cwd or f"/home/{user}")
        try:
            async with asyncio.timeout(timeout):
                ended = await asyncio.wrap_future(running)
        except TimeoutError:
            raise GatewayUnavailableError("No answer in time.") from None
        return Completed(ended.exit_status, ended.stdout, ended.stderr)
