"""Measures and logs a scheduler's commands, with the id of the request."""

from __future__ import annotations

import logging
import posixpath
import time
from collections.abc import Mapping, Sequence

from crestline.gateway import metrics
from crestline.gateway.hosts import MAX_ANSWER, Commands, Completed
from crestline.model import CrestlineError
from crestline.tracing import child_span

_log = logging.getLogger("crestline.commands")


class InstrumentedCommands(Commands):
    """Passes commands on and measures their duration and result."""

    def __init__(self, system: str, commands: Commands) -> None:
        self._system = system
        self._commands = commands

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
        started = time.perf_counter()
        program, outcome, said = program_of(argv), "unavailable", "no answer"
        try:
            with child_span(program, {"crestline.system": self._system}):
                done = await self._commands.run(
                    user, argv, input=input, env=env, cwd=cwd, timeout=timeout, max_output=max_output
                )
            outcome, said = "failed" if done.exit_status else "ok", f"exit {done.exit_status}"
            return done
        except CrestlineError as error:
            said = error.message
            raise
        finally:
            seconds = time.perf_counter() - started
            metrics.COMMANDS.labels(self._system, program, outcome).observe(seconds)
            # Arguments may belong to a user, and a script's environment must not be logged.
            _log.info("%s as %s on %s: %s, %.1fms", program, user, self._system, said, seconds * 1000)


def program_of(argv: Sequence[str]) -> str:
    """Return the name of the program behind `env`, `timeout` and `sh -c`."""
    words = list(argv)
    while words:
        match posixpath.basename(words[0]):
            case "env":
                words = words[1:]
                while words and (words[0].startswith("-") or "=" in words[0]):
                    words = words[1:]
            case "timeout":
                words = words[1:]
                while words and words[0].startswith("-"):
                    words = words[1:]
                words = words[1:]
            case "sh" if words[1:2] == ["-c"] and len(words) > 3:
                words = words[3:]
            case name:
                return name
    return "none"
