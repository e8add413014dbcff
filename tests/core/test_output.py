"""A job's stdout and stderr, line by line and once, also when another process resumes."""

from __future__ import annotations

from pathlib import Path

import pytest

from crestline.client import connect
from crestline.model import JobSpec
from crestline.testing.firecrest import running
from harness.gateway import RunningGateway
from harness.sites import BRISK, gateway_site, plain_site

pytestmark = pytest.mark.anyio

SCRIPT = """#!/bin/bash
#SBATCH --output=out.txt
#SBATCH --error=err.txt
echo one; echo 'two ∆'; echo oops >&2; printf 'half'
until [ -e go ]; do sleep 0.05; done
echo ' whole'; printf 'x%.0s' {1..20000}; echo; echo last >&2; printf unended
"""


@pytest.fixture(params=["gateway", "plain"])
def site(request: pytest.FixtureRequest):
    if request.param == "gateway":
        yield gateway_site(request.getfixturevalue("gateway"))
    else:
        with running() as plain:
            yield plain_site(plain)


async def test_lines_come_once_across_two_readers(site) -> None:
    async with connect(site, policy=BRISK) as system:
        workdir = f"{await system.default_workdir()}/output"
        await system.mkdir(workdir, parents=True)
        job = await system.submit(JobSpec(script=SCRIPT, workdir=workdir))
        async for event in system.watch(job):
            if not event.state.is_waiting:
                break
        job = await system.metadata(event.job)
        first = system.output(job)
        lines = [(line.stream, line.text) async for line in _until(first, "oops")]
        position = first.position
        await first.aclose()
        await system.write_text(f"{workdir}/go", "")
        lines += [(line.stream, line.text) async for line in system.output(job, position=position)]
        await system.remove(f"{workdir}/go")
    stdout = [text for stream, text in lines if stream == "stdout"]
    assert [text for stream, text in lines if stream == "stderr"] == ["oops", "last"]
    assert stdout[:3] == ["one", "two ∆", "half whole"]
    assert "".join(stdout[3:-1]) == "x" * 20000
    assert stdout[-1] == "unended"


async def _until(output, text):
    async for line in output:
        yield line
        if line.text == text:
            return


async def test_an_array_has_elements(gateway: RunningGateway, tmp_path: Path) -> None:
    async with connect(gateway_site(gateway), policy=BRISK) as system:
        spec = JobSpec(script="#!/bin/bash\nexit $SLURM_ARRAY_TASK_ID\n", array="0-2", workdir=str(gateway.home))
        job = await system.wait(await system.submit(spec))
        elements = await system.array_tasks(job)
    assert [element.exit_code for element in elements] == [0, 1, 2]
    assert all(element.node_hours is not None for element in elements)
