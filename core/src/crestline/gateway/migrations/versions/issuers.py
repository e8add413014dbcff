"""Which issuer an API key comes from, and whose signed URLs a transfer has."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the columns for the issuer of an API key and of a transfer."""
    op.add_column("api_keys", sa.Column("issuer", sa.String))
    op.add_column("transfers", sa.Column("caller", sa.Text))


def downgrade() -> None:
    """Drop the columns."""
    op.drop_column("transfers", "caller")
    op.drop_column("api_keys", "issuer")
