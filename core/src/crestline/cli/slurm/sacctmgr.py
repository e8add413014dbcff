"""`crestline-sacctmgr` and `crestline-sshare`: the user's accounts. The API reports nothing else of associations."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING

import msgspec

from crestline.cli.slurm.clusters import on_clusters
from crestline.cli.slurm.layout import Wide, WideColumn, print_wide, wide_format
from crestline.cli.slurm.program import CommandError, read_options, run
from crestline.model import Account
from crestline.model.slurm_queries import QUERIES

if TYPE_CHECKING:
    from crestline.client import System

_CHANGES = frozenset("add archive clear create delete dump load modify reconfigure remove shutdown update".split())


class _Association(msgspec.Struct, frozen=True):
    account: Account
    cluster: str
    default: str


_FIELDS = {
    "account": Wide[_Association]("Account", lambda each: each.account.name),
    "cluster": Wide[_Association]("Cluster", lambda each: each.cluster),
    "defaultaccount": Wide[_Association]("Def Acct", lambda each: each.default),
    "user": Wide[_Association]("User", lambda each: each.account.user),
}
_FIELDS["acct"] = _FIELDS["account"]
_FIELDS["defacct"] = _FIELDS["defaultaccount"]
_OF_SHARES = {
    "account": Wide[_Association]("Account", lambda each: each.account.name, 20, left=True),
    "user": _FIELDS["user"],
    "cluster": _FIELDS["cluster"],
}


def main() -> None:
    """Console script `crestline-sacctmgr`."""
    run("sacctmgr", sacctmgr)


def sshare_main() -> None:
    """Console script `crestline-sshare`."""
    run("sshare", sshare)


def sacctmgr(words: list[str]) -> int:
    """Show the user's accounts or associations, the cluster, or the user."""
    program = "sacctmgr"
    options, rest = read_options(program, words, QUERIES[program])
    command, entity, *conditions = [*rest, "", ""][: max(len(rest), 2)]
    if command.lower() in _CHANGES:
        raise CommandError(
            f"{program}: error: The API has no '{command}' of accounts. Ask the operators of the system."
        )
    refusal: CommandError | None = None
    what, where, columns = "", dict[str, str](), list[WideColumn[_Association]]()
    each_association = False
    try:
        if command.lower() not in ("show", "list"):
            raise CommandError(f"invalid keyword: {command}")
        what = next((each for each in ("user", "account", "association", "cluster") if _is_short(entity, each)), "")
        if not what:
            raise CommandError(f"{program}: error: 'show {entity}' cannot be served: the API does not report it.")
        where = _conditions(program, what, conditions)
        each_association = "associations" in options or bool(where.keys() & {"withassoc", "withassocs"})
        default = {
            "user": "user,defacct,cluster,account" if each_association else "user,defacct",
            "account": "account",
            "association": "cluster,account,user",
            "cluster": "cluster",
        }[what]
        columns = wide_format(program, where.get("format", default), _FIELDS)
    except CommandError as error:
        refusal = error

    def show(found: list[_Association], first: bool) -> None:
        rows = [each for each in found if _is_meant(each, where)]
        if what == "cluster" or (what == "user" and not each_association):
            rows = rows[:1]
        print_wide(columns, rows, options, header=first and "noheader" not in options)

    return on_clusters(program, options.get("clusters"), _read, show, words=words, refusal=refusal)


def sshare(words: list[str]) -> int:
    """Show the user's accounts. The API does not report shares and usage."""
    program = "sshare"
    options, rest = read_options(program, words, QUERIES[program])
    refusal: CommandError | None = None
    columns: list[WideColumn[_Association]] = []
    try:
        if rest:
            raise CommandError(f"{program}: error: Unrecognized option: {rest[0]}")
        columns = wide_format(program, options.get("format", "account,user"), _OF_SHARES)
    except CommandError as error:
        refusal = error
    where = {name: options[f"{name}s"] for name in ("account", "user") if f"{name}s" in options}

    def show(found: list[_Association], first: bool) -> None:
        rows = [each for each in found if _is_meant(each, where)]
        print_wide(columns, rows, options, header=first and "noheader" not in options)

    return on_clusters(program, options.get("clusters"), _read, show, words=words, refusal=refusal)


async def _read(system: System) -> list[_Association]:
    accounts = await system.accounts()
    default = next((each.name for each in accounts if each.default), "")
    return [_Association(each, system.name, default) for each in sorted(accounts, key=lambda each: each.name)]


def _is_short(word: str, name: str) -> bool:
    """Whether `word` is the name, its plural, or a prefix of it."""
    word = word.lower()
    return word == f"{name}s" or (len(word) >= min(3, len(name)) and name.startswith(word))


def _conditions(program: str, what: str, words: list[str]) -> dict[str, str]:
    """Parse `where user=alice format=account%20`, or the names of the items to show."""
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        name = name.lower()
        if not equals and name in ("where", "withassoc", "withassocs", "and"):
            found[name] = ""
        elif not equals:
            found[what] = word
        elif name.rstrip("s") in ("user", "account", "name", "format") or name in ("cluster", "clusters"):
            found[what if name.startswith("name") else name.rstrip("s")] = value
        else:
            raise CommandError(f"{program}: error: '{name}' cannot be served: the API does not report it.")
    return found


def _is_meant(each: _Association, where: dict[str, str]) -> bool:
    users = where["user"].split(",") if "user" in where else None
    accounts = where["account"].split(",") if "account" in where else None
    return (users is None or each.account.user in users or getpass.getuser() in users) and (
        accounts is None or each.account.name in accounts
    )
