"""Codes of the links that sign a browser in once."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "sign_in_codes",
        sa.Column("code_hash", sa.String, primary_key=True),
        sa.Column("client_id", sa.String, nullable=False),
        sa.Column("expires", sa.Float, nullable=False),
    )


def downgrade() -> None:
    """Drop the table; links that are out lead nowhere."""
    op.drop_table("sign_in_codes")
