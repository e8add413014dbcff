"""`crestline allocations`: budget and usage of the user's accounts."""

from __future__ import annotations

import msgspec

from crestline.cli.connecting import on_system
from crestline.cli.help import make_app
from crestline.cli.options import Json, Site
from crestline.cli.output import print_json, print_table

app = make_app()


@app.command()
def allocations(site: Site = None, json: Json = False) -> None:
    """Show the budget of your accounts on a system, how much is used, and how much is left."""
    found = on_system(site, lambda system: system.allocations(), retry=False)
    if json:
        print_json([msgspec.to_builtins(each) | {"left": each.left} for each in found])
        return
    rows = [
        [each.account, each.user or "", each.unit, *map(_amount, (each.budget, each.used, each.left))] for each in found
    ]
    heads = ("ACCOUNT", "USER", "UNIT", "BUDGET", "USED", "LEFT")
    print_table(heads, rows, right=heads[3:])


def _amount(number: float | None) -> str:
    return "-" if number is None else f"{number:.2f}".rstrip("0").rstrip(".")
