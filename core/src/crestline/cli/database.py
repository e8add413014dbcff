"""`crestline database`: downgrade the schema of a gateway's database before its operator installs an older version."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crestline.cli import gateway_store
from crestline.cli.connecting import run_async
from crestline.cli.help import make_app
from crestline.cli.options import ConfigFile, StateDir
from crestline.cli.output import note

app = make_app()
database = make_app(
    help="Downgrade the schema of a gateway's database to that of an earlier version.", no_args_is_help=True
)
app.add_typer(database, name="database")


@database.command()
def downgrade(
    revision: Annotated[str, typer.Argument(metavar="REVISION", help="The schema of the earlier version.")],
    state_dir: StateDir = None,
    config: ConfigFile = None,
) -> None:
    """Bring the schema back to that of an earlier version, which is started next. Stop the gateway before."""
    run_async(_downgrade(config, state_dir, revision))
    note(f"The database has the schema {revision}. The next start of this version upgrades it again.")


async def _downgrade(config: Path | None, state_dir: Path | None, revision: str) -> None:
    async with gateway_store.open_store(config, state_dir) as (store, _):
        await store.downgrade(revision)
        await gateway_store.note(store, "database downgrade", revision)
