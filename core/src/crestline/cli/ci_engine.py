"""Report the results of a run to its CI service, in addition to the log.

On GitHub Actions, `run` writes a notice with the job's id, the outputs `job-id`, `state`, `exit-code`, `queue-seconds`
and `workdir`, and a table in the step's summary. It writes to the files in `GITHUB_OUTPUT` and `GITHUB_STEP_SUMMARY`,
and does nothing if these variables are unset.
"""

from __future__ import annotations

import os
import secrets
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path

import msgspec

from crestline.cli.durations import clock
from crestline.cli.output import note, one_line
from crestline.model import Job

_LARGEST_REPORT = 64 * 1024 * 1024


class Tests(msgspec.Struct):
    """Totals of the test cases in JUnit reports."""

    tests: int = 0
    failures: int = 0
    skipped: int = 0


def count_tests(reports: list[Path]) -> Tests:
    """Return the totals of several JUnit reports. Unreadable reports are named on stderr and skipped."""
    total = Tests()
    for report in reports:
        try:
            if report.stat().st_size > _LARGEST_REPORT:
                raise ValueError("it is too large")
            root = ElementTree.parse(report).getroot()  # noqa: S314 - expat bounds what entities may become
        except (ElementTree.ParseError, ValueError, OSError) as error:
            note(f"{report} is not a JUnit report: {error}")
            continue
        for suite in root.iter("testsuite"):
            total.tests += _number(suite, "tests")
            total.failures += _number(suite, "failures") + _number(suite, "errors")
            total.skipped += _number(suite, "skipped")
    return total


def announce(job: Job, system: str) -> None:
    """Report the id of the job to the CI service."""
    if os.environ.get("GITHUB_ACTIONS") == "true":
        note(f"::notice title=Crestline::Job {one_line(job.job_id)} on {one_line(system)}")
    _outputs({"job-id": job.job_id, "workdir": job.workdir})


def conclude(job: Job, code: int, tests: Tests | None) -> None:
    """Report the end of a run to the CI service: outputs, and a summary with the job's facts and its tests."""
    queued = queue_seconds(job)
    outputs = {"state": str(job.state), "exit-code": str(code)}
    if queued is not None:
        outputs["queue-seconds"] = str(queued)
    _outputs(outputs)
    rows = [
        ("Job", f"{job.job_id} ({job.name})" if job.name else job.job_id),
        ("System", job.system),
        ("State", str(job.state)),
        ("Exit code", str(code)),
        ("Nodes", job.nodes),
        ("Queued", clock(queued)),
        ("Ran", clock(job.times.elapsed)),
    ]
    if tests is not None:
        rows.append(("Tests", f"{tests.tests}, {tests.failures} failed, {tests.skipped} skipped"))
    table = "".join(f"| {name} | {_cell(value)} |\n" for name, value in rows if value)
    _append(os.environ.get("GITHUB_STEP_SUMMARY"), f"| Crestline | |\n| --- | --- |\n{table}\n")


def queue_seconds(job: Job) -> int | None:
    """Return the seconds that the job waited in the queue, or None if the scheduler does not report it."""
    if job.times.submit is None or job.times.start is None:
        return None
    return max(0, job.times.start - job.times.submit)


def _outputs(values: Mapping[str, str]) -> None:
    # A random delimiter, so that no value can end the block early and inject other outputs.
    end = f"end-{secrets.token_hex(8)}"
    _append(
        os.environ.get("GITHUB_OUTPUT"),
        "".join(f"{name}<<{end}\n{one_line(value)}\n{end}\n" for name, value in values.items()),
    )


def _append(file: str | None, text: str) -> None:
    if file:
        with Path(file).open("a", encoding="utf-8") as stream:
            stream.write(text)


def _cell(value: str) -> str:
    return one_line(value).replace("|", "\\|").replace("<", "&lt;")


def _number(suite: ElementTree.Element, name: str) -> int:
    text = suite.get(name, "0")
    return int(text) if text.isascii() and text.isdigit() else 0
