"""`crestline audit`: print the audit trail of a gateway on this machine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crestline.cli import gateway_store
from crestline.cli.connecting import run_async
from crestline.cli.durations import seconds, when
from crestline.cli.help import make_app
from crestline.cli.options import ConfigFile, Json, StateDir
from crestline.cli.output import print_json, print_table

if TYPE_CHECKING:
    from crestline.gateway.audit import AuditRecord

app = make_app()


@app.command()
def audit(
    user: Annotated[str | None, typer.Option("--user", metavar="NAME", help="What this user did.")] = None,
    since: Annotated[str | None, typer.Option("--since", metavar="TIME", help="In the last 90m, 8h, 3d.")] = None,
    denied: Annotated[bool, typer.Option("--denied", help="Only what was refused with 401 or 403.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="The latest so many records.")] = 1000,
    state_dir: StateDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Print the audit trail, the oldest record first; with --json one record per line."""
    begin = time.time() - seconds(since) if since else 0.0
    records = run_async(_read(config, state_dir, since=begin, username=user, denied=denied, limit=limit))
    if json:
        for record in records:
            print_json(record)
        return
    heads = ("WHEN", "USER", "VIA", "CREDENTIAL", "STATUS", "ACTION", "SYSTEM", "TARGET", "REASON")
    rows = [
        (when(r.at), r.username, r.via, r.client_id, r.status, r.action, r.system, r.target, r.reason) for r in records
    ]
    print_table(heads, rows, right=("STATUS",))


async def _read(config: Path | None, state_dir: Path | None, **query: Any) -> Sequence[AuditRecord]:
    async with gateway_store.open_store(config, state_dir) as (store, _):
        from crestline.gateway.audit import AuditQuery, AuditTrail

        return await AuditTrail(store).read(AuditQuery(**query))
