"""Runs Slurm's programs and parses their errors."""

from __future__ import annotations

import re
from collections.abc import Mapping

from crestline.gateway.hosts import MAX_ANSWER, Completed
from crestline.gateway.schedulers.error_patterns import ErrorPatterns
from crestline.gateway.schedulers.programs import Programs
from crestline.gateway.schedulers.slurm.queries import as_arguments
from crestline.gateway.schedulers.time_limit import TimeLimit
from crestline.model import GatewayUnavailableError

WORDING = ErrorPatterns(
    "Slurm",
    prefix=re.compile(r"^\w+: (error: )?"),
    unavailable_patterns=re.compile(
        r"unable to contact slurm controller|socket timed out|connection (refused|timed out|failure)|zero bytes were"
        r" transmitted|problem talking to the database|persistent connection|unable to connect to|temporarily unable|"
        r"in standby mode|munge|protocol authentication error",
        re.IGNORECASE,
    ),
    unknown_job_patterns=re.compile(
        r"invalid job id|invalid job array|no such job|job not heterogeneous", re.IGNORECASE
    ),
    permission_patterns=re.compile(r"permission denied|invalid user", re.IGNORECASE),
)
complaints, refusal, no_answer = WORDING.stderr_lines, WORDING.refusal, WORDING.unavailable

_NO_ACCOUNTING = b"accounting storage is disabled"
"""Message at a site without slurmdbd."""
LONGEST_OUTPUT = 8 * 1024 * 1024
"""Maximum size in bytes of output for a user."""
# Set the formats that the gateway parses: epoch times and whole lists of array tasks, without filters from the user's
# shell.
_READING = (
    "env",
    *(f"-u{kind}_{what}" for kind in ("SQUEUE", "SINFO") for what in ("PARTITION", "SORT")),
    *(f"-uSQUEUE_{what}" for what in ("ACCOUNT", "ARRAY", "LICENSES", "NAMES", "PRIORITY", "QOS", "USERS")),
    "-uSLURM_CLUSTERS",
    "SLURM_TIME_FORMAT=%s",
    "SLURM_BITSTR_LEN=0",
)


class SlurmCommands(Programs):
    """Slurm's programs."""

    wording = WORDING
    environment = _READING

    async def read(
        self,
        user: str,
        program: str,
        *arguments: str,
        time_limit: TimeLimit | None = None,
        max_output: int = MAX_ANSWER,
    ) -> bytes:
        """Return the output of a read-only program; see `run_query`.

        Raises:
            GatewayUnavailableError: the program did not end in time, or failed through no fault of the caller.
            JobNotFoundError, PermissionDeniedError: as Slurm reports it.
        """
        done = await self.run_query(user, program, *arguments, time_limit=time_limit, max_output=max_output)
        if done.exit_status != 0 and _NO_ACCOUNTING not in done.stderr:
            error = refusal(program, done) or no_answer(program, done)
            self.failure = error if isinstance(error, GatewayUnavailableError) else None
            raise error
        self.note(None)
        return done.stdout

    async def ask(self, user: str, variables: Mapping[str, str], program: str, *arguments: str) -> Completed:
        """Run a read-only program for the user. The user checks its exit status.

        Raises:
            GatewayUnavailableError: the program did not end in time.
            TooLargeError: the output is larger than `LONGEST_OUTPUT`.
        """
        words = [*as_arguments(variables), *self.limited(program, *arguments)]
        return await self.run(user, words, max_output=LONGEST_OUTPUT)
