"""State and HTTP server of the facility. It reads the calls and their parameters from the API's specification."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from crestline.testing.iri.files import run_operation
from crestline.testing.iri.jobs import Job
from crestline.testing.iri.records import ELSEWHERE, ENTRIES, LISTS, MISSING_WHEN_EMPTY, SINCE

TOKEN = "12345"  # noqa: S105 - for tests alone
LIMIT = 5 * 1024 * 1024
SPEC_FIELDS = {
    "executable", "container", "arguments", "directory", "name", "inherit_environment", "environment", "stdin_path",
    "stdout_path", "stderr_path", "resources", "attributes", "pre_launch", "post_launch", "launcher",
}  # fmt: skip
PBS_REFUSES = ("environment", "stdin_path", "pre_launch", "post_launch", "launcher")
PBS_REFUSES_RESOURCES = (
    "process_count",
    "processes_per_node",
    "cpu_cores_per_process",
    "gpu_cores_per_process",
)


@dataclass
class Deviations:
    """Differences of a facility from the API's specification.

    >>> Deviations(has_list=False).has_filesystem
    True
    """

    versions: tuple[int, ...] = (1, 2)
    """versions of the API that the facility serves"""
    has_list: bool = True
    """False if the list of jobs answers 504, as at NERSC"""
    has_filesystem: bool = True
    """False if the facility offers no files, as at OLCF"""
    reports_scheduler_states: bool = True
    """False if answers contain only the seven states of the API"""
    absent: int = 404
    """status that a proxy answers for paths that are not served"""
    tasks_stay_pending: bool = False
    """True if tasks never end"""
    polls: int = 1
    """number of requests for a task before it has ended"""
    has_key_store: bool = True
    """False if a request with an Idempotency-Key is answered with 501"""
    has_specs: bool = True
    """False if `include_spec` is answered with 501"""
    ignores_paths: bool = False
    """True if `directory` and the output paths have no effect, as reported of NERSC"""
    is_pbs: bool = False
    """True for the refusals of ALCF: it requires output paths, a queue and a time, and answers 400 to unknown jobs"""
    has_recursive_listings: bool = True
    lacks: tuple[str, ...] = ()
    """operations on files that answer 501, as many do at ALCF"""
    ignores_offsets: bool = False
    """True if lists of jobs ignore offset and limit"""
    forgets_tasks: bool = False
    """True if tasks are unknown as soon as they have started"""
    unknown_state: str = ""
    """state of running jobs, in a word that the specification lacks; empty for the specified one"""
    task_error_field: str = "output"


class ProblemError(Exception):
    """An error answer with its HTTP status and detail."""

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}


@dataclass
class Facility:
    """A running facility; `running` creates it.

    Attributes:
        root: directory of the user's files.
        deviations: differences from the specification.
        url: base URL of the server.
        requests: operations that were requested, in order.
        lose_answers: number of further submissions that are carried out without an answer.
        unknown: `User` or `Resource`, which requests for jobs then do not find.
    """

    root: Path
    deviations: Deviations = field(default_factory=Deviations)
    url: str = ""
    requests: list[str] = field(default_factory=list)
    lose_answers: int = 0
    unknown: str = ""
    status: str = "up"
    jobs: dict[str, Job] = field(default_factory=dict)
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    keys: dict[str, tuple[dict[str, Any], dict[str, Any]]] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    compute: str = str(uuid.uuid5(uuid.NAMESPACE_URL, "compute"))
    storage: str = str(uuid.uuid5(uuid.NAMESPACE_URL, "storage"))

    def call(self, version: int, name: str, request: Request) -> tuple[int, Any]:
        """Return the answer of an operation, by its `operationId`."""
        self.requests.append(name)
        if self.unknown and name in ("getJob", "getJobs", "launchJob"):
            raise ProblemError(404, f"{self.unknown} not found")
        if "resource_id" in request.path and name not in ("getResource",):
            known = (
                self.compute if name in ("launchJob", "updateJob", "getJob", "getJobs", "cancelJob") else self.storage
            )
            if request.path["resource_id"] != known:
                raise ProblemError(404, "Resource not found")
        method = getattr(self, "_" + re.sub("([A-Z])", lambda match: "_" + match[1].lower(), name), None)
        if method is not None:
            result: tuple[int, Any] = method(version, request)
            return result
        if name in LISTS or name in ENTRIES:
            return self._records(version, name, request)
        if name in OPERATIONS:
            return self._begin_task(name, request)
        raise ProblemError(501, f"{name} is not implemented")

    # Endpoints of the status group.

    def _get_facility(self, version: int, request: Request) -> tuple[int, Any]:
        return 200, {
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, "facility")), "name": "Stand-in", "site_uris": [],
            "last_modified": SINCE, "self_uri": f"{ELSEWHERE}/facility",
        }  # fmt: skip

    def _records(self, version: int, name: str, request: Request) -> tuple[int, Any]:
        if name in ENTRIES:
            parameter, records = ENTRIES[name]
            for each in records(self, version):
                if each["id"] == request.path[parameter]:
                    return 200, each
            raise ProblemError(404, f"{parameter} not found")
        found = LISTS[name](self, version) if request.path.get("project_id", "p/0") == "p/0" else []
        if not found and name in MISSING_WHEN_EMPTY:
            raise ProblemError(404, "Nothing found")
        offset, limit = int(request.query.get("offset", "0")), int(request.query.get("limit", "100"))
        return 200, found[offset : offset + limit]

    # Endpoints of the compute group.

    def _launch_job(self, version: int, request: Request) -> tuple[int, Any]:
        spec = request.body
        if extra := spec.keys() - SPEC_FIELDS - ({"attributes"} if version >= 2 else set()):
            raise ProblemError(400, f"{sorted(extra)[0]}: Extra inputs are not permitted")
        if not spec.get("executable"):
            raise ProblemError(400, "executable is required")
        self._check_pbs(spec)
        key = request.headers.get("Idempotency-Key") if version >= 2 else None
        if key and not self.deviations.has_key_store:
            raise ProblemError(501, "Idempotency is not configured")
        with self.lock:
            if key in self.keys:
                before, answer = self.keys[key]
                if before != spec:
                    raise ProblemError(422, "Idempotency-Key was used with another body")
                return 200, answer
            job = Job(
                str(1000 + len(self.jobs)),
                spec,
                self.root,
                ignores_paths=self.deviations.ignores_paths,
                is_pbs=self.deviations.is_pbs,
            )
            self.jobs[job.id] = job
            answer = {"id": job.id, "status": {"state": "new"}}
            if key:
                self.keys[key] = (spec, answer)
        job.start()
        with self.lock:
            if self.lose_answers:
                self.lose_answers -= 1
                raise ConnectionAbortedError
        return 200, answer

    def _check_pbs(self, spec: dict[str, Any]) -> None:
        if not self.deviations.is_pbs:
            return
        resources = spec.get("resources") or {}
        refused = [name for name in PBS_REFUSES if spec.get(name)]
        refused += [name for name in PBS_REFUSES_RESOURCES if resources.get(name)]
        if resources.get("exclusive_node_use") is False:
            refused.append("exclusive_node_use")
        if refused:
            raise ProblemError(501, f"{', '.join(refused)} not supported")
        if not spec.get("stdout_path") or not spec.get("stderr_path"):
            raise ProblemError(400, "stdout_path and stderr_path are required")
        attributes = spec.get("attributes") or {}
        if "filesystems" not in (attributes.get("custom_attributes") or {}):
            raise ProblemError(400, "GraphQL error: filesystems are required")
        if missing := [name for name in ("queue_name", "duration") if not attributes.get(name)]:
            raise ProblemError(400, f"GraphQL error: {', '.join(missing)} required")

    def _job(self, request: Request) -> Job:
        try:
            return self.jobs[request.path["job_id"]]
        except KeyError:
            job_id = request.path["job_id"]
            raise ProblemError(400 if self.deviations.is_pbs else 404, f"Job {job_id} not found.") from None

    def _get_job(self, version: int, request: Request) -> tuple[int, Any]:
        return 200, self._show(self._job(request), request)

    def _get_jobs(self, version: int, request: Request) -> tuple[int, Any]:
        if not self.deviations.has_list:
            raise ProblemError(504, "Timeout")
        shown = [self._show(job, request) for job in list(self.jobs.values())]
        if request.query.get("historical") != "true":
            shown = [each for each in shown if each["status"]["state"] not in ("completed", "failed", "canceled")]
        if self.deviations.ignores_offsets:
            return 200, shown
        offset, limit = int(request.query.get("offset", "0")), int(request.query.get("limit", "100"))
        return 200, shown[offset : offset + limit]

    def _show(self, job: Job, request: Request) -> dict[str, Any]:
        with_spec = request.query.get("include_spec") == "true"
        if with_spec and not self.deviations.has_specs:
            raise ProblemError(501, "include_spec is not supported")
        shown = job.show(reports_scheduler_states=self.deviations.reports_scheduler_states)
        if self.deviations.unknown_state and shown["status"]["state"] == "active":
            shown["status"]["state"] = self.deviations.unknown_state
        return shown | ({"job_spec": job.spec} if with_spec else {})

    def _update_job(self, version: int, request: Request) -> tuple[int, Any]:
        raise ProblemError(422, f"Job {self._job(request).id} cannot be changed")

    def _cancel_job(self, version: int, request: Request) -> tuple[int, Any]:
        job = self._job(request)
        if not job.cancel():
            raise ProblemError(400, f"Job {job.id} has already ended")
        return 204, None

    # Endpoints of the filesystem group.

    def _begin_task(self, name: str, request: Request) -> tuple[int, Any]:
        if name in self.deviations.lacks:
            raise ProblemError(501, f"{name} is not implemented")
        fields = dict(request.query) | request.body
        if name == "upload" and len(request.upload) > LIMIT:
            raise ProblemError(413, "File too large")
        task_id = str(uuid.uuid4())
        task: dict[str, Any] = {
            "polls": 0,
            "fields": fields,
            "name": name,
            "upload": request.upload,
            "status": "pending",
        }
        self.tasks[task_id] = task
        return OPERATIONS[name], {"task_id": task_id, "task_uri": f"{ELSEWHERE}/task/{task_id}"}

    def _get_task(self, version: int, request: Request) -> tuple[int, Any]:
        task_id = request.path["task_id"]
        with self.lock:
            task = self.tasks.get(task_id)
            if task is None or self.deviations.forgets_tasks:
                raise ProblemError(404, "Task not found")
            task["polls"] += 1
            is_due = task["polls"] >= self.deviations.polls and not self.deviations.tasks_stay_pending
            if is_due and task["status"] == "pending":
                self._carry_out(task)
        return 200, {"id": task_id, "status": task["status"], "result": task.get("result")}

    def _carry_out(self, task: dict[str, Any]) -> None:
        try:
            is_recursive = str(task["fields"].get("recursive")).lower() == "true"
            if is_recursive and not self.deviations.has_recursive_listings:
                raise ValueError("501: recursive is not supported")
            output = run_operation(task["name"], task["fields"], task["upload"])
            task["status"], task["result"] = "completed", {"output": output}
        except (OSError, ValueError) as error:
            task["status"], task["result"] = "failed", {self.deviations.task_error_field: f"Error: {error}"}

    def _get_tasks(self, version: int, request: Request) -> tuple[int, Any]:
        return 200, [{"id": key, "status": each["status"]} for key, each in self.tasks.items()]

    def _delete_task(self, version: int, request: Request) -> tuple[int, Any]:
        if (task := self.tasks.get(request.path["task_id"])) is not None and task["status"] == "pending":
            task["status"] = "canceled"
        return 200, "deleted"

    def _get_storage_locations(self, version: int, request: Request) -> tuple[int, Any]:
        if request.query.get("logicalpath", "scratch") != "scratch":
            raise ProblemError(404, "No such location")
        access = {"read": True, "write": True, "execute": True}
        return 200, [
            {
                "logical_name": "scratch", "path": str(self.root), "filesystem": "Scratch", "shared": False,
                "access": access,
            }
        ]  # fmt: skip

    def _get_storage_access_endpoints(self, version: int, request: Request) -> tuple[int, Any]:
        return 200, [
            {
                "id": "1", "resource_id": self.storage, "protocol": "globus", "display_name": "Stand-in DTN",
                "endpoint_id": "e-42", "auth_type": "globus", "capabilities": ["read", "write", "transfer"],
            }
        ]  # fmt: skip


OPERATIONS = {
    name: 201 if name in ("mkdir", "symlink", "compress", "extract", "mv", "cp") else 200
    for name in (
        "ls", "stat", "file", "head", "tail", "view", "checksum", "download", "upload", "chmod", "chown", "mkdir",
        "symlink", "cp", "mv", "compress", "extract", "rm",
    )
}  # fmt: skip
GROUPS_WITHOUT_FILES = ("facility", "status", "compute")
PUBLIC = ("facility", "status")


@dataclass
class Request:
    """A parsed request."""

    path: dict[str, str]
    query: dict[str, str]
    body: dict[str, Any]
    headers: Any
    upload: bytes = b""


@dataclass
class _Route:
    method: str
    pattern: re.Pattern[str]
    version: int
    group: str
    name: str
    query: frozenset[str]


@cache
def routes() -> tuple[_Route, ...]:
    """Return the routes of both API documents."""
    found = []
    for version in (1, 2):
        document = json.loads(Path(__file__).with_name(f"openapi-v{version}.json").read_text())
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                pattern = re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(path)))
                query = frozenset(each["name"] for each in operation.get("parameters", []) if each["in"] == "query")
                group = path.split("/")[3]
                found.append(_Route(method.upper(), pattern, version, group, operation["operationId"], query))
    return tuple(found)


class _Handler(BaseHTTPRequestHandler):
    disable_nagle_algorithm = True
    protocol_version = "HTTP/1.1"
    facility: Facility

    def _handle(self) -> None:
        length = int(self.headers.get("Content-Length", "0"))
        body = self.rfile.read(length)
        try:
            status, answer = self._answer(body)
            headers: dict[str, str] = {}
        except ProblemError as problem:
            status, headers = problem.status, problem.headers
            path = self.path.partition("?")[0]
            answer = {"type": "about:blank", "status": status, "detail": problem.detail, "instance": path}
        except ConnectionAbortedError:
            self.close_connection = True
            return
        content = b"" if status == 204 else json.dumps(answer).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Type", "application/json" if status < 400 else "application/problem+json")
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_DELETE = _handle  # noqa: N815

    def _answer(self, body: bytes) -> tuple[int, Any]:
        url = urlsplit(self.path)
        deviations = self.facility.deviations
        for route in routes():
            match = route.pattern.fullmatch(url.path)
            if match is None or route.method != self.command or route.version not in deviations.versions:
                continue
            if not deviations.has_filesystem and route.group not in GROUPS_WITHOUT_FILES:
                continue
            if route.group not in PUBLIC and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                raise ProblemError(401, "Invalid token", {"WWW-Authenticate": "Bearer"})
            pairs = parse_qsl(url.query, keep_blank_values=True)
            query = dict(pairs)
            if route.group in ("compute", "status", "facility") and (
                set(query) - route.query or len(query) < len(pairs)
            ):
                raise ProblemError(422, f"Unknown or repeated parameter in {url.query}")
            request = Request(
                {name: unquote(each) for name, each in match.groupdict().items()}, query, {}, self.headers
            )
            kind = self.headers.get("Content-Type", "")
            if kind.startswith("multipart/form-data"):
                request.upload = _form_file(body, kind)
            elif body:
                try:
                    request.body = dict(json.loads(body))
                except (TypeError, ValueError):
                    raise ProblemError(400, "The body is not a JSON object") from None
            return self.facility.call(route.version, route.name, request)
        raise ProblemError(deviations.absent, "Not Found")

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


def _form_file(body: bytes, kind: str) -> bytes:
    boundary = kind.partition("boundary=")[2].strip('"').encode()
    part = body.split(b"--" + boundary)[1]
    return part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Do not log the disconnect of a client as an error."""


@contextlib.contextmanager
def running(root: Path, deviations: Deviations | None = None) -> Iterator[Facility]:
    """Serve a facility on loopback, with `root` as the user's directory. Its `url` is the root of the API."""
    facility = Facility(root, deviations or Deviations())
    handler = type("Handler", (_Handler,), {"facility": facility})
    with _Server(("127.0.0.1", 0), handler) as server:
        facility.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield facility
        finally:
            server.shutdown()
            thread.join()
            for job in facility.jobs.values():
                job.cancel()
