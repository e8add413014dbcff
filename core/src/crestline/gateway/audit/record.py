"""One record, and the table of them."""

from __future__ import annotations

import msgspec
from sqlalchemy import BigInteger, Column, Float, Integer, Select, String, Table, Text, select

from crestline.gateway.store import metadata

audit_table = Table(
    "audit",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False, index=True),
    Column("request_id", String, nullable=False),
    Column("username", String, nullable=False, index=True),
    Column("client_id", String, nullable=False),
    Column("via", String, nullable=False),
    Column("address", String, nullable=False),
    Column("action", Text, nullable=False),
    Column("system", String, nullable=False),
    Column("target", Text, nullable=False),
    Column("status", Integer, nullable=False),
    Column("reason", Text, nullable=False),
)
"""A trigger of the migrations keeps records from being changed."""


class AuditRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a user did or was refused. It holds no secret."""

    at: float
    """seconds since the epoch"""
    request_id: str
    username: str
    """the POSIX user; empty where the credential names none"""
    client_id: str
    """OAuth2 client, or API key's id"""
    via: str
    """`token`, `api-key`, `client` (at the token endpoint) or `admin` (a command on the gateway's state directory)"""
    address: str
    """network address of the client"""
    action: str
    """method and route, such as `DELETE /compute/{system_name}/jobs/{job_id}`"""
    system: str
    target: str
    """path, job id or key id"""
    status: int
    """HTTP status of the answer; 499 if the client had closed the connection"""
    reason: str = ""
    """why the request was refused; empty if it was not"""


class AuditQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which records to read."""

    since: float = 0.0
    username: str | None = None
    denied: bool = False
    """only what was refused with 401 or 403"""
    limit: int = 1000
    """the latest so many"""

    def select(self) -> Select[tuple[object, ...]]:
        """In SQL, the latest first."""
        query = select(audit_table).where(audit_table.c.at >= self.since)
        if self.username is not None:
            query = query.where(audit_table.c.username == self.username)
        if self.denied:
            query = query.where(audit_table.c.status.in_((401, 403)))
        return query.order_by(audit_table.c.number.desc()).limit(self.limit)
