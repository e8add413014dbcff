"""How alembic reaches the store: over the connection, and in the transaction, of `crestline.gateway.store`."""

from __future__ import annotations

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
