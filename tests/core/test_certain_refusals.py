"""After a submission that failed it is certain that there is no job only if none of its tries may have made one."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from crestline.client.auth import StaticToken
from crestline.client.backends.firecrest.calls import Calls
from crestline.client.backends.iri.calls import Calls as IriCalls
from crestline.client.backends.messages import NOTHING_BEGAN
from crestline.client.backends.transport import RetryMode
from crestline.client.policy import Policy
from crestline.model import CrestlineError
from crestline.testing.simulation import VirtualEventLoop

BUSY = httpx.Response(424, json={"message": "Unable to open a new SSH channel"})
Outcome = httpx.Response | httpx.HTTPError


def iri(transport: httpx.AsyncBaseTransport) -> Callable[[RetryMode], object]:
    calls = IriCalls("https://facility.example", StaticToken("t"), verify=False, policy=Policy(), transport=transport)
    calls.use_version("https://facility.example/api/v2", 2)
    return lambda how: calls.request("POST", "/jobs", how=how)


def firecrest(transport: httpx.AsyncBaseTransport) -> Callable[[RetryMode], object]:
    calls = Calls("https://facility.example", StaticToken("t"), verify=False, transport=transport)
    return lambda how: calls._request("post", "/jobs", expect=201, how=how)


CASES: list[tuple[RetryMode, list[Outcome], bool]] = [
    (RetryMode.NON_IDEMPOTENT, [httpx.ConnectError("refused")], True),  # until its time is up
    (RetryMode.NON_IDEMPOTENT, [httpx.ConnectTimeout("silent")], True),
    (RetryMode.NON_IDEMPOTENT, [httpx.ConnectError("refused"), httpx.ReadError("reset")], False),
    (RetryMode.IDEMPOTENT, [httpx.ReadError("reset"), httpx.ConnectError("refused")], False),
    (RetryMode.IDEMPOTENT, [httpx.Response(504), httpx.ConnectError("refused")], False),
    (RetryMode.IDEMPOTENT, [httpx.Response(504), httpx.Response(429, json={"message": "slower"})], False),
    (RetryMode.NON_IDEMPOTENT, [httpx.Response(429, json={"message": "slower"})], True),
    (RetryMode.NON_IDEMPOTENT, [BUSY], True),
    (RetryMode.IDEMPOTENT, [BUSY], True),
    (RetryMode.IDEMPOTENT, [httpx.Response(408), BUSY], False),
    (RetryMode.IDEMPOTENT, [httpx.Response(429, json={"message": "slower"}), httpx.ConnectError("refused")], True),
]


@pytest.mark.parametrize(
    ("backend", "how", "outcomes", "is_certain"),
    [(firecrest, *case) for case in CASES] + [(iri, *case) for case in CASES if case[1] != [BUSY]],
)
def test_all_tries_decide(
    backend: Callable[[httpx.AsyncBaseTransport], Callable[[RetryMode], object]],
    how: RetryMode,
    outcomes: list[Outcome],
    is_certain: bool,
) -> None:
    """The last outcome repeats itself."""
    left = list(outcomes)

    def answer(request: httpx.Request) -> httpx.Response:
        outcome = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(outcome, httpx.HTTPError):
            raise outcome
        return httpx.Response(outcome.status_code, stream=httpx.ByteStream(outcome.content))

    async def submit() -> None:
        await backend(httpx.MockTransport(answer))(how)  # type: ignore[misc]

    loop = VirtualEventLoop()
    with pytest.raises(CrestlineError) as caught:
        loop.run_until_complete(submit())
    loop.close()
    assert isinstance(caught.value, NOTHING_BEGAN) is is_certain


@pytest.mark.parametrize("backend", [firecrest, iri])
@pytest.mark.parametrize(("server_errors", "is_good"), [(2, True), (3, False)])
def test_a_500_gets_two_chances_whatever_came_before(
    backend: Callable[[httpx.AsyncBaseTransport], Callable[[RetryMode], object]], server_errors: int, is_good: bool
) -> None:
    """FirecREST's 500 may be a final refusal; what else went wrong before does not make it one."""
    outcomes = [502, 0, 502, *[500] * server_errors, 201]

    def answer(request: httpx.Request) -> httpx.Response:
        if not (status := outcomes.pop(0)):
            raise httpx.ReadError("reset")
        return httpx.Response(status, stream=httpx.ByteStream(b"{}"))

    async def submit() -> None:
        await backend(httpx.MockTransport(answer))(RetryMode.IDEMPOTENT)  # type: ignore[misc]

    loop = VirtualEventLoop()
    if is_good:
        loop.run_until_complete(submit())
    else:
        with pytest.raises(CrestlineError):
            loop.run_until_complete(submit())
    loop.close()
