"""The hub's side of a relay's endpoints: ask about a session, end it."""

from __future__ import annotations

import httpx
import msgspec

from crestline.bounded import MAX_REFUSAL, BoundedClient, decode
from crestline.model import GatewayUnavailableError
from crestline.relay.tokens import HubKey


class _Session(msgspec.Struct):
    job: str


class SessionManager:
    """Speaks to one relay with one hub's key.

    Args:
        url: the relay's base, `https://gateway.example.org/relay`.
        ca_file: PEM file of the authority that signed its certificate.
    """

    def __init__(self, url: str, key: HubKey, ca_file: str | None = None) -> None:
        self._url = url.rstrip("/")
        self._key = key
        self._verify: str | bool = ca_file or True

    async def job_of(self, session_id: str) -> str | None:
        """Id of the job that holds the session; empty where its scheduler says none, None as long as none has come.

        Raises:
            GatewayUnavailableError: no usable answer.
        """
        answer = await self._request("GET", session_id)
        if answer.status_code == 404:
            return None
        try:
            return decode(answer.content, _Session).job
        except msgspec.DecodeError as error:
            raise GatewayUnavailableError(f"The relay at {self._url} answered with no session.") from error

    async def end(self, session_id: str) -> None:
        """End a session; its job ends its server.

        Raises:
            GatewayUnavailableError: no usable answer.
        """
        await self._request("DELETE", session_id)

    async def _request(self, method: str, session_id: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self._key.manager_token()}"}
        try:
            async with BoundedClient(limit=MAX_REFUSAL, seconds=20, verify=self._verify) as http:
                answer = await http.request(method, f"{self._url}/sessions/{session_id}", headers=headers)
        except httpx.HTTPError as error:
            raise GatewayUnavailableError(f"The relay at {self._url} does not answer.", hint="Try again.") from error
        if answer.status_code not in (200, 204, 404):
            raise GatewayUnavailableError(
                f"The relay at {self._url} answered {answer.status_code}.", hint="Check its key and its URL."
            )
        return answer
