"""Keeping secrets out of the logs of the libraries that speak HTTP for us."""

from __future__ import annotations

import logging

import httpx


class _NoSecrets(logging.Filter):
    """Keeps what proves an identity out of the logs of httpx and httpcore.

    Signed URLs carry their proof in the query, FirecREST echoes refused tokens in a header.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(_without_query(value) for value in record.args)
        if record.name.startswith("httpcore") and "headers" in str(record.msg):
            record.msg, record.args = str(record.msg).partition(" ")[0], ()
        return True


def _without_query(value: object) -> object:
    return value.copy_with(query=None) if isinstance(value, httpx.URL) else value


def keep_secrets_out_of_logs() -> None:
    """Install the filter; httpcore has one logger for each protocol."""
    for name in ("httpx", "httpcore.http11", "httpcore.http2", "httpcore.proxy", "httpcore.connection"):
        logger = logging.getLogger(name)
        if not any(isinstance(each, _NoSecrets) for each in logger.filters):
            logger.addFilter(_NoSecrets())
