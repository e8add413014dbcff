"""Messages of the DOE's IRI Facility API, v1 and v2. Additional fields of a server are ignored."""

from __future__ import annotations

import enum
from typing import Annotated, Any

import msgspec

from crestline.model import JobState
from crestline.wire.compute import LONGEST_TEXT

COMPUTE = "compute"
FILESYSTEM = "filesystem"
STORAGE = "storage"
URN = "urn:doe-iri:"
"""Prefix of names in v2."""

SIZE_LIMIT = 5 * 1024 * 1024
"""Maximum size in bytes of one upload, download or view."""


class State(enum.StrEnum):
    """The states of a job."""

    NEW = "new"
    QUEUED = "queued"
    HELD = "held"
    ACTIVE = "active"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"


def state_name(state: JobState, reason: str = "") -> State:
    """Return the API's name for a state of the model.

    Args:
        state: state of the model.
        reason: why the job waits, in Slurm's terms.
    """
    if state is JobState.COMPLETED:
        return State.COMPLETED
    if state is JobState.CANCELLED:
        return State.CANCELED
    if state.is_terminal:
        return State.FAILED
    if state in (JobState.RUNNING, JobState.SUSPENDED, JobState.COMPLETING):
        return State.ACTIVE
    return State.HELD if reason.startswith("JobHeld") or reason.endswith("NeverSatisfied") else State.QUEUED


class TaskState(enum.StrEnum):
    """The states of a task."""

    PENDING = "pending"
    ACTIVE = "active"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"


class Resource(msgspec.Struct, kw_only=True):
    """An entry of `/status/resources`."""

    id: str
    name: str | None = None
    description: str | None = None
    group: str | None = None
    current_status: str | None = None
    resource_type: str = ""
    supported_endpoints: list[str] | None = None
    capability_uris: list[str] = []


class Project(msgspec.Struct, kw_only=True):
    """An entry of `/account/projects`."""

    id: str
    name: str | None = None


class AllocationEntry(msgspec.Struct, kw_only=True):
    """An amount; `unit` is `node_hours` in v1, `urn:doe-iri:allocation:compute:node-hours` in v2."""

    allocation: float
    usage: float
    unit: str


class ProjectAllocation(msgspec.Struct, kw_only=True):
    """An entry of `/account/projects/{id}/project_allocations`."""

    entries: list[AllocationEntry] = []
    capability_uri: str = ""


class Incident(msgspec.Struct, kw_only=True):
    """An entry of `/status/incidents`."""

    name: str | None = None
    description: str | None = None
    status: str = ""


class JobResources(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Resources of a job; `memory` in bytes. The API's default of `exclusive_node_use` is true."""

    node_count: int | None = None
    process_count: int | None = None
    processes_per_node: int | None = None
    cpu_cores_per_process: int | None = None
    gpu_cores_per_process: int | None = None
    exclusive_node_use: bool | None = None
    memory: int | None = None


class JobAttributes(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Queue, account and duration of a job; `duration` in seconds."""

    duration: int | None = None
    queue_name: str | None = None
    account: str | None = None
    reservation_id: str | None = None
    custom_attributes: dict[str, str] | None = None


class JobSpec(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A job as PSI/J describes it: a program with arguments, not a batch script."""

    executable: str | None = None
    arguments: list[str] | None = None
    directory: str | None = None
    name: str | None = None
    inherit_environment: bool | None = None
    environment: dict[str, str] | None = None
    stdin_path: str | None = None
    stdout_path: str | None = None
    stderr_path: str | None = None
    resources: JobResources | None = None
    attributes: JobAttributes | None = None
    pre_launch: str | None = None
    post_launch: str | None = None
    launcher: str | None = None


NonEmpty = Annotated[str, msgspec.Meta(min_length=1)]
JobText = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_TEXT)]
"""Name or path of a job."""
Count = Annotated[int, msgspec.Meta(ge=1, le=2**53)]


class ResourcesRequest(msgspec.Struct, kw_only=True, omit_defaults=True):
    """`JobResources` as a server accepts them. Unknown fields are dropped, as the API's document allows."""

    node_count: Count | None = None
    process_count: Count | None = None
    processes_per_node: Count | None = None
    cpu_cores_per_process: Count | None = None
    gpu_cores_per_process: Count | None = None
    exclusive_node_use: bool = True
    memory: Count | None = None


class AttributesRequest(msgspec.Struct, kw_only=True, omit_defaults=True):
    """`JobAttributes` as a server accepts them."""

    duration: Count | None = None
    queue_name: JobText | None = None
    account: JobText | None = None
    reservation_id: JobText | None = None
    custom_attributes: dict[str, str] = {}


class VolumeMount(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A directory in a container."""

    source: JobText
    target: JobText
    read_only: bool = True


class Container(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The container that a job's program runs in."""

    image: JobText
    volume_mounts: list[VolumeMount] = []


class JobRequest(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """`JobSpec` as a server accepts it. It is the only message without additional fields."""

    executable: NonEmpty | None = None
    container: Container | None = None
    arguments: list[str] = []
    directory: JobText | None = None
    name: JobText | None = None
    inherit_environment: bool = True
    environment: dict[str, str] = {}
    stdin_path: JobText | None = None
    stdout_path: JobText | None = None
    stderr_path: JobText | None = None
    resources: ResourcesRequest | None = None
    attributes: AttributesRequest | None = None
    pre_launch: NonEmpty | None = None
    post_launch: NonEmpty | None = None
    launcher: JobText | None = None


class JobStatus(msgspec.Struct, kw_only=True):
    """The state of a job; `time` in seconds since the epoch."""

    state: str
    time: float | None = None
    message: str | None = None
    exit_code: int | None = None
    meta_data: dict[str, Any] | None = None


class Job(msgspec.Struct, kw_only=True):
    """A job as the facility reports it; `job_spec` only on request."""

    id: str
    status: JobStatus | None = None
    job_spec: JobSpec | None = None


class TaskSubmitted(msgspec.Struct):
    """The response of every operation on files."""

    task_id: str


class Task(msgspec.Struct, kw_only=True):
    """A running or ended operation on files."""

    id: str = ""
    status: str = ""
    result: Any = None


class File(msgspec.Struct, kw_only=True):
    """An entry of a listing."""

    name: str
    type: str = "-"
    link_target: str | None = None
    user: str | None = None
    group: str | None = None
    permissions: str | None = None
    last_modified: str | None = None
    size: int = 0


class StorageLocation(msgspec.Struct, kw_only=True):
    """A directory that the facility provides for the user (v2)."""

    logical_name: str = ""
    path: str
    is_default: bool = False
    """Whether jobs without a directory run there; an addition of Crestline's gateway."""


class AccessEndpoint(msgspec.Struct, kw_only=True):
    """Another way to the files of a resource (v2)."""

    protocol: str = ""
    display_name: str | None = None
    endpoint_id: str | None = None
    uri: str | None = None


class Problem(msgspec.Struct, kw_only=True):
    """An error, as `application/problem+json` (RFC 9457)."""

    title: str | None = None
    detail: Any = None
    invalid_params: list[dict[str, Any]] | None = None
