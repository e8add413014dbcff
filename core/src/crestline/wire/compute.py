"""Messages of `/compute/{system}/jobs`."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from crestline.model.script import BYTE_ORDER_MARK
from crestline.wire.codec import Message

JobId = Annotated[str, msgspec.Meta(max_length=64, pattern=r"^[A-Za-z0-9_.+\[\]-]+$")]
"""`123`, an array task `123_4` or `123[4].server`, a heterogeneous component `123+1`."""

TimeWindow = Literal["1h", "8h", "24h", "3d", "7d"]

TIME_WINDOWS: dict[str, int] = {"1h": 3600, "8h": 28800, "24h": 86400, "3d": 259200, "7d": 604800}
"""Seconds of each `TimeWindow`."""


LONGEST_TEXT = 4096
"""Maximum number of characters in a name or path of a job."""

JobText = Annotated[str, msgspec.Meta(max_length=LONGEST_TEXT)]


class JobDescription(Message):
    """Fields of a submission. All other options are `#SBATCH` lines of the script."""

    working_directory: JobText
    name: JobText | None = None
    account: JobText | None = None
    reservation: JobText | None = None
    partition: JobText | None = None
    standard_input: JobText | None = None
    standard_output: JobText | None = None
    standard_error: JobText | None = None
    env: dict[str, str] | list[str] | None = None
    """A mapping, or `NAME=value` strings."""
    constraints: JobText | None = None
    script: str | None = None
    script_path: JobText | None = None

    def __post_init__(self) -> None:
        if self.script is not None:
            self.script = self.script.removeprefix(BYTE_ORDER_MARK)


class SubmitRequest(Message):
    """`POST /compute/{system}/jobs`"""

    job: JobDescription


class SubmitAnswer(Message):
    """201 of `POST /compute/{system}/jobs`"""

    job_id: str


class JobStatus(Message, gc=False):
    """`state` is the scheduler's own name, never a normalised one."""

    state: str
    state_reason: str | None = None
    exit_code: int | None = None
    interrupt_signal: int | None = None


class JobTime(Message, gc=False):
    """Seconds since the epoch for `start` and `end`, seconds for the others.

    Crestline only, in seconds since the epoch: `submit`, and `expected_start`, an estimate for a pending job.
    """

    elapsed: int | None = None
    start: int | None = None
    end: int | None = None
    suspended: int | None = None
    limit: int | None = None
    submit: int | None = None
    expected_start: int | None = None


class JobTask(Message, gc=False):
    """A job step."""

    id: str
    name: str
    status: JobStatus
    time: JobTime


class JobInfo(Message, gc=False):
    """A job as it is listed."""

    job_id: str
    name: str
    status: JobStatus
    time: JobTime
    tasks: list[JobTask] | None = None
    account: str | None = None
    allocation_nodes: int = 0
    cluster: str = ""
    group: str | None = None
    nodes: str = ""
    partition: str = ""
    kill_request_user: str | None = None
    user: str | None = None
    working_directory: str = ""
    priority: int | None = None
    cpus: int | None = None
    """Crestline only: allocated CPUs, or requested ones while the job is pending."""
    raw_id: str | None = None
    """Crestline only: the scheduler's own number of an array task, if it differs from the array's."""


class JobsAnswer(Message):
    """`GET /compute/{system}/jobs` and `.../jobs/{id}` (several entries for an array)."""

    jobs: list[JobInfo] | None


class JobMetadata(Message):
    """Script of a job and paths of its streams."""

    job_id: str
    script: str | None = None
    standard_input: str | None = None
    standard_output: str | None = None
    standard_error: str | None = None


class MetadataAnswer(Message):
    """`GET /compute/{system}/jobs/{id}/metadata`"""

    jobs: list[JobMetadata] | None


class AttachRequest(Message):
    """`PUT /compute/{system}/jobs/{id}/attach`"""

    command: Annotated[str, msgspec.Meta(min_length=1)]
