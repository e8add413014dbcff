"""An audit record, and the table of records."""

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
"""A trigger of the migrations prevents changes of records."""


class AuditRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An action of a user, or its refusal. It contains no secret."""

    at: float
    """Seconds since the epoch."""
    request_id: str
    username: str
    """The POSIX user; empty if the credential names none."""
    client_id: str
    """Id of the OAuth2 client or the API key."""
    via: str
    """`token`, `api-key`, `client` (at the token endpoint) or `admin` (a command on the gateway's state directory)."""
    address: str
    """Network address of the client."""
    action: str
    """Method and route, such as `DELETE /compute/{system_name}/jobs/{job_id}`."""
    system: str
    target: str
    """Path, job id or key id."""
    status: int
    """HTTP status of the response; 499 if the client had closed the connection."""
    reason: str = ""
    """Why the request was refused; otherwise empty."""


class AuditQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Filter of records."""

    since: float = 0.0
    username: str | None = None
    denied: bool = False
    """Only requests refused with 401 or 403."""
    limit: int = 1000
    """Maximum number of records, the latest ones."""

    def select(self) -> Select[tuple[object, ...]]:
        """Return the SQL query, the latest records first."""
        query = select(audit_table).where(audit_table.c.at >= self.since)
        if self.username is not None:
            query = query.where(audit_table.c.username == self.username)
        if self.denied:
            query = query.where(audit_table.c.status.in_((401, 403)))
        return query.order_by(audit_table.c.number.desc()).limit(self.limit)
