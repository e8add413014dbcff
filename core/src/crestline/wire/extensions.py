"""What a Crestline gateway adds beside FirecREST v2. Clients see it in a header and fall back where it is absent."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

import msgspec

from crestline.wire.codec import Message
from crestline.wire.compute import JobDescription

VERSION_HEADER = "F7T-AppVersion"
"""FirecREST's version header. Ours is `2.6.0+crestline.<our version>`: it parses as the protocol we speak."""

FEATURES_HEADER = "Crestline-Features"
"""space-separated names of the additions below; on every answer"""

PARTIAL_HEADER = "Crestline-Partial"
"""on a job list that may lack jobs or hold some in state UNKNOWN; says why, for example that accounting is away"""

IDEMPOTENCY_HEADER = "Idempotency-Key"
"""on `POST jobs`: the same key with the same body answers the first job id, with another body 409"""

FEATURES = (
    "idempotency-key",  # the header above
    "job-ids",  # GET jobs?ids=1,2,3: exactly those jobs, whatever their age
    "content",  # GET (Range, ETag), PUT and HEAD ops/content: bytes of a file, atomic and resumable writes
    "job-etags",  # ETag and If-None-Match on GET jobs and GET jobs/{id}; wait=SECONDS holds the answer until it differs
    "job-events",  # GET jobs/events?ids=1,2: changes as server-sent events, below
    "batch",  # POST jobs/batch: many jobs at once, below
    "tar",  # GET and PUT ops/tar: a directory as one stream; POST ops/tar: some of its files; POST ops/manifest: below
    "api-keys",  # GET, POST and DELETE /keys: the caller's API keys
    "submission-lookup",  # GET jobs/submitted with Idempotency-Key: whether that key was used here, below
    "tar-select",  # POST ops/tar with `select`: files of several directories, by age and name
    "job-hold",  # PUT and DELETE jobs/{id}/hold: keep a waiting job from starting, and let it start
    "allocations",  # GET /status/{system}/allocations: budget and use of the caller's accounts, below
    "job-usage",  # GET jobs/{id}/usage: processor time, memory and GPUs that a job has used, below
    "slurm-queries",  # GET /status/{system}/slurm: what a command of Slurm that only reads prints, below
)

UPLOAD_ID_HEADER = "Upload-Id"
"""on `PUT` and `HEAD ops/content`: names one upload, so that its parts find each other"""

UPLOAD_OFFSET_HEADER = "Upload-Offset"
"""bytes of the upload that are stored; as in the IETF draft on resumable uploads"""

UPLOAD_COMPLETE_HEADER = "Upload-Complete"
"""`?1` on the part that ends the upload, `?0` before; as in the IETF draft on resumable uploads"""

CHECKSUM_HEADER = "Content-SHA256"
"""hexadecimal SHA-256 of the whole file; checked before an upload becomes visible"""

CRC_HEADER = "Content-CRC32"
"""hexadecimal CRC-32 of the whole file; checked likewise, and made as the bytes of a part pass"""


LONGEST_WAIT = 60
"""seconds that `wait` may ask for"""

EVENT_HEARTBEAT = 15
"""seconds; at least that often something comes on an event stream, if only a comment"""


class Readiness(Message):
    """Answer of `GET /status/readiness`."""

    ready: bool = True


class JobsMissing(Message):
    """The event `missing`: the scheduler does not list these, or no longer. The event `job` has a `JobInfo`."""

    job_ids: list[str]


class Outage(Message):
    """The event `outage`: nothing is known at present. When that is over, every job's state comes again."""

    message: str


class AllocationInfo(Message):
    """What of an account may be used, in one unit such as `cpu-hours`."""

    account: str
    unit: str
    budget: float | None = None
    """absent: unlimited"""
    used: float | None = None
    """absent: not told"""
    user: str | None = None
    """the user whom alone the budget limits; absent: all users of the account"""


class AllocationsAnswer(Message):
    """200 of `GET /status/{system}/allocations`."""

    allocations: list[AllocationInfo] | None = None
    """absent: the scheduler does not tell"""
    reason: str | None = None
    """why `allocations` is absent"""


class JobUsageInfo(Message):
    """What a job has used; the fields are those of `crestline.model.JobUsage`, absent where they are not told."""

    job_id: str
    elapsed: int | None = None
    cpus: int | None = None
    cpu_seconds: float | None = None
    memory: int | None = None
    memory_limit: int | None = None
    gpus: int | None = None
    gpu_use: float | None = None


class UsageAnswer(Message):
    """200 of `GET /compute/{system}/jobs/{id}/usage`; several entries for an array."""

    usage: list[JobUsageInfo] | None = None
    """absent: the scheduler does not tell"""
    reason: str | None = None
    """why `usage` is absent"""


class SlurmAnswer(Message):
    """200 of `GET /status/{system}/slurm`: what the command left."""

    exit_code: int | None = None
    """absent: the scheduler is not Slurm, and nothing was run"""
    output: str = ""
    errors: str = ""


class SubmissionAnswer(Message):
    """200 of `GET jobs/submitted`: whether the caller has used the key of the `Idempotency-Key` header here."""

    known: bool
    job_id: str | None = None
    """absent while it is open whether there is a job: submit with the key again, and it will be known"""


MOST_IN_A_BATCH = 1000


class BatchItem(Message):
    """One job of a batch; `key` is its idempotency key."""

    job: JobDescription
    key: str | None = None


class BatchRequest(Message):
    """`POST jobs/batch`"""

    jobs: list[BatchItem]


class BatchError(Message):
    """What a single submission would have answered."""

    status: int
    message: str
    caused_by: list[str] | None = None
    retry_after: float | None = None


class BatchOutcome(Message):
    """Either a job id or an error."""

    job_id: str | None = None
    error: BatchError | None = None


class BatchAnswer(Message):
    """200 of `POST jobs/batch`: one outcome per job, in their order."""

    results: list[BatchOutcome]


LongestPath = Annotated[str, msgspec.Meta(max_length=32768)]
"""more than any system takes"""


class ManifestRequest(Message):
    """`POST ops/manifest`: which of these files differ from what lies below `path`?"""

    path: LongestPath
    files: dict[str, str]
    """path below the directory -> hexadecimal SHA-256"""


class ManifestAnswer(Message):
    """The files of a `ManifestRequest` that are absent or differ."""

    changed: list[str]


class TarSelection(Message):
    """Files and links below one directory: what is not older than a file there, and what matches a pattern."""

    directory: str
    """below the request's `path`, or `.`, which is `path` itself; one that is not there holds nothing"""
    since: str | None = None
    """name of a file in the directory; what was changed since it was, itself left out. Absent: nothing but patterns"""
    patterns: tuple[str, ...] = ()
    """as a shell writes them, for paths below the directory; `*` also matches `/`"""


class TarRequest(Message):
    """`POST ops/tar`: these files and links below `path` as one tar stream; all of them if `files` is absent."""

    path: LongestPath
    files: list[str] | None = None
    select: list[TarSelection] | None = None
    """in place of `files`: chosen by age and name"""


API_KEY_HEADER = "X-API-Key"
"""holds an API key; `Authorization: Bearer` takes one, too"""

API_KEY_PREFIX = "crk_"
"""every API key begins with it, so that scanners for leaked secrets find one"""

Scope = Literal["status:read", "jobs:read", "jobs:write", "files:read", "files:write", "keys:read", "keys:write"]
"""what a credential may allow: `<part of the API>:<read or write>`; `write` does not include `read`"""

SCOPES: frozenset[Scope] = frozenset(get_args(Scope))


class ApiKeyRequest(Message):
    """`POST /keys`."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    """what it is for"""
    scopes: list[Scope] | None = None
    """None: all that the caller has, but for `keys:read` and `keys:write`"""
    expires_in: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """seconds; None: the gateway's default"""


class ApiKeyInfo(Message):
    """What is told of an API key; times in seconds since the epoch."""

    key_id: str
    name: str
    username: str
    """the POSIX user that it acts as"""
    scopes: list[Scope]
    created: int
    expires: int
    last_used: int | None = None
    """to within a minute"""


class NewApiKey(ApiKeyInfo, kw_only=True):
    """The answer of `POST /keys`."""

    secret: str
    """the key itself, told this once"""

    def __repr__(self) -> str:
        return f"NewApiKey({self.key_id})"


class ApiKeysAnswer(Message):
    """The answer of `GET /keys`: the keys that were not revoked, the newest first."""

    keys: list[ApiKeyInfo]
