"""The schema of the gateways that had no migrations. Their stores have it already, so each part is made if absent."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from crestline.model import ConfigError

revision = "0001"
down_revision = None

_APPEND_ONLY = {
    "sqlite": [
        "CREATE TRIGGER IF NOT EXISTS audit_append_only BEFORE UPDATE ON audit"
        " BEGIN SELECT RAISE(ABORT, 'audit records are never changed'); END"
    ],
    "postgresql": [
        "CREATE OR REPLACE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN RAISE EXCEPTION ''audit records are never changed''; END'",
        "DROP TRIGGER IF EXISTS audit_append_only ON audit",
        "CREATE TRIGGER audit_append_only BEFORE UPDATE ON audit"
        " FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only()",
    ],
}


def upgrade() -> None:
    """Make the tables that are absent."""
    _make(
        "clients",
        sa.Column("client_id", sa.String, primary_key=True),
        sa.Column("secret_hash", sa.String, nullable=False),
        sa.Column("username", sa.String, nullable=False),
    )
    _make(
        "client_scopes",
        sa.Column("client_id", sa.String, primary_key=True),
        sa.Column("scope", sa.String, primary_key=True),
    )
    _make(
        "refresh_tokens",
        sa.Column("token_hash", sa.String, primary_key=True),
        sa.Column("client_id", sa.String, nullable=False),
        sa.Column("expires", sa.Float, nullable=False),
    )
    _make(
        "api_keys",
        sa.Column("key_id", sa.String, primary_key=True),
        sa.Column("hash", sa.String, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("username", sa.String, nullable=False),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("groups", sa.Text, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("expires", sa.Float, nullable=False),
        sa.Column("last_used", sa.Float),
        sa.Column("revoked", sa.Float),
        indexes=("username", "revoked"),
    )
    _make(
        "audit",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("request_id", sa.String, nullable=False),
        sa.Column("username", sa.String, nullable=False),
        sa.Column("client_id", sa.String, nullable=False),
        sa.Column("via", sa.String, nullable=False),
        sa.Column("address", sa.String, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("system", sa.String, nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        indexes=("at", "username"),
    )
    for statement in _APPEND_ONLY[op.get_context().dialect.name]:
        op.execute(statement)
    _make(
        "secrets",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
    _make(
        "replicas",
        sa.Column("replica_id", sa.String, primary_key=True),
        sa.Column("beat", sa.BigInteger, nullable=False),
    )
    _make(
        "submissions",
        sa.Column("system", sa.String, primary_key=True),
        sa.Column("username", sa.String, primary_key=True),
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("fingerprint", sa.String, nullable=False),
        sa.Column("job_id", sa.String),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("owner", sa.String),
        indexes=("created",),
    )
    _make(
        "transfers",
        sa.Column("transfer_id", sa.String, primary_key=True),
        sa.Column("system", sa.String, nullable=False),
        sa.Column("username", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("directory", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("part_size", sa.BigInteger, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("started", sa.Float),
        sa.Column("ended", sa.Float),
        sa.Column("expires", sa.Float, nullable=False),
        sa.Column("owner", sa.String),
        sa.Column("cancel", sa.Boolean),
        indexes=("system", "state"),
    )
    _make(
        "transfer_parts",
        sa.Column("transfer_id", sa.String, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("etag", sa.String, nullable=False),
    )
    _make(
        "transfer_objects",
        sa.Column("transfer_id", sa.String, primary_key=True),
        sa.Column("system", sa.String, nullable=False),
        sa.Column("bucket", sa.String, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("upload_id", sa.Text, nullable=False),
        indexes=("system",),
    )
    _make(
        "unfinished_uploads",
        sa.Column("digest", sa.String, primary_key=True),
        sa.Column("system", sa.String, nullable=False),
        sa.Column("username", sa.String, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("upload_id", sa.Text, nullable=False),
        sa.Column("touched", sa.Float, nullable=False),
        indexes=("system", "touched"),
    )


def downgrade() -> None:
    """Refuse: this is the first schema, and an empty database would remain."""
    raise ConfigError(
        "0001 is the oldest schema.", hint="To begin anew, name another state directory or an empty database."
    )


def _make(table: str, *columns: sa.Column[Any], indexes: tuple[str, ...] = ()) -> None:
    op.create_table(table, *columns, if_not_exists=True)
    for column in indexes:
        op.create_index(f"ix_{table}_{column}", table, [column], if_not_exists=True)
