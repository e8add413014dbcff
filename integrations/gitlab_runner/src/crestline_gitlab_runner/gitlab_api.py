"""Artifacts to and from a GitLab server, and caches to and from the storage by the runner's signed URLs."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import httpx

from crestline.bounded import MAX_REFUSAL, BoundedClient, no_cookies
from crestline_gitlab_runner.failures import BuildFailureError, SystemFailureError

_TRIES = 3
_PAUSE = 5.0
_MOST_REDIRECTS = 5
_TIMEOUT = httpx.Timeout(60.0, read=600.0, write=600.0)
_WHOLE = 4 * 3600.0
"""Seconds for an upload and its response."""
_CHUNK = 1 << 20


class NotFoundError(BuildFailureError):
    """The URL does not exist."""


class GitLabApi:
    """The HTTP requests of the runner's helper.

    Args:
        authority: PEM certificates of authorities in addition to the system's; empty: none.
        largest: maximum bytes of a download.
    """

    def __init__(self, *, authority: str, largest: int) -> None:
        self._verify: ssl.SSLContext | bool = True
        if authority:
            self._verify = httpx.create_ssl_context()
            try:
                self._verify.load_verify_locations(cadata=authority)
            except (ssl.SSLError, ValueError, TypeError):  # TypeError: not ASCII
                raise BuildFailureError(
                    "CI_SERVER_TLS_CA_FILE holds no certificates in PEM.", hint="Unset it."
                ) from None
        self._largest = largest

    async def upload_artifacts(
        self, server: str, job_id: str, token: str, archive: Path, *, name: str, query: Mapping[str, str]
    ) -> None:
        """Upload an archive to GitLab as a job's artifacts.

        Raises:
            BuildFailureError: GitLab refuses it.
            SystemFailureError: GitLab does not respond.
        """
        url = f"{server.rstrip('/')}/api/v4/jobs/{int(job_id)}/artifacts"

        async def send(client: httpx.AsyncClient, address: str) -> httpx.Response:
            with archive.open("rb") as content:
                parts = {"file": (name, content, "application/octet-stream")}
                return await client.post(address, params=dict(query), files=parts, headers={"JOB-TOKEN": token})

        answer = await self._repeat(send, url, "Artifacts could not be uploaded")
        for _ in range(_MOST_REDIRECTS):
            if not answer.has_redirect_location:
                break
            target = urljoin(url, answer.headers["Location"])
            if urlsplit(target).netloc != urlsplit(url).netloc:
                raise SystemFailureError(f"GitLab sends artifacts elsewhere: to {urlsplit(target).netloc}.")
            answer = await self._repeat(send, target, "Artifacts could not be uploaded")
        if answer.status_code == httpx.codes.REQUEST_ENTITY_TOO_LARGE:
            raise BuildFailureError("GitLab refuses the artifacts: they are too large.", hint="Upload fewer files.")
        _expect(answer, "GitLab refuses the artifacts")

    async def download_artifacts(self, server: str, job_id: str, token: str, target: Path) -> None:
        """Fetch a job's artifacts.

        Raises:
            NotFoundError: the job has none.
            BuildFailureError, SystemFailureError: as `upload_artifacts`.
        """
        url = f"{server.rstrip('/')}/api/v4/jobs/{int(job_id)}/artifacts?direct_download=true"
        await self._download(url, {"JOB-TOKEN": token}, target, "The artifacts")

    async def download_cache(self, url: str, target: Path) -> None:
        """Fetch a cache from a signed URL of the runner.

        Raises:
            NotFoundError: the cache does not exist.
            BuildFailureError, SystemFailureError: as `upload_artifacts`.
        """
        await self._download(url, {}, target, "The cache")

    async def upload_cache(self, url: str, headers: Mapping[str, str], archive: Path) -> None:
        """Upload a cache to a signed URL of the runner.

        Raises:
            BuildFailureError, SystemFailureError: as `upload_artifacts`.
        """

        async def send(client: httpx.AsyncClient, address: str) -> httpx.Response:
            length = {"Content-Length": str(archive.stat().st_size)}
            return await client.put(address, content=_read(archive), headers={**headers, **length})

        _expect(await self._repeat(send, url, "The cache could not be uploaded"), "The cache is refused")

    async def _download(self, url: str, headers: dict[str, str], target: Path, what: str) -> None:
        for left in reversed(range(_TRIES)):
            try:
                await self._fetch(url, headers, target, what)
                return
            except httpx.HTTPError as error:
                if not left:
                    raise SystemFailureError(f"{what} cannot be fetched: {_said(error)}.") from None
                await asyncio.sleep(_PAUSE)

    async def _fetch(self, url: str, headers: dict[str, str], target: Path, what: str) -> None:
        async with httpx.AsyncClient(verify=self._verify, timeout=_TIMEOUT, cookies=no_cookies()) as client:
            for _ in range(_MOST_REDIRECTS):
                async with client.stream("GET", url, headers={**headers, "Accept-Encoding": "identity"}) as answer:
                    if answer.has_redirect_location:
                        following = urljoin(url, answer.headers["Location"])
                        if urlsplit(following).netloc != urlsplit(url).netloc:
                            headers = {}
                        url = following
                        continue
                    if answer.status_code == httpx.codes.NOT_FOUND:
                        raise NotFoundError(f"{what} cannot be found.")
                    answer.raise_for_status() if answer.is_server_error else None
                    _expect(answer, f"{what} cannot be fetched")
                    await self._save(answer, target, what)
                    return
        raise SystemFailureError(f"{what} cannot be fetched: too many redirections.")

    async def _save(self, answer: httpx.Response, target: Path, what: str) -> None:
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            raise SystemFailureError(f"{what} cannot be fetched: packed once more, which was not asked for.")
        received = 0
        with target.open("wb") as file:
            async for chunk in answer.aiter_raw(_CHUNK):
                received += len(chunk)
                if received > self._largest:
                    raise BuildFailureError(
                        f"{what}: more than {self._largest} bytes.", hint="limits.archive of this runner is the limit."
                    )
                file.write(chunk)

    async def _repeat(self, send: object, url: str, what: str) -> httpx.Response:
        for left in reversed(range(_TRIES)):
            try:
                async with self._client() as client:
                    answer: httpx.Response = await send(client, url)  # type: ignore[operator]
                if not answer.is_server_error:
                    return answer
                said = _status(answer)
            except httpx.HTTPError as error:
                said = _said(error)
            if left:
                await asyncio.sleep(_PAUSE)
        raise SystemFailureError(f"{what}: {said}.")

    def _client(self) -> BoundedClient:
        return BoundedClient(limit=MAX_REFUSAL, seconds=_WHOLE, verify=self._verify, timeout=_TIMEOUT)


def is_of_project(url: str, project_id: int) -> bool:
    """Whether the URL of a cache belongs to the project, regardless of the cache's key."""
    path = unquote(urlsplit(url).path)
    first = re.search(r"/project/(\d+)/", path)  # the key follows
    return ".." not in path.split("/") and first is not None and int(first[1]) == project_id


def safe_name(text: str) -> str:
    """Return a file name without directories and control characters."""
    return re.sub(r"[\x00-\x1f\x7f\"\\]", "_", text.rpartition("/")[2])[:200]


async def _read(file: Path) -> AsyncIterator[bytes]:
    with file.open("rb") as content:
        while chunk := await asyncio.to_thread(content.read, _CHUNK):
            yield chunk


def _expect(answer: httpx.Response, what: str) -> None:
    if not answer.is_success:
        raise BuildFailureError(f"{what}: {_status(answer)}.")


def _said(error: httpx.HTTPError) -> str:
    if isinstance(error, httpx.HTTPStatusError):
        return _status(error.response)
    return type(error).__name__


def _status(answer: httpx.Response) -> str:
    """Return the status with HTTP's own phrase, because a server may repeat a token in its own."""
    return f"{answer.status_code} {httpx.codes.get_reason_phrase(answer.status_code)}".rstrip()
