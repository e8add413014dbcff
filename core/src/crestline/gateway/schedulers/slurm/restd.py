"""slurmrestd: the queue by HTTP in place of squeue, as each user with a token of their own."""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

import httpx
import msgspec
from joserfc import jwt
from joserfc.jwk import OctKey

from crestline.bounded import BoundedClient, decode
from crestline.gateway.schedulers.error_patterns import RETRY_AFTER
from crestline.gateway.schedulers.job_cache import CachedJob
from crestline.gateway.schedulers.single_flight_cache import SingleFlightCache
from crestline.gateway.schedulers.slurm import ids as job_ids
from crestline.gateway.schedulers.slurm.options import RestOptions
from crestline.gateway.schedulers.slurm.restd_jobs import JobsDocument, entries_of, is_cut_short
from crestline.model import (
    ConfigError,
    CrestlineError,
    GatewayUnavailableError,
    JobNotFoundError,
    PermissionDeniedError,
    normalize_state,
)
from crestline.plain_http import check_url

OLDEST, NEWEST = 38, 44
"""Supported versions v0.0.N of the interface. The newest one that both ends support is used."""

_TOKEN_LIFE = 300.0
_VERSION_AGE = 600.0
_FEW = 4
"""Maximum number of ids that are queried one by one."""
_LIMIT = 512 << 20
"""Maximum size in bytes of an answer. Slurm's newest versions need about 5 KB for each job of the queue."""
_WHOLE = 60.0
"""Seconds until an answer is complete."""
_LARGE = 256 * 1024
"""Bytes from which an answer is decoded outside the event loop."""
_SAID = 10
"""Maximum number of errors of an answer that are read."""
_NO_JOB = frozenset({2017, 2018, 2021, 9002})
"""Error numbers of a job that is unknown, forgotten or has ended."""
_NO_PERMISSION = frozenset({2002})
_PERMISSION_DENIED = "Slurm: Access/permission denied."

T = TypeVar("T")


class _Error(msgspec.Struct):
    error_number: int = 0
    error: str | None = None
    description: str | None = None


class _StepError(msgspec.Struct):
    code: int = 0
    message: str | None = None


class _CancelStatus(msgspec.Struct):
    error: _StepError = msgspec.field(default_factory=_StepError)


class _Answer(msgspec.Struct):
    errors: list[_Error] = []
    status: list[_CancelStatus] | None = None
    """Result of a cancellation for each job, since v0.0.42."""


class _Ping(msgspec.Struct):
    ping: str | None = None
    """`UP` or `DOWN`, v0.0.38."""
    pinged: str | None = None
    """The same since v0.0.39."""


class _Pings(msgspec.Struct):
    pings: list[_Ping] = []


class Slurmrestd:
    """One slurmrestd with `rest_auth/jwt`. The gateway signs tokens with slurmctld's key."""

    def __init__(self, options: RestOptions, timeout: float) -> None:
        check_url(options.url)  # with an intercepted token, an attacker can act as its user
        self._key = OctKey.import_key(_read_key(options.jwt_key_file))
        self._tokens: dict[str, tuple[str, float]] = {}
        self._http = BoundedClient(
            limit=_LIMIT,
            seconds=_WHOLE,
            base_url=options.url,
            timeout=timeout,
            verify=ssl.create_default_context(cafile=options.ca_file) if options.url.startswith("https:") else True,
            trust_env=False,
        )
        self._asker = ""
        self._version = SingleFlightCache(self._negotiate, max_age=_VERSION_AGE)

    async def close(self) -> None:
        await self._version.close()
        await self._http.aclose()

    async def queue(
        self, user: str, owner: str | None, ids: Collection[str] | None = None
    ) -> tuple[list[CachedJob], list[str]]:
        """Return the jobs of `owner` (None: of all users), and the arrays whose pending tasks slurmrestd truncates.

        Raises:
            GatewayUnavailableError: slurmrestd or Slurm does not respond.
        """
        families = None if ids is None else sorted({job_ids.family(each) for each in ids})
        if families is not None and len(families) <= _FEW:
            documents = await asyncio.gather(*(self._get(user, f"job/{each}") for each in families))
        else:  # this version has no filter
            documents = [await self._get(user, "jobs")]
        jobs = [
            job
            for document in documents
            for job in document.jobs
            if (owner is None or job.user_name == owner) and (families is None or job.family in families)
        ]
        whole = [job for job in jobs if not is_cut_short(job)]
        return entries_of(whole), [job.family for job in jobs if is_cut_short(job)]

    async def cancel(self, user: str, job_id: str) -> None:
        """Cancel a job, an array or a task. A job that has ended does not change.

        Slurm 24.11 answers 200 to a cancellation that it refused. v0.0.42 has the refusal in `status`. v0.0.40 and
        v0.0.41 do not report it, so the job is looked up afterwards.

        Raises:
            PermissionDeniedError: the job belongs to another user.
        """
        try:
            content = await self._call("DELETE", user, f"job/{job_id}")
        except JobNotFoundError:
            return
        if _decode(content, _Answer).status is None and await self._is_alive_and_foreign(user, job_id):
            raise PermissionDeniedError(_PERMISSION_DENIED)

    async def _is_alive_and_foreign(self, user: str, job_id: str) -> bool:
        document = await self._get(user, f"job/{job_ids.family(job_id)}")
        foreign = [job for job in document.jobs if job.user_name != user]
        if any(is_cut_short(job) for job in foreign):  # slurmrestd does not list these tasks; they are pending
            return True
        return any(
            (job_ids.family(job_id) == job_id or job_ids.holds(entry.job.job_id, job_id))
            and entry.job.status.state != "COMPLETING"
            and not normalize_state(entry.job.status.state).is_terminal
            for entry in entries_of(foreign)
        )

    async def ping(self, user: str) -> str:
        """Probe slurmctld through slurmrestd.

        Raises:
            GatewayUnavailableError: no slurmctld responded, or it refuses the token, in which case Slurm 24.11 answers
                200.
        """
        pings = _decode(await self._call("GET", user, "ping"), _Pings).pings
        if not any("UP" in (each.ping, each.pinged) for each in pings):
            raise _no_answer("slurmctld did not respond to slurmrestd, or did not accept the gateway's token.")
        return f"slurmrestd answers with {await self._spoken(user)}."

    async def _get(self, user: str, what: str) -> JobsDocument:
        try:
            content = await self._call("GET", user, what)
        except JobNotFoundError:
            return JobsDocument([])
        return await _apart(content, _decode, content, JobsDocument)

    async def _call(self, method: str, user: str, what: str) -> bytes:
        answer = await self._send(method, user, f"/slurm/{await self._spoken(user)}/{what}")
        if answer.status_code == 404 and not answer.content.startswith(b"{"):
            await self._version.get(time.monotonic())  # Slurm was upgraded and supports other versions now
            answer = await self._send(method, user, f"/slurm/{await self._spoken(user)}/{what}")
        error = await _apart(answer.content, _error_of, answer)
        if error is not None:
            raise error
        return answer.content

    async def _spoken(self, user: str) -> str:
        self._asker = user
        return await self._version.get()

    async def _negotiate(self) -> str:
        answer = await self._send("GET", self._asker, "/openapi/v3")
        if answer.status_code != 200:
            raise _error_of(answer) or _no_answer(f"slurmrestd answered {answer.status_code}.")
        found = {int(number) for number in re.findall(rb'"\\?/slurm\\?/v0\.0\.(\d+)\\?/jobs\\?/?"', answer.content)}
        if spoken := [number for number in found if OLDEST <= number <= NEWEST]:
            return f"v0.0.{max(spoken)}"
        raise CrestlineError(
            f"slurmrestd speaks none of v0.0.{OLDEST} to v0.0.{NEWEST}.",
            hint="Tell the operator: load such a plug-in with `slurmrestd -s`, or do without `rest`.",
        )

    async def _send(self, method: str, user: str, path: str) -> httpx.Response:
        headers = {"X-SLURM-USER-NAME": user, "X-SLURM-USER-TOKEN": self._token(user)}
        try:
            try:
                return await self._http.request(method, path, headers=headers)
            except httpx.RemoteProtocolError:  # the server had closed an idle connection
                return await self._http.request(method, path, headers=headers)
        except httpx.HTTPError as error:
            why = error if isinstance(error, httpx.DecodingError) else type(error).__name__
            raise _no_answer(f"slurmrestd does not answer ({why}).") from error

    def _token(self, user: str) -> str:
        now = time.time()
        token, until = self._tokens.get(user, ("", 0.0))
        if now > until:
            self._tokens = {each: pair for each, pair in self._tokens.items() if pair[1] > now}
            claims: dict[str, Any] = {"sun": user, "iat": int(now), "exp": int(now + _TOKEN_LIFE)}
            token = jwt.encode({"alg": "HS256"}, claims, self._key)
            self._tokens[user] = token, now + _TOKEN_LIFE / 2
        return token


def _read_key(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"The key for slurmrestd's tokens cannot be read from {file}: {error.strerror}.",
            hint="Name a copy of slurmctld's jwt_key (AuthAltParameters) that only the gateway may read.",
        ) from error


async def _apart(content: bytes, work: Callable[..., T], *arguments: object) -> T:
    """Run work whose duration depends on the size of the content, in a thread if it is large."""
    return await asyncio.to_thread(work, *arguments) if len(content) > _LARGE else work(*arguments)


def _decode(content: bytes, kind: type[T]) -> T:
    try:
        return decode(content.decode(errors="replace"), kind)
    except msgspec.DecodeError as error:
        raise _no_answer(f"slurmrestd's answer cannot be read: {error}") from error


def _error_of(answer: httpx.Response) -> CrestlineError | None:
    """Return the error of an answer, or None."""
    try:
        document = decode(answer.content.decode(errors="replace"), _Answer)
    except msgspec.DecodeError:
        document = _Answer()
    errors = document.errors[:_SAID]
    for status in document.status or []:
        if status.error.code:
            errors.append(_Error(status.error.code, status.error.message))
    numbers = {each.error_number for each in errors}
    said = tuple(text[:500] for each in errors for text in (each.description, each.error) if text)[:_SAID]
    if numbers & _NO_JOB:
        return JobNotFoundError("Job not found.", details=said)
    if numbers & _NO_PERMISSION:
        return PermissionDeniedError(_PERMISSION_DENIED, details=said)
    if answer.status_code in (401, 403) or "authentication" in " ".join(said).lower():
        return GatewayUnavailableError(
            "slurmrestd refuses the gateway's token.",
            hint="Tell the operator: jwt_key_file must be slurmctld's jwt_key, and the clocks must agree.",
            details=said,
            retry_after=RETRY_AFTER,
        )
    if answer.is_success and not errors:
        return None
    # 22.05 answers "Unspecified error" if slurmctld is down, and also if it refuses the token.
    return GatewayUnavailableError(
        f"slurmrestd gets no answer from Slurm: {said[0] if said else answer.status_code}.",
        hint="Try again. If it stays so while slurmctld runs, the operator compares jwt_key_file with its jwt_key.",
        details=said,
        retry_after=RETRY_AFTER,
    )


def _no_answer(message: str) -> GatewayUnavailableError:
    return GatewayUnavailableError(message, hint="Try again.", retry_after=RETRY_AFTER)
