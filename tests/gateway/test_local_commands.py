"""Programs that the gateway runs on its own machine."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvloop

from crestline.gateway.hosts.local import commands
from crestline.model import GatewayUnavailableError, TooLargeError


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
@pytest.mark.parametrize(
    ("script", "status", "printed"), [("wc -c", 0, b"300000"), ("exec 0<&-; echo refused >&2; exit 1", 1, b"refused")]
)
def test_a_program_may_end_without_having_read_its_input(
    run: Any, script: str, status: int, printed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as sbatch with an option that it does not know: what it says reaches the user."""
    start = asyncio.create_subprocess_exec

    async def start_on_a_busy_machine(*argv: Any, **options: Any) -> Any:
        process = await start(*argv, **options)
        if status:
            await process.wait()
            await asyncio.sleep(0.05)  # until the loop has closed the pipes
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start_on_a_busy_machine)
    done = run(commands.run(["/bin/sh", "-c", script], input=b"x" * 300_000, env=None, cwd=None, timeout=60))
    assert done.exit_status == status
    assert printed in (done.stdout + done.stderr)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_programs_write_a_bounded_answer(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any user may ask for the whole history of a batch system."""
    monkeypatch.setattr(commands, "MAX_ERRORS", 1000)
    with pytest.raises(TooLargeError):
        run(commands.run(["yes"], input=None, env=None, cwd=None, timeout=60))  # by default a megabyte
    script = "head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2; exit 3"
    arguments = {"input": None, "env": None, "cwd": None, "timeout": 60}
    with pytest.raises(TooLargeError):
        run(commands.run(["/bin/sh", "-c", script], max_output=299_999, **arguments))
    done = run(commands.run(["/bin/sh", "-c", script], max_output=300_000, **arguments))
    assert (done.exit_status, len(done.stdout), len(done.stderr)) == (3, 300_000, 1000)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_program_that_left_another_one_behind_ends_in_time(run: Any) -> None:
    """A daemon that a program started holds its output open, in a session of its own."""
    script = "setsid sleep 30 & echo started; exit 0"
    with pytest.raises(GatewayUnavailableError):
        run(commands.run(["/bin/sh", "-c", script], input=None, env=None, cwd=None, timeout=1))
