"""`GET jobs/events` of a Crestline gateway: server-sent events (WHATWG HTML, section 9.2)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import httpx
import msgspec

from crestline.bounded import decode
from crestline.client.backends.base import JobEndpoints
from crestline.client.backends.capabilities import Capability
from crestline.client.backends.firecrest.calls import Calls
from crestline.client.backends.firecrest.job_rows import read_job
from crestline.client.backends.messages import JobNews
from crestline.model import GatewayUnavailableError
from crestline.model.text import printable
from crestline.wire.extensions import EVENT_HEARTBEAT, JobsMissing, Outage

_SILENCE = 2.5 * EVENT_HEARTBEAT
_MAX_LINE = 1 << 20
"""bytes"""


class EventCalls(JobEndpoints):
    """The addition `job-events`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def events(self, ids: Sequence[str] | None) -> AsyncIterator[JobNews]:
        self._calls._need(Capability.JOB_EVENTS)
        path = f"/compute/{self._calls.system_name}/jobs/events"
        params = {"ids": ",".join(ids)} if ids is not None else None
        headers = {"Accept": "text/event-stream"}
        async with self._calls._open("GET", path, params=params, headers=headers, silence=_SILENCE) as response:
            event = data = b""
            async for line in _lines(response):
                if line.startswith(b"event: "):
                    event = line.removeprefix(b"event: ")
                elif line.startswith(b"data: "):
                    data = line.removeprefix(b"data: ")
                elif not line and data:
                    if (news := self._news(event, data)) is not None:
                        yield news
                    event = data = b""

    def _news(self, event: bytes, data: bytes) -> JobNews | None:
        try:
            match event:
                case b"job":
                    return JobNews(job=read_job(data, self._calls.system_name))
                case b"missing":
                    return JobNews(missing=tuple(decode(data, JobsMissing).job_ids))
                case b"outage":
                    return JobNews(outage=printable(decode(data, Outage).message))
        except msgspec.DecodeError as error:
            raise GatewayUnavailableError(f"An event of {self._calls.gateway_url} cannot be read: {error}.") from None
        return None  # what newer gateways may tell


async def _lines(response: httpx.Response) -> AsyncIterator[bytes]:
    """Lines as our gateway ends them; names of jobs may hold what Unicode takes for the end of one.

    Raises:
        GatewayUnavailableError: a line without end.
    """
    rest = bytearray()
    async for chunk in response.aiter_raw():
        first, *lines = chunk.split(b"\n")
        rest += first
        if len(rest) > _MAX_LINE:
            raise GatewayUnavailableError(f"An event of the gateway has more than {_MAX_LINE} bytes.")
        for line in lines:
            yield bytes(rest)
            rest = bytearray(line)
