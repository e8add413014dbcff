"""Lists of the queue that several gateways share."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "queue_lists",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("begun", sa.Double, nullable=False),
        sa.Column("leased_until", sa.Double, nullable=False),
        sa.Column("content", sa.LargeBinary),
    )


def downgrade() -> None:
    """Drop the table; each gateway asks the batch system itself then."""
    op.drop_table("queue_lists")
