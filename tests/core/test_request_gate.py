"""Many calls of one client at once, on virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from crestline.client.backends.messages import NotSentError
from crestline.client.backends.transport import RetryMode, make_client, run_with_retries
from crestline.client.policy import RetryPolicy
from crestline.model import CrestlineError, GatewayUnavailableError
from crestline.testing.simulation import VirtualEventLoop

URL = "http://gateway.example"


class SlowGateway(httpx.AsyncBaseTransport):
    """Works on 20 requests at a time, 10 seconds on each; or hangs."""

    def __init__(self, hangs: bool) -> None:
        self._hangs = hangs
        self._places = asyncio.Semaphore(20)
        self.under_way = self.most = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            async with self._places:
                await asyncio.sleep(86400 if self._hangs else 10)
        finally:
            self.under_way -= 1
        return httpx.Response(200, stream=httpx.ByteStream(b"{}"), request=request)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("hangs", [False, True])
def test_a_burst_is_not_charged_for_its_own_queue(method: str, hangs: bool) -> None:
    """The last of 200 calls waits for 90 s and has its whole 45 s then; with a gateway that hangs all end after 45."""

    def error_of(answer: httpx.Response) -> CrestlineError:
        raise AssertionError(answer)

    async def main() -> tuple[list[Any], float, int]:
        gateway = SlowGateway(hangs)
        policy = RetryPolicy()
        client = make_client(URL, True, policy, error_of, transport=gateway)
        began = asyncio.get_running_loop().time()
        calls = (
            run_with_retries(lambda: client.request(method, URL), RetryMode.IDEMPOTENT, URL, policy, error_of)
            for _ in range(200)
        )
        found = await asyncio.gather(*calls, return_exceptions=True)
        return found, asyncio.get_running_loop().time() - began, gateway.most

    loop = VirtualEventLoop()
    found, took, most = loop.run_until_complete(main())
    loop.close()
    assert most == 20
    if hangs:
        assert [each for each in found if not isinstance(each, GatewayUnavailableError)] == []
        assert sum(isinstance(each, NotSentError) for each in found) == 180
        assert took == pytest.approx(45)
    else:
        assert [each.status_code for each in found] == [200] * 200
        assert took == pytest.approx(100)
