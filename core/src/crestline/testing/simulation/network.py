"""The network between a simulated process and a facility, in which the adversary sits."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable
from random import Random

import httpx

from crestline.testing.simulation.firecrest import refusal
from crestline.testing.simulation.process import Process
from crestline.testing.simulation.world import World

Answer = Callable[[httpx.Request, bytes, str, float], httpx.Response]
"""Carries out a request: its body, its name, and the time of the data that the answer is made of."""

READ_FAULTS = ("old data",)
FAULTS = (
    "late request",
    "late answer",
    "refused connection",
    "lost request",
    "lost answer",
    "cut answer",
    "doubled request",
    "408 not done",
    "408 done",
    "408 done later",
    "500 not done",
    "500 done later",
    "424 busy",
    "503 unhealthy",
    "502",
    "504 done",
    "429",
    "401",
)
"""What may happen to a single request."""
OUTAGES = ("refused connection", "lost request", "408 not done", "424 busy", "503 unhealthy", "502", "broken list")
"""What may happen to all requests for a while."""
CERTAIN = ("refused connection", "424 busy", "503 unhealthy", "429", "401")
"""Faults after which it is certain that the request was not carried out."""
_TIMEOUT = "Command execution timeout limit exceeded."
_HUNG = "('Channel not open for sending',)"
_BUSY = "Unable to open a new SSH channel"
_UNHEALTHY = "The scheduler service for the requested system (cluster) is unhealthy."


class Network(httpx.AsyncBaseTransport):
    """Carries the requests of one process to a facility.

    Attributes:
        open_submissions: bodies of the submissions whose answers leave it open what came of them.

    Args:
        probability: of a fault for each request.
    """

    def __init__(self, world: World, process: Process, answer: Answer, probability: float) -> None:
        self._world = world
        self._process = process
        self._answer = answer
        self._probability = probability
        self._count = 0
        self.open_submissions: list[bytes] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if not self._process.is_alive:
            raise asyncio.CancelledError
        self._count += 1
        body = await request.aread()
        flight = _Flight(self._world, request, body, f"{self._process.name} request {self._count}", self._answer)
        fault, random = self._choose(flight)
        if fault and fault not in CERTAIN and flight.occasion == "POST jobs":
            self.open_submissions.append(body)
        done = flight.begin(fault, random)
        limit = request.extensions.get("timeout", {}).get("read")
        try:
            async with asyncio.timeout(limit):
                response = await done
        except TimeoutError:
            flight.note("no answer in time")
            raise httpx.ReadTimeout("no answer in time", request=request) from None
        response.request = request
        return response

    def _choose(self, flight: _Flight) -> tuple[str, Random]:
        world, adversary = self._world, self._world.adversary
        for kind in OUTAGES:
            if world.is_out(kind) and (kind != "broken list" or flight.occasion == "GET jobs"):
                adversary.coverage[f"outage: {kind}", flight.occasion] += 1
                return kind, adversary.random(flight.name)
        kinds = FAULTS + READ_FAULTS if flight.occasion.startswith("GET") else FAULTS
        kind = adversary.random(f"{flight.name} kind").choice(kinds)
        random = adversary.strikes(f"{flight.name}: {kind}", self._probability, kind, flight.occasion)
        return ("", adversary.random(flight.name)) if random is None else (kind, random)


class _Flight:
    """One request on its way; goes on when the process that sent it is gone."""

    def __init__(self, world: World, request: httpx.Request, body: bytes, name: str, answer: Answer) -> None:
        self._world = world
        self._request = request
        self._body = body
        self._answer = answer
        self._done: asyncio.Future[httpx.Response] = world.loop.create_future()
        self._done.add_done_callback(lambda done: done.cancelled() or done.exception())  # its sender may be gone
        self.name = name
        self.occasion = occasion(request)

    def note(self, text: str) -> None:
        self._world.note(self.name, f"{self.occasion}: {text}")

    def begin(self, fault: str, random: Random) -> asyncio.Future[httpx.Response]:
        """Send it; the future is of its answer."""
        there, back = random.uniform(0.005, 0.1), random.uniform(0.005, 0.1)
        match fault:
            case "late request":
                self._work(there + random.choice((2, 10, 45)) * random.random(), back, fault)
            case "late answer":
                self._work(there, back + random.choice((2, 10, 45)) * random.random(), fault)
            case "refused connection":
                self._fail(there, httpx.ConnectError("connection refused"), fault)
            case "lost request":
                self._fail(there, httpx.ReadError("connection reset"), fault)
            case "lost answer":
                self._work(there, None, fault)
                self._fail(there + back, httpx.RemoteProtocolError("disconnected without a response"), fault)
            case "cut answer":
                self._work(there, back, fault, is_cut=True)
            case "doubled request":
                self._work(there, back, fault)
                self._work(there + random.uniform(0, 5), None, "the double")
            case "408 not done":
                self._refuse(there + 5, refusal(408, _TIMEOUT), fault)
            case "408 done":
                self._work(there, None, fault)
                self._refuse(there + 5, refusal(408, _TIMEOUT), fault)
            case "408 done later":
                self._refuse(there + 5, refusal(408, _TIMEOUT), fault)
                self._work(there + 5 + random.uniform(0, 30), None, fault)
            case "500 not done":
                self._refuse(there + 5, refusal(500, _HUNG), fault)
            case "500 done later":
                self._refuse(there + 5, refusal(500, _HUNG), fault)
                self._work(there + 5 + random.uniform(0, 30), None, fault)
            case "424 busy":
                self._refuse(there, refusal(424, _BUSY), fault)
            case "503 unhealthy":
                self._refuse(there, refusal(503, _UNHEALTHY), fault)
            case "502":
                self._refuse(there, httpx.Response(502, text="<html>Bad Gateway</html>"), fault)
            case "504 done":
                self._work(there, None, fault)
                self._refuse(there + 10, httpx.Response(504, text="<html>Gateway Timeout</html>"), fault)
            case "429":
                headers = {"Retry-After": str(random.randint(1, 20))}
                self._refuse(there, refusal(429, "API rate limit exceeded", headers), fault)
            case "401":
                self._refuse(there, refusal(401, "Access token is invalid."), fault)
            case "broken list":
                self._refuse(there, refusal(500, "Error executing Slurm command."), fault)
            case "old data":
                self._work(there, back, fault, age=random.uniform(1, 6))
            case _:
                self._work(there, back, "")
        return self._done

    def _work(
        self,
        there: float,
        back: float | None,
        fault: str,
        *,
        age: float = 0.0,
        is_cut: bool = False,
    ) -> None:
        """Carry it out; with `back`, the answer comes so many seconds later."""

        def arrive() -> None:
            response = self._answer(self._request, self._body, self.name, self._world.now - age)
            self.note(f"{response.status_code}{f' ({fault})' if fault else ''}{'' if back else ', not answered'}")
            if back is not None:
                self._world.loop.call_later(back, self._end, response, "", is_cut)

        self._world.loop.call_later(there, arrive)

    def _refuse(self, after: float, response: httpx.Response, fault: str) -> None:
        self._world.loop.call_later(after, self._end, response, fault)

    def _fail(self, after: float, error: httpx.TransportError, fault: str) -> None:
        error.request = self._request
        self._world.loop.call_later(after, self._end, error, fault)

    def _end(self, outcome: httpx.Response | httpx.TransportError, fault: str = "", is_cut: bool = False) -> None:
        if fault:
            self.note(f"answered by: {fault}")
        if self._done.done():
            return
        if isinstance(outcome, httpx.Response):
            stream = _CutStream(outcome.content) if is_cut else httpx.ByteStream(outcome.content)
            self._done.set_result(httpx.Response(outcome.status_code, headers=outcome.headers, stream=stream))
        else:
            self._done.set_exception(outcome)


class _CutStream(httpx.AsyncByteStream):
    def __init__(self, content: bytes) -> None:
        self._content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._content[: len(self._content) // 2]
        raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")


def occasion(request: httpx.Request) -> str:
    """The kind of a request: its method and the last fixed part of its path."""
    path = request.url.path
    if re.search(r"/jobs/[^/]+$", path):
        return f"{request.method} job"
    with contextlib.suppress(IndexError):
        return f"{request.method} {path.rstrip('/').rsplit('/', 1)[1]}"
    return request.method
