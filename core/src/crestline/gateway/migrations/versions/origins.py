"""What an API key was made by, and the scope that a refresh token was granted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the columns. Gateways between the two revisions may have added them already, though not the index."""
    _add("api_keys", sa.Column("client_id", sa.String))
    _add("api_keys", sa.Column("parent", sa.String))
    op.create_index("ix_api_keys_parent", "api_keys", ["parent"], if_not_exists=True)
    _add("refresh_tokens", sa.Column("scope", sa.Text))


def downgrade() -> None:
    """Drop the columns. Tokens of a narrower scope go with theirs, since the older gateway would grant them all."""
    op.execute("DELETE FROM refresh_tokens WHERE scope IS NOT NULL")
    op.drop_column("refresh_tokens", "scope")
    op.drop_index("ix_api_keys_parent", "api_keys")
    op.drop_column("api_keys", "parent")
    op.drop_column("api_keys", "client_id")


def _add(table: str, column: sa.Column[str]) -> None:
    if column.name not in {each["name"] for each in sa.inspect(op.get_bind()).get_columns(table)}:
        op.add_column(table, column)
