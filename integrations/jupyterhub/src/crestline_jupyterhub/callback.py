"""How a session tells its spawner that it listens, and where: `POST /hub/api/crestline/callback`.

Its secret is a nonce of its own, made for this start and kept in the spawner's state; each run of its job can say one
host and one port, once, and nothing else.
"""

from __future__ import annotations

import ipaddress
import json
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from jupyterhub.apihandlers.base import APIHandler
from tornado import web

from crestline.model import CrestlineError
from jupyterhub import handlers

if TYPE_CHECKING:
    from crestline_jupyterhub.spawner import FirecRESTSpawner

MAX_BODY = 1024
MAX_RUNS = 1_000_000

_expected: WeakValueDictionary[str, FirecRESTSpawner] = WeakValueDictionary()


def expect(spawner: FirecRESTSpawner) -> None:
    """From now on the session with this spawner's nonce is listened to."""
    _expected[spawner.nonce] = spawner


def forget(nonce: str) -> None:
    """Nobody waits for it any more."""
    _expected.pop(nonce, None)


class CallbackHandler(APIHandler):
    """The endpoint."""

    def check_xsrf_cookie(self) -> None:
        """No browser comes here, and the nonce is no cookie."""

    async def post(self) -> None:
        """News of a session; 403 for a nonce that nobody knows, 400 for anything but the one form that there is."""
        if len(self.request.body) > MAX_BODY:
            raise web.HTTPError(413)
        try:
            news = json.loads(self.request.body)
            nonce, port, host, run = news.pop("nonce"), news.pop("port"), news.pop("host", ""), news.pop("run", 1)
            if news or not isinstance(nonce, str) or type(run) is not int or not 0 < run < MAX_RUNS:
                raise ValueError
            address = _address(host, port)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise web.HTTPError(400, "Expected: nonce, port, host, run") from error
        spawner = _expected.get(nonce)
        if spawner is None:
            raise web.HTTPError(403, "No session with this nonce is expected")
        was = spawner.address
        try:
            taken = await spawner.take_address(address, run)
        except CrestlineError as error:
            raise web.HTTPError(503, "The job's nodes are not known now: call again") from error
        if not taken:
            raise web.HTTPError(409, "This session is expected, or was heard of, at another address")
        if spawner.ready and spawner.address != was:
            await spawner.move(self.proxy)
        self.set_status(204)
        self.finish()


def _address(host: Any, port: Any) -> tuple[str, int] | None:
    """What a session may say: an IP address and a port, or that it comes by the relay."""
    if port is None and not host:
        return None
    if type(port) is not int or not 0 < port < 65536 or not isinstance(host, str):
        raise ValueError
    return str(ipaddress.ip_address(host)), port


handlers.default_handlers.append((r"/api/crestline/callback", CallbackHandler))
