"""How many jobs Slurm takes from a user at once: the limits of their associations and of the default QOS."""

from __future__ import annotations

import getpass

from crestline.client.backends.base import SystemEndpoints
from crestline.model.slurm_queries import SlurmQuery


async def submit_limit(system: SystemEndpoints) -> int | None:
    """Return how many jobs the user may have submitted at once; None: any number.

    Raises:
        UnsupportedError: the API or the scheduler does not tell.
    """
    me = getpass.getuser()
    words = ("where", f"user={me}", "format=qos,defaultqos,maxsubmitjobs")
    associations = await _rows(system, me, "association", *words)
    return limit_of(associations, await _rows(system, me, "qos", "format=name,maxsubmitpu"))


def limit_of(associations: list[list[str]], qualities: list[list[str]]) -> int | None:
    """The largest limit of the associations; None if one of them has none.

    Args:
        associations: their QOS, default QOS and limit.
        qualities: each QOS and its limit for a user.
    """
    by_name = {name: int(limit) for name, limit in qualities if limit}
    limits: list[int] = []
    for allowed, default, limit in associations:
        found = [int(limit)] if limit else []
        if (quality := by_name.get(default or allowed)) is not None:  # several allowed ones are the name of none
            found.append(quality)
        if not found:
            return None
        limits.append(min(found))
    return max(limits, default=None)


async def _rows(system: SystemEndpoints, me: str, entity: str, *words: str) -> list[list[str]]:
    query = SlurmQuery(program="sacctmgr", arguments=("-n", "-P", "show", entity, *words), me=me)
    answer = await system.ask_slurm(query)
    return [line.split("|") for line in answer.output.splitlines()] if answer.exit_code == 0 else []
