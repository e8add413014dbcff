"""What a run reports to its CI engine, in addition to its log.

GitHub Actions: a notice with the job's id, outputs (`job-id`, `state`, `exit-code`, `queue-seconds`, `workdir`) and a
table in the step's summary, through the files that `GITHUB_OUTPUT` and `GITHUB_STEP_SUMMARY` name. Other engines have
no such files, and then nothing happens here.
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
    """Numbers of JUnit reports, added up."""

    tests: int = 0
    failures: int = 0
    skipped: int = 0


def count_tests(reports: list[Path]) -> Tests:
    """Add up JUnit reports; one that cannot be read is named on stderr."""
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
    """There is a job: say so where people look."""
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
    """Seconds that the job waited, where the scheduler says."""
    if job.times.submit is None or job.times.start is None:
        return None
    return max(0, job.times.start - job.times.submit)


def _outputs(values: Mapping[str, str]) -> None:
    # With an end mark that no value can hold, so that none can add an output of its own.
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
