"""`-M`: which system is meant."""

from __future__ import annotations

import os

from crestline.cli.slurm.program import CommandError


def find_cluster(program: str, named: str | None) -> tuple[str | None, str | None]:
    """What `connect` takes as target and system.

    Args:
        program: for the message.
        named: the value of `-M`: `system@site`, `site/system`, the name of a site, or of a system that only one site
            has. None: what `SLURM_CLUSTERS` says, then `CRESTLINE_SITE`, then the default.

    Raises:
        CommandError: there is no such thing, or there are several.
        ConfigError: the sites file cannot be used.
    """
    named = named or os.environ.get("SLURM_CLUSTERS")
    if not named:
        return os.environ.get("CRESTLINE_SITE") or None, None
    if "," in named or named == "all":
        raise CommandError(f"{program}: error: -M takes one cluster at a time, not '{named}'.")
    if "@" in named:
        return named, None
    from crestline.client import load_sites

    sites = load_sites()
    site, slash, system = named.partition("/")
    if slash:
        return f"{system}@{site}", None
    if named in sites:
        return named, None
    having = [name for name, each in sites.items() if (each.system or "").casefold() == named.casefold()]
    if len(having) == 1:
        return f"{named}@{having[0]}", None
    if os.environ.get("FIRECREST_URL"):
        return None, named
    known = ", ".join(sorted(sites)) or "none"
    raise CommandError(
        f"{program}: error: '{named}' can't be reached now, or it is an invalid entry for --cluster. "
        f"Name system@site, or a site of the sites file, which has: {known}."
    )
