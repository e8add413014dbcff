"""Resolve the clusters that `-M` names."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from crestline.cli.slurm.program import CommandError, on_system, one_line, print_answer, slurm_answer
from crestline.model import CrestlineError
from crestline.model.slurm_queries import SlurmOutput

if TYPE_CHECKING:
    from crestline.client import System

T = TypeVar("T")
Cluster = tuple[str | None, str | None]
"""Target and system, as `connect` takes them."""


def on_clusters(
    program: str,
    named: str | None,
    action: Callable[[System], Awaitable[T | SlurmOutput]],
    show: Callable[[T, bool], None],
    *,
    words: list[str] | None = None,
    refusal: CommandError | None = None,
    titled: bool = False,
) -> int:
    """Run `action` on each cluster, show its result, and return the exit code.

    If one of several clusters fails, its name and the error are printed on stderr, and the others are still shown.
    Slurm's commands do the same.

    Args:
        program, named: see `find_clusters`.
        action: queries a system. The output of Slurm's own command is printed unchanged.
        show: prints any other result. Its second argument is whether this is the first result.
        words: the command line, if Slurm's own command is preferred wherever the gateway can run it.
        refusal: the error for systems where the gateway cannot run Slurm's own command.
        titled: print the name of each cluster above its results.
    """

    async def ask(system: System) -> tuple[T | SlurmOutput, str]:
        answer = await slurm_answer(system, program, words) if words is not None else None
        if answer is None and refusal is not None:
            raise refusal
        return await action(system) if answer is None else answer, system.name

    clusters = find_clusters(program, named)
    shown = failed = code = 0
    for target, system in clusters:
        try:
            found, name = on_system(target, system, ask)
        except (CommandError, CrestlineError) as error:
            if len(clusters) == 1:
                raise
            failed += 1
            print(f"{program}: error: cluster {target or system}: {one_line(str(error))}", file=sys.stderr)
            continue
        if titled:
            print(f"\nCLUSTER: {name}" if shown else f"CLUSTER: {name}", flush=True)
        if isinstance(found, SlurmOutput):
            code = print_answer(found)
        else:
            show(found, not shown)
        shown += 1
    return code or int(bool(failed))


def find_clusters(program: str, named: str | None) -> list[Cluster]:
    """Resolve a value of `-M`: one cluster, several separated by commas, or `all`.

    If `CRESTLINE_SITE` or `FIRECREST_URL` is set, `all` is the cluster that a call without `-M` uses. Otherwise it is
    every site of the sites file.

    Raises:
        CommandError: see `find_cluster`.
        ConfigError: invalid sites file.
    """
    named = named or os.environ.get("SLURM_CLUSTERS")
    if named != "all":
        names = [each for each in (named or "").split(",") if each]
        return list(dict.fromkeys(find_cluster(program, each) for each in names)) or [_default()]
    if target := os.environ.get("CRESTLINE_SITE"):
        return [(target, None)]
    if os.environ.get("FIRECREST_URL"):
        return [(None, None)]
    from crestline.client import load_sites

    return [(site, None) for site in load_sites()] or [(None, None)]


def find_cluster(program: str, named: str | None) -> Cluster:
    """Resolve a value of `-M` that must name exactly one cluster.

    Args:
        program: the name of the command, for error messages.
        named: the value of `-M`: `system@site`, `site/system`, the name of a site, or of a system that only one site
            has. None means the value of `SLURM_CLUSTERS`, then of `CRESTLINE_SITE`, then the default.

    Raises:
        CommandError: the cluster is unknown, or `named` means several clusters.
        ConfigError: invalid sites file.
    """
    named = named or os.environ.get("SLURM_CLUSTERS")
    if not named:
        return _default()
    if "," in named or named == "all":
        if len(clusters := find_clusters(program, named)) == 1:
            return clusters[0]
        raise CommandError(
            f"{program}: error: '{named}' means {len(clusters)} clusters, and jobs of different clusters may have the "
            f"same id. Name one with -M or in CRESTLINE_SITE."
        )
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


def _default() -> Cluster:
    return os.environ.get("CRESTLINE_SITE") or None, None
