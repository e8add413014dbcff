"""Check that the programs of a batch system are installed and that its scheduler responds."""

from __future__ import annotations

import posixpath
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from crestline.cli.checks import Check, Verdict, failed
from crestline.gateway.schedulers.base import JobQuery
from crestline.model import CrestlineError

if TYPE_CHECKING:
    from crestline.gateway.hosts import Completed
    from crestline.gateway.systems import SystemRuntime

_TIMEOUT = 15.0
_LOOK_BACK = 86400


async def check(runtime: SystemRuntime, options: Mapping[str, Any], user: str) -> AsyncIterator[Check]:
    """Check the batch system of one system, as the user `user`."""
    name = f"scheduler of {runtime.name}"
    directory = str(options.get("directory") or "")

    async def run(program: str, *arguments: str) -> Completed:
        command = ["timeout", f"{_TIMEOUT:g}", posixpath.join(directory, program), *arguments]
        return await runtime.host.run(user, command, timeout=_TIMEOUT + 5)

    try:
        if absent := [each for each in runtime.scheduler.programs if (await run(each, "--version")).exit_status == 127]:
            hint = "Install them, or say in `scheduler.directory` where they are."
            yield Check(name, Verdict.FAIL, f"{user} does not find {', '.join(absent)}.", hint)
            return
        async for each in runtime.scheduler.diagnose(f"programs of {runtime.name}", run):
            yield each
            if each.verdict is Verdict.FAIL:
                return
        await runtime.scheduler.start()
        try:
            await runtime.scheduler.ping()
            jobs = await runtime.scheduler.jobs(user, JobQuery(window=_LOOK_BACK))
        finally:
            await runtime.scheduler.stop()
        yield Check(name, Verdict.OK, f"It answers; jobs of {user} within a day: {len(jobs)}.")
    except CrestlineError as error:
        yield failed(name, error)
