"""Programs on this machine, as the user who runs the tests: for stand-ins of what only clusters have."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Mapping, Sequence

from crestline.gateway.hosts import MAX_ANSWER, Commands, Completed
from crestline.model import GatewayUnavailableError


class LocalCommands(Commands):
    """Runs programs with `environment` around them; `user_variable` tells them who they shall think they are."""

    def __init__(self, environment: Mapping[str, str], user_variable: str) -> None:
        self._environment = dict(environment)
        self._user_variable = user_variable
        self.ran: Counter[str] = Counter()
        """by words, so `ran["qstat"]` counts the calls of qstat"""

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
        self.ran.update(word.rpartition("/")[2] for word in argv)
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=cwd,
            env=os.environ | self._environment | {self._user_variable: user} | dict(env or {}),
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
        status = process.returncode or 0
        return Completed(status if status >= 0 else 128 - status, stdout, stderr)
