"""Runs PBS's programs and parses their errors."""

from __future__ import annotations

import re

from crestline.gateway.hosts import MAX_ANSWER, Completed
from crestline.gateway.schedulers.error_patterns import ErrorPatterns
from crestline.gateway.schedulers.programs import Programs
from crestline.gateway.schedulers.time_limit import TimeLimit

WORDING = ErrorPatterns(
    "PBS",
    prefix=re.compile(r"^\w+: "),
    unavailable_patterns=re.compile(
        r"cannot connect to server|connection (refused|timed out|reset)|could not connect|no server|"
        r"errno=150(07|10|31|33)|timed out|server is down|communication failure",
        re.IGNORECASE,
    ),
    unknown_job_patterns=re.compile(r"unknown job ?id|illegally formed job identifier", re.IGNORECASE),
    permission_patterns=re.compile(
        r"unauthorized request|permission denied|not authorized|no permission", re.IGNORECASE
    ),
)
complaints, refusal, no_answer = WORDING.stderr_lines, WORDING.refusal, WORDING.unavailable

HAS_FINISHED = re.compile(r"job has finished", re.IGNORECASE)


class PbsCommands(Programs):
    """PBS's programs. They print times in UTC."""

    wording = WORDING
    environment = ("env", "TZ=UTC0")

    async def read(
        self,
        user: str,
        program: str,
        *arguments: str,
        time_limit: TimeLimit | None = None,
        max_output: int = MAX_ANSWER,
    ) -> Completed:
        """Run a read-only program as `run_query` does, and raise an error if PBS does not respond.

        qstat fails if one of many jobs is unknown, so the caller checks the exit status.

        Raises:
            GatewayUnavailableError: PBS does not respond.
        """
        done = await self.run_query(user, program, *arguments, time_limit=time_limit, max_output=max_output)
        self.note(no_answer(program, done) if WORDING.is_no_answer(done) else None)
        if self.failure is not None:
            raise self.failure
        return done
