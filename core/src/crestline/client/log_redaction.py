"""Keeping secrets out of the logs of the libraries that speak HTTP for us."""

from __future__ import annotations

import logging

import httpx

_LOGGERS = (
    *("httpx", "httpx_retries.transport"),
    *("httpcore.http11", "httpcore.http2", "httpcore.proxy", "httpcore.connection"),
)
_WITH_REASON = 5
"""arguments of httpx's line on a request, the last of them the server's words"""


class _NoSecrets(logging.Filter):
    """Keeps what proves an identity out of the logs of httpx, httpx-retries and httpcore.

    Signed URLs carry their proof in the query, FirecREST echoes refused tokens in a header, other servers in the words
    after a status.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(_shown(value) for value in record.args)
            if record.name == "httpx" and len(record.args) == _WITH_REASON:
                record.args = (*record.args[:-1], "")
        if record.name.startswith("httpcore") and "headers" in str(record.msg):
            record.msg, record.args = str(record.msg).partition(" ")[0], ()
        return True


def _shown(value: object) -> object:
    match value:
        case httpx.URL():
            return value.copy_with(query=None)
        case httpx.Request():
            return f"{value.method} {_shown(value.url)}"
        case httpx.Response():
            return value.status_code
    return value


def redact_logs() -> None:
    """Install the filter; httpcore has one logger for each protocol."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(each, _NoSecrets) for each in logger.filters):
            logger.addFilter(_NoSecrets())
