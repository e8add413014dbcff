"""A simulated plain FirecREST v2 for a simulated cluster, with the distortions of Slurm's accounting.

Responses are pure functions of the cluster's history and a time, so that they can come from a replica with older data.
"""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qs

import httpx

from crestline.testing.simulation.answers import EPOCH, SYSTEM, USER, answer, http_date, ok, refusal
from crestline.testing.simulation.cluster import ENDED, SimulatedCluster, SimulatedJob
from crestline.testing.simulation.files import FileEndpoints
from crestline.testing.simulation.world import World

_MIN_JOB_AGE = 300.0
"""Seconds for which slurmctld remembers a finished job."""
_WINDOWS = {"1h": 3600, "8h": 8 * 3600, "24h": 86400, "3d": 3 * 86400, "7d": 7 * 86400}
_LEAST_LIFE = 30.0
"""Minimum remaining lifetime of an access token, in seconds."""
_OPS = re.compile(rf"^/filesystem/{SYSTEM}/(?P<how>ops|transfer)/(?P<operation>\w+)$")
_JOBS = re.compile(rf"^/compute/{SYSTEM}/jobs(/(?P<job_id>[^/]+)(?P<metadata>/metadata)?)?$")


class SimulatedFirecrest:
    """Answers requests. Its only state are the valid access tokens.

    Attributes:
        has_filters: whether it is version 2.6 or later, which filters lists by name and time.
    """

    def __init__(self, world: World, cluster: SimulatedCluster, *, has_filters: bool, token_life: float) -> None:
        self._world = world
        self._cluster = cluster
        self._files = FileEndpoints(world, cluster.files, cluster.run)
        self.has_filters = has_filters
        self.token_life = token_life
        self._tokens: dict[str, float] = {}

    def issue(self) -> str:
        """Return a new access token, as an identity provider issues it."""
        token = f"token-{len(self._tokens) + 1}"
        self._tokens[token] = self._world.now + self.token_life
        return token

    def revoke_all(self) -> None:
        """Reject all tokens issued so far, as after a rotation of the signing keys."""
        self._tokens = dict.fromkeys(self._tokens, 0.0)

    def answer(self, request: httpx.Request, body: bytes, by: str, time: float) -> httpx.Response:
        """Execute a request.

        Args:
            by: the name of the request, recorded with its effects.
            time: the time of the data in the response.
        """
        response = self._respond(request, body, by, time)
        response.headers["Date"] = http_date(int(EPOCH + self._world.now))
        return response

    def _respond(self, request: httpx.Request, body: bytes, by: str, time: float) -> httpx.Response:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self._world.now > self._tokens.get(token, 0.0) - _LEAST_LIFE:
            return refusal(401, "Access token expires too soon (less than 30s remaining).")
        path, query = request.url.path, {name: each[-1] for name, each in parse_qs(request.url.query.decode()).items()}
        if path == "/status/systems":
            return ok({"systems": [_SYSTEM_ENTRY]})
        if path == f"/status/{SYSTEM}/userinfo":
            named = {"id": "1001", "name": USER}
            return ok({"user": named, "group": named, "groups": [named], "accounts": []})
        if match := _JOBS.match(path):
            return self._jobs(request.method, match["job_id"], match["metadata"], query, body, by, time)
        if match := _OPS.match(path):
            if match["how"] == "transfer":
                return self._files.begin(request, match["operation"], query, body)
            return self._files.answer(request, match["operation"], query, body, by)
        return refusal(404, "Not Found")

    def _jobs(
        self,
        method: str,
        job_id: str | None,
        metadata: str | None,
        query: dict[str, str],
        body: bytes,
        by: str,
        time: float,
    ) -> httpx.Response:
        if method == "POST":
            job = json.loads(body)["job"]
            return ok({"jobId": self._cluster.submit(job["script"], job["workingDirectory"], job["name"], by)}, 201)
        if job_id is None:
            return self._list(query, time)
        jobs = self._cluster.find(job_id)
        if method == "DELETE":
            if not jobs or all(job.is_over for job in jobs):
                is_forgotten = all((job.end(time) or time) < time - _MIN_JOB_AGE for job in jobs)
                why = "Invalid job id specified" if is_forgotten else "Job/step already completing or completed"
                error = f"scancel: Terminating job {job_id}\nscancel: error: Kill job error on job id {job_id}: {why}\n"
                return refusal(500, f"Unexpected Slurm command response. exit_status:0 std_err:{error}")
            for job in jobs:
                self._cluster.cancel(job)
            return answer(204, b"")
        rows = self._rows(jobs, time)
        if rows and metadata:
            rows = [{"jobId": job_id, "script": jobs[0].script, "standardInput": "/dev/null"}]
        return ok({"jobs": rows}) if rows else refusal(404, "Job not found.")

    def _list(self, query: dict[str, str], time: float) -> httpx.Response:
        window = _WINDOWS[query.get("time_window", "24h") if self.has_filters else "7d"]
        jobs = [job for job in self._cluster.jobs if (end := job.end(time)) is None or time - end < window]
        rows = self._rows(jobs, time)
        if self.has_filters and "name" in query:
            names = query["name"].split(",")
            rows = [row for row in rows if row["name"] in names]
        return ok({"jobs": rows})

    # Rows of the accounting, followed by those of the queue.

    def _rows(self, jobs: list[SimulatedJob], time: float) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        queued: list[dict[str, Any]] = []
        waiting: dict[int, list[SimulatedJob]] = {}
        for job in jobs:
            if time < job.submitted + job.hidden:
                continue
            start = job.start(time)
            if start is not None and time < start + job.lag:
                rows += self._lagging(job, time)
            elif job.array_id is None:
                rows.append(self._row(job, str(job.number), time, nameless=time < job.submitted + job.nameless))
            elif start is None and job.at(time).state not in ENDED:
                waiting.setdefault(job.array_id, []).append(job)
            else:
                rows.append(self._row(job, f"{job.array_id}_{job.index}", time))
                if job.at(time).state not in ENDED:
                    queued.append(self._row(job, str(job.number), time, is_queue=True))
        for array_id, elements in waiting.items():
            indexes = ",".join(str(each.index) for each in elements)
            rows.append(self._row(elements[0], f"{array_id}_[{indexes}]", time))
            queued.append(self._row(elements[0], str(array_id), time))
        return rows + queued

    def _lagging(self, job: SimulatedJob, time: float) -> list[dict[str, Any]]:
        """Return the rows of a running or finished job whose name the accounting does not know yet."""
        if job.array_id in (None, job.number):  # the last task of an array has the number of the array
            row = self._row(job, str(job.number), time, nameless=True)
            if job.at(time).state not in ENDED:
                row["status"] |= {"state": "PENDING"}
            return [row]
        return [] if job.at(time).state in ENDED else [self._row(job, str(job.number), time, is_queue=True)]

    def _row(
        self, job: SimulatedJob, shown_id: str, time: float, *, nameless: bool = False, is_queue: bool = False
    ) -> dict[str, Any]:
        moment, start, end = job.at(time), job.start(time), job.end(time)
        state = moment.state
        if state == "RUNNING" and not is_queue and start is not None and time < start + job.stale:
            state = "PENDING"
        times = {
            "elapsed": int((end or time) - start) if start is not None else 0,
            "start": None if start is None else int(EPOCH + start),
            "end": None if end is None else int(EPOCH + end),
            "suspended": 0,
            "limit": 86400,
        }
        return {
            "jobId": shown_id,
            "name": "allocation" if nameless else job.name,
            "status": {
                "state": state,
                "stateReason": "None",
                "exitCode": moment.exit_code,
                "interruptSignal": moment.signal,
            },
            "tasks": [],
            "time": times,
            "account": "project",
            "allocationNodes": 1,
            "cluster": SYSTEM,
            "group": USER,
            "nodes": "n01" if start is not None else "None assigned",
            "partition": "normal",
            "killRequestUser": None,
            "user": USER,
            "workingDirectory": "" if nameless else job.workdir,
            "priority": 1000,
        }


_SYSTEM_ENTRY = {
    "name": SYSTEM,
    "scheduler": {"type": "slurm"},
    "fileSystems": [{"path": "/home", "dataType": "users", "defaultWorkDir": True}],
    "dataOperation": {"max_ops_file_size": 5242880, "data_transfer": {"serviceType": "s3"}},
}
