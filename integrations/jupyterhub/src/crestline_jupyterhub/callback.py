"""A session reports its address to its spawner: `POST /hub/api/crestline/callback`.

Its secret is a nonce, created for this start and stored in the spawner's state. Each run of the job can report one host
and one port, once.
"""

from __future__ import annotations

import ipaddress
import json
from typing import Any, Protocol
from weakref import WeakValueDictionary

from jupyterhub.apihandlers.base import APIHandler
from jupyterhub.proxy import Proxy
from tornado import web

from crestline.model import CrestlineError
from jupyterhub import handlers

MAX_BODY = 1024
MAX_RUNS = 1_000_000


class Receiver(Protocol):
    """Waits for a session's address."""

    async def set_address(self, address: tuple[str, int] | None, run: int, proxy: Proxy) -> bool:
        """Store the session's address, and update the proxy if it has changed.

        Args:
            address: IP address and port; None: the session uses the relay.
            run: run of its job, 1 for the first.
            proxy: the hub's proxy.

        Returns:
            whether the session may listen there.

        Raises:
            CrestlineError: this cannot be determined now.
        """


_receivers: WeakValueDictionary[str, Receiver] = WeakValueDictionary()


def register(nonce: str, receiver: Receiver) -> None:
    """Accept calls of the session with this nonce, as long as its receiver exists."""
    _receivers[nonce] = receiver


def unregister(nonce: str) -> None:
    """Refuse further calls of the session with this nonce."""
    _receivers.pop(nonce, None)


class CallbackHandler(APIHandler):
    """Receives `{"nonce": ..., "port": ..., "host": ..., "run": ...}` from a session that has started."""

    def check_xsrf_cookie(self) -> None:
        """Skip the check, because no browser sends this request and the nonce is not a cookie."""

    async def post(self) -> None:
        """Pass the address on: 403 for an unknown nonce, 400 for a malformed body, 409 for another address."""
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
        receiver = _receivers.get(nonce)
        if receiver is None:
            raise web.HTTPError(403, "No session with this nonce is expected")
        try:
            taken = await receiver.set_address(address, run, self.proxy)
        except CrestlineError as error:
            raise web.HTTPError(503, "The job's nodes are not known now: call again") from error
        if not taken:
            raise web.HTTPError(409, "This session is expected, or was heard of, at another address")
        self.set_status(204)
        self.finish()


def _address(host: Any, port: Any) -> tuple[str, int] | None:
    """Parse the address of a session: an IP address and a port, or the relay."""
    if port is None and not host:
        return None
    if type(port) is not int or not 0 < port < 65536 or not isinstance(host, str):
        raise ValueError
    return str(ipaddress.ip_address(host)), port


handlers.default_handlers.append((r"/api/crestline/callback", CallbackHandler))
