"""Programs in the cluster's container, past sshd: for tests of what they say, not of the way to them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence

from crestline.gateway.hosts import Commands, Completed
from crestline.model import GatewayUnavailableError
from harness.cluster import Cluster


class ContainerCommands(Commands):
    """`docker exec` as any user; counts what it runs."""

    def __init__(self, cluster: Cluster) -> None:
        self._container = cluster._container.get_wrapped_container().id
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
    ) -> Completed:
        self.argvs.append(list(argv))
        self.ran[next(word for word in argv if word.startswith(("s", "true")) and word.isalpha() and word != "sh")] += 1
        variables = [word for name, value in (env or {}).items() for word in ("--env", f"{name}={value}")]
        process = await asyncio.create_subprocess_exec(
            *("docker", "exec", "--interactive", f"--user={user}", f"--workdir={cwd or f'/home/{user}'}"),
            *variables,
            self._container,
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(timeout):
                stdout, stderr = await process.communicate(input or b"")
        except TimeoutError:
            raise GatewayUnavailableError("No answer in time.") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()
        return Completed(process.returncode or 0, stdout, stderr)
