"""The network between a simulated process and a facility, where the adversary injects faults."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from random import Random
from typing import cast

import httpx

from crestline.testing.simulation.answers import answer, refusal
from crestline.testing.simulation.process import Process
from crestline.testing.simulation.world import World

Answer = Callable[[httpx.Request, bytes, str, float], httpx.Response]
"""Executes a request, given its body, its name, and the time of the data in the response."""

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
"""Faults of single requests."""
OUTAGES = ("refused connection", "lost request", "408 not done", "424 busy", "503 unhealthy", "502")
"""Faults of all requests for a while."""
PARTIAL = {"broken list": "GET jobs", "no submissions": "POST jobs"}
"""Faults of all requests of one kind for a while."""
CERTAIN = ("refused connection", "424 busy", "no submissions", "503 unhealthy", "429", "401")
"""Faults after which the client can be certain that the request was not executed."""
_MOST_SERVER_ERRORS = 2
"""Maximum number of consecutive 500 responses to requests of one kind. After one more, the client gives up."""
_TIMEOUT = "Command execution timeout limit exceeded."
_HUNG = "('Channel not open for sending',)"
_BUSY = "Unable to open a new SSH channel"
_UNHEALTHY = "The scheduler service for the requested system (cluster) is unhealthy."


class Network(httpx.AsyncBaseTransport):
    """The transport between one process and a facility.

    Attributes:
        open_submissions: times and bodies of the submissions whose outcome the client cannot know.
        lists: times of the responses to job lists, and whether they were complete.

    Args:
        probability: the probability of a fault for each request.
        on_send: called for each request.
    """

    def __init__(
        self,
        world: World,
        process: Process,
        answer: Answer,
        probability: float,
        on_send: Callable[[], None] = lambda: None,
    ) -> None:
        self._world = world
        self._process = process
        self._answer = answer
        self._probability = probability
        self._on_send = on_send
        self._count = 0
        self._server_errors: Counter[str] = Counter()
        self.open_submissions: list[tuple[float, bytes]] = []
        self.lists: list[tuple[float, bool]] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if not self._process.is_alive:
            raise asyncio.CancelledError
        self._count += 1
        self._on_send()
        body = await request.aread()
        flight = _Flight(self._world, request, body, f"{self._process.name} request {self._count}", self._answer)
        fault, random = self._choose(flight)
        if fault and fault not in CERTAIN and flight.occasion == "POST jobs":
            self.open_submissions.append((self._world.now, body))
        if self._count == self._process.kill_in:
            self._world.loop.call_later(random.choice((0.2, 20.0)) * random.random(), self._process.kill)
        self._world.sent[flight.name] = self._world.now
        done = flight.begin(fault, random)
        limit = request.extensions.get("timeout", {}).get("read")
        try:
            async with asyncio.timeout(limit):
                response = await done
        except TimeoutError:
            flight.note("no answer in time")
            raise httpx.ReadTimeout("no answer in time", request=request) from None
        finally:
            if flight.occasion == "GET jobs":
                is_good = done.done() and not done.cancelled() and done.exception() is None
                is_whole = is_good and done.result().status_code == 200 and fault != "cut answer"
                self.lists.append((self._world.now, is_whole))
        response.request = request
        return response

    def _choose(self, flight: _Flight) -> tuple[str, Random]:
        world, adversary = self._world, self._world.adversary
        random = adversary.random(flight.name)
        for kind in (*OUTAGES, *PARTIAL):
            if world.is_out(kind) and PARTIAL.get(kind, flight.occasion) == flight.occasion:
                adversary.coverage[f"outage: {kind}", flight.occasion] += 1
                return kind, random
        kind = random.choice(FAULTS + READ_FAULTS if flight.occasion.startswith("GET") else FAULTS)
        name = f"{flight.name}: {kind}"
        errors = self._server_errors[flight.occasion] if kind.startswith("500") else 0
        if errors == _MOST_SERVER_ERRORS:
            kind = ""
        if not kind or adversary.strikes(name, self._probability, kind, flight.occasion, random) is None:
            kind = ""
        self._server_errors[flight.occasion] = errors + 1 if kind.startswith("500") else 0
        return kind, random


class _Flight:
    """A request in flight. It continues after the death of its process."""

    def __init__(self, world: World, request: httpx.Request, body: bytes, name: str, answer: Answer) -> None:
        self._world = world
        self._request = request
        self._body = body
        self._answer = answer
        self._done: asyncio.Future[httpx.Response] = world.loop.create_future()
        self._done.add_done_callback(lambda done: done.cancelled() or done.exception())  # its sender may be dead
        self.name = name
        self.occasion = occasion(request)

    def note(self, text: str) -> None:
        self._world.note(self.name, f"{self.occasion}: {text}")

    def begin(self, fault: str, random: Random) -> asyncio.Future[httpx.Response]:
        """Send the request. Returns a future of its response."""
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
            case "424 busy" | "no submissions":
                self._refuse(there, refusal(424, _BUSY), fault)
            case "503 unhealthy":
                self._refuse(there, refusal(503, _UNHEALTHY), fault)
            case "502":
                self._refuse(there, answer(502, b"<html>Bad Gateway</html>"), fault)
            case "504 done":
                self._work(there, None, fault)
                self._refuse(there + 10, answer(504, b"<html>Gateway Timeout</html>"), fault)
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
        """Execute the request. If `back` is given, its response arrives that many seconds later."""

        def arrive() -> None:
            if self._done.done() or fault == "the double":
                self._world.untold.add(self.name)
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
            if is_cut:
                stream = _CutStream(outcome.stream)
                outcome = httpx.Response(outcome.status_code, headers=outcome.headers, stream=stream)
            self._done.set_result(outcome)
        else:
            self._done.set_exception(outcome)


class _CutStream(httpx.AsyncByteStream):
    def __init__(self, whole: httpx.AsyncByteStream | httpx.SyncByteStream) -> None:
        self._whole = whole

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in cast(httpx.AsyncByteStream, self._whole):
            yield part[: len(part) // 2]
        raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")


def occasion(request: httpx.Request) -> str:
    """Return the kind of a request: its method and the last fixed part of its path."""
    path = request.url.path
    if re.search(r"/jobs/[^/]+$", path):
        return f"{request.method} job"
    with contextlib.suppress(IndexError):
        return f"{request.method} {path.rstrip('/').rsplit('/', 1)[1]}"
    return request.method
