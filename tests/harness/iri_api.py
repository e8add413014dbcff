"""The IRI API of a gateway as tests use it: by Crestline's own client and by plain HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from crestline.client import Policy, PollPolicy, RetryPolicy, Site, SubmitPolicy
from harness.gateway import RunningGateway
from harness.waiting import until_blocking

QUICK = Policy(
    poll=PollPolicy(min_interval=0.05, max_interval=0.5),
    submit=SubmitPolicy(visibility_timeout=0.2, poll_interval=0.05, total_timeout=20),
    retry=RetryPolicy(initial_backoff=0.05, max_backoff=0.1, attempts=2),
)
VERSIONS = pytest.mark.parametrize("version", [1, 2], ids=["v1", "v2"])
METHODS = {
    "ls": "GET", "stat": "GET", "file": "GET", "head": "GET", "tail": "GET", "view": "GET", "checksum": "GET",
    "download": "GET", "rm": "DELETE", "chmod": "PUT", "chown": "PUT",
}  # fmt: skip


def site_of(gateway: RunningGateway, version: int, workdir: Path, **token: str) -> Site:
    url = f"{gateway.url}/iri/api/v{version}"
    return Site(name="iri", url=url, api="iri", token=gateway.token(**token), options={"workdir": str(workdir)})


class Face:
    """The API by plain HTTP, for one token."""

    def __init__(self, gateway: RunningGateway, version: int, token: str | None = None) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.version = version
        self.http = httpx.Client(
            base_url=f"{gateway.url}/iri/api/v{version}", headers=headers, timeout=60, trust_env=False
        )

    def named(self, name: str) -> str:
        """The id of a resource."""
        return next(str(each["id"]) for each in self.http.get("/status/resources").json() if each["name"] == name)

    def id_of(self, endpoint: str) -> str:
        found = self.http.get("/status/resources").json()
        return next(str(each["id"]) for each in found if each["supported_endpoints"] == [endpoint])

    def begin(self, name: str, **fields: Any) -> httpx.Response:
        """Begin a task; `resource` is an id."""
        url = f"/filesystem/{name}/{fields.pop('resource', 'local')}"
        method = METHODS.get(name, "POST") if self.version == 1 else "POST"
        if method in ("GET", "DELETE"):
            return self.http.request(method, url, params=fields)
        return self.http.request(method, url, json=fields)

    def task(self, name: str, **fields: Any) -> dict[str, Any]:
        """An operation on files, to its end."""
        answer = self.begin(name, **fields)
        assert answer.status_code in (200, 201), answer.text

        def ended() -> dict[str, Any] | None:
            task: dict[str, Any] = self.http.get(f"/task/{answer.json()['task_id']}").json()
            return task if task["status"] not in ("pending", "active") else None

        return until_blocking(ended) or {}

    def submit(self, **spec: Any) -> httpx.Response:
        return self.http.post("/compute/job/local", json=spec)

    def wait(self, job_id: str) -> dict[str, Any]:
        def ended() -> dict[str, Any] | None:
            answer = self.http.get(f"/compute/status/local/{job_id}")
            assert answer.status_code in (200, 404), answer.text
            found: dict[str, Any] = answer.json()
            has_ended = answer.status_code == 200 and found["status"]["state"] in ("completed", "failed", "canceled")
            return found if has_ended else None

        return until_blocking(ended) or {}
