"""What a system says in ids, names and paths is escaped wherever it reaches a terminal, a log or a report."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from crestline.client import OutputLine, TransferReport
from crestline.client.backends.firecrest.job_rows import read_job
from crestline.client.backends.iri.job_states import read_job as read_iri_job
from crestline.model import FileMissingError, Job, JobState
from crestline.wire import iri
from crestline_airflow.failures import explanation
from crestline_airflow.live_output import last_lines, logged
from crestline_airflow.operators.download import FirecRESTDownloadOperator
from crestline_airflow.operators.upload import FirecRESTUploadOperator
from crestline_airflow.sensors.file import FirecRESTFileSensor

SEQUENCES = ["\x1b]0;title\x07", "\x1b[2J", "\x1b[6n", "\x9b6n", "\x00", "\x7f"]
HOSTILE = [*SEQUENCES, "a\nlevel=ERROR b", "\u202egpj.exe", "\u2028"]


def firecrest_job(text: str) -> list[str]:
    row = dict.fromkeys(("jobId", "user", "group", "account", "partition", "cluster", "nodes", "rawId"), text)
    body = json.dumps(row | {"status": {"state": text, "stateReason": text}}).encode()
    job = read_job(body, "s")
    return [
        job.job_id,
        job.raw_state,
        job.reason,
        job.user,
        job.group,
        job.account,
        job.partition,
        job.cluster,
        job.nodes,
    ]


def iri_job(text: str) -> list[str]:
    told = {"message": text, "state": text, "meta_data": {"user": text, "nodes": text}}
    attributes = iri.JobAttributes(account=text, queue_name=text)
    found = iri.Job(id=text, status=iri.JobStatus(**told), job_spec=iri.JobSpec(attributes=attributes))
    job = read_iri_job(found, "s")
    return [job.job_id, job.raw_state, job.reason, job.user, job.account, job.partition, job.nodes]


class Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def logger() -> tuple[logging.Logger, list[str]]:
    handler, found = Records(), logging.Logger("task", logging.DEBUG)
    found.addHandler(handler)
    return found, handler.texts


def of_operator(operator: Any, call: Callable[[Any], None]) -> list[str]:
    log, texts = logger()
    with mock.patch.object(type(operator), "log", log):
        call(operator)
    return texts


def downloaded(text: str) -> list[str]:
    system = mock.Mock(**{"download.return_value": TransferReport(excluded=(text,))})
    system.name = "s"
    operator = FirecRESTDownloadOperator(task_id="t", local_path="/l", remote_files="/r")
    with mock.patch.object(Path, "mkdir"):
        return of_operator(operator, lambda it: it._fetch(system, f"/r/{text}", Path(f"/l/{text}"), False, "k"))


def uploaded(text: str) -> list[str]:
    system = mock.Mock(**{"upload.return_value": TransferReport(excluded=(text,))})
    system.name = "s"
    operator = FirecRESTUploadOperator(task_id="t", source_path="/l", target_path="/r")
    return of_operator(operator, lambda it: it._send(system, f"/l/{text}", f"/r/{text}", False, "k"))


def found_files(text: str) -> list[str]:
    sensor = FirecRESTFileSensor(task_id="t", path="/r/*")
    hook = mock.MagicMock()
    system = hook.get_conn.return_value.__enter__.return_value
    system.name, system.glob.return_value = "s", [f"/r/{text}"]
    with mock.patch.object(type(sensor), "hook", hook):
        return of_operator(sensor, lambda it: it.poll_once())


def unreadable_output(text: str) -> list[str]:
    log, texts = logger()
    system = mock.Mock(**{"stat.side_effect": FileMissingError("It is missing.")})
    last_lines(system, f"/r/{text}", log)
    return texts


def why_it_failed(text: str) -> list[str]:
    return explanation(Job(job_id="1", state=JobState.FAILED, system="s", exit_code=1), f"/r/{text}", [text])


def live(text: str) -> list[str]:
    return [logged(OutputLine(stream, text)) for stream in ("stdout", "stderr")]


PLACES: dict[str, Callable[[str], list[str]]] = {
    "a job of a FirecREST gateway": firecrest_job,
    "a job of a facility": iri_job,
    "Airflow, a download": downloaded,
    "Airflow, an upload": uploaded,
    "Airflow, a file sensor": found_files,
    "Airflow, output that cannot be read": unreadable_output,
}
OUTPUT = {"why a job failed": why_it_failed, "live output": live}
"""where text of any script is legitimate, written from right to left too"""


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
@pytest.mark.parametrize("place", PLACES)
def test_text_of_a_system_is_printable_where_it_is_shown(place: str, text: str) -> None:
    shown = PLACES[place](text)
    assert shown
    assert [each for each in shown if not each.isprintable()] == []


@pytest.mark.parametrize("text", SEQUENCES, ids=ascii)
@pytest.mark.parametrize("place", OUTPUT)
def test_output_of_a_job_drives_no_terminal_from_a_task_log(place: str, text: str) -> None:
    shown = OUTPUT[place](text)
    assert shown
    assert [each for each in shown if not each.isprintable()] == []


def test_colours_of_a_jobs_output_stay() -> None:
    assert logged(OutputLine("stdout", "\x1b[31mred\x1b[0m\t10%")) == "\x1b[31mred\x1b[0m\t10%"
