"""Budget and usage of accounts: the limits GrpTRESMins of associations, listed by sshare."""

from __future__ import annotations

from crestline.gateway.schedulers.slurm.commands import SlurmCommands
from crestline.gateway.schedulers.slurm.resources import read_accounts
from crestline.gateway.schedulers.slurm.tables import decimal
from crestline.model import GatewayUnavailableError, UnsupportedError
from crestline.wire.extensions import AllocationInfo

_MINUTES = 60
"""Minutes in an hour, because Slurm counts minutes."""
_FIELDS = ("Account", "User", "GrpTRESMins", "GrpTRESRaw")
_UNLIMITED_UNIT = "cpu"
"""Resource whose usage is reported for an association without limits."""


async def read_allocations(commands: SlurmCommands, user: str) -> list[AllocationInfo]:
    """Return the allocations of the accounts that `user` can charge, and those of the user within an account.

    Raises:
        UnsupportedError: this Slurm has no accounting or records no usage.
    """
    accounts = sorted({each.name for each in await read_accounts(commands, user)})
    if not accounts:
        raise _is_unlimited("it names no account of yours")
    try:
        output = await commands.read(
            user, "sshare", "--noheader", "--parsable2", f"--accounts={','.join(accounts)}", f"--users={user}",
            f"--format={','.join(_FIELDS)}",
        )  # fmt: skip
    except GatewayUnavailableError as error:
        if "priority plugin" in " ".join(error.details):
            raise _is_unlimited("its priority plugin keeps no usage") from error
        raise
    return allocations_of(output.decode(errors="replace"), accounts, user)


def allocations_of(output: str, accounts: list[str], user: str) -> list[AllocationInfo]:
    """Convert sshare's rows to allocations in hours, without parents of the accounts and other users."""
    found = []
    for line in output.splitlines():
        cells = [each.strip() for each in line.split("|")]
        if len(cells) != len(_FIELDS) or cells[0] not in accounts or cells[1] not in ("", user):
            continue
        account, owner, limits, usage = cells[0], cells[1] or None, _amounts(cells[2]), _amounts(cells[3])
        if not limits and owner is None:
            found.append(_allocation(account, None, _UNLIMITED_UNIT, None, usage.get(_UNLIMITED_UNIT)))
        found += [_allocation(account, owner, unit, limit, usage.get(unit, 0.0)) for unit, limit in limits.items()]
    return found


def _allocation(account: str, user: str | None, unit: str, budget: float | None, used: float | None) -> AllocationInfo:
    def hours(minutes: float | None) -> float | None:
        return None if minutes is None else round(minutes / _MINUTES, 2)

    return AllocationInfo(account=account, user=user, unit=f"{unit}-hours", budget=hours(budget), used=hours(used))


def _amounts(cell: str) -> dict[str, float]:
    """Parse `cpu=60000,gres/gpu=600`. Other values, such as `N` for no limit, are left out."""
    pairs = [each.partition("=") for each in cell.split(",")]
    return {unit: amount for unit, _, value in pairs if (amount := decimal(value)) is not None}


def _is_unlimited(why: str) -> UnsupportedError:
    return UnsupportedError(
        f"This Slurm does not report budgets: {why}.", hint="Ask the site what your accounts may use."
    )
