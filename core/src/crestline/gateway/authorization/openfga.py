"""OpenFGA, a server of relations between users and objects: `POST /stores/{store_id}/check` of its HTTP API."""

from __future__ import annotations

import logging
import re
import ssl

import httpx
import msgspec

from crestline.bounded import MAX_REFUSAL, BoundedClient, decode
from crestline.gateway.config import OpenFgaConfig, read_secret_file
from crestline.model import ConfigError, GatewayUnavailableError
from crestline.plain_http import check_url
from crestline.single_flight import SingleFlight

_CACHE_SIZE = 10_000
_PLAIN = re.compile(r"[^\s:#*]+")
"""A name without a special meaning in OpenFGA, such as all users or the members of a group."""

_log = logging.getLogger("crestline.authorization")


class _Answer(msgspec.Struct):
    allowed: bool


class OpenFga:
    """Asks for each user and system, once for all requests that wait for the same answer."""

    def __init__(self, config: OpenFgaConfig) -> None:
        """See `OpenFgaConfig`.

        Raises:
            ConfigError: a file cannot be read, or the URL is plain HTTP to another machine.
        """
        check_url(config.url)
        self._config = config
        self._url = f"{config.url.rstrip('/')}/stores/{config.store_id}/check"
        try:
            headers = (
                {"Authorization": f"Bearer {read_secret_file(config.token_file, 'openfga.token_file')}"}
                if config.token_file
                else {}
            )
            trust = ssl.create_default_context(cafile=config.ca_file)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError("A file of [openfga] cannot be used.", hint="Check token_file and ca_file.") from error
        self._client = BoundedClient(limit=MAX_REFUSAL, seconds=config.timeout, headers=headers, verify=trust)
        self._answers: SingleFlight[tuple[str, str], bool] = SingleFlight(ttl=config.cache, max_size=_CACHE_SIZE)

    async def allows(self, username: str, system: str) -> bool:
        """Whether the user has the relation to the system.

        Raises:
            GatewayUnavailableError: OpenFGA does not respond, or its answer is malformed.
        """
        if not _PLAIN.fullmatch(username):
            return False
        return await self._answers.get((username, system), lambda: self._ask(username, system))

    async def close(self) -> None:
        """Close connections after the pending queries have their answers."""
        await self._answers.drain()
        await self._client.aclose()

    async def _ask(self, username: str, system: str) -> bool:
        question: dict[str, object] = {
            "tuple_key": {
                "user": self._config.user.replace("{username}", username),
                "relation": self._config.relation,
                "object": self._config.object.replace("{system}", system),
            }
        }
        if self._config.model_id:
            question["authorization_model_id"] = self._config.model_id
        try:
            response = await self._client.post(self._url, json=question)
            if response.status_code != httpx.codes.OK:
                raise self._silent(f"{response.status_code} {response.text[:200]!r}")
            return decode(response.content, _Answer).allowed
        except (httpx.HTTPError, msgspec.DecodeError) as error:
            raise self._silent(repr(error)) from error

    def _silent(self, why: str) -> GatewayUnavailableError:
        _log.warning("%s gives no answer: %s", self._url, why)
        return GatewayUnavailableError(
            "It cannot be found out at present whether you may do this.", hint="Try again soon.", retry_after=2
        )
