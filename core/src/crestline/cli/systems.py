"""`crestline systems`: list systems and their health."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from crestline.cli.connecting import run_async
from crestline.cli.help import make_app
from crestline.cli.options import Json, Site
from crestline.cli.output import print_json, print_table
from crestline.listening import check_listening
from crestline.model import CrestlineError

if TYPE_CHECKING:
    from crestline import client

app = make_app()


@app.command()
def systems(site: Site = None, json: Json = False) -> None:
    """List the systems of all configured sites, or of one, with their health."""
    sites = _sites(site)
    answers = run_async(_ask_all(sites))
    if json:
        print_json([entry for name, answer in answers for entry in _entries(name, answer)])
        return
    rows: list[list[object]] = []
    for name, answer in answers:
        if isinstance(answer, CrestlineError):
            rows.append(["-", name, "", "", f"no answer: {answer.message}"])
            continue
        for system in answer:
            scheduler = system.get("scheduler") or {}
            places = [each.get("path", "") for each in system.get("fileSystems") or []]
            words = f"{scheduler.get('type', '')} {scheduler.get('version', '')}".strip()
            rows.append([system.get("name"), name, words, " ".join(places), health(system)])
    print_table(("SYSTEM", "SITE", "SCHEDULER", "FILE SYSTEMS", "HEALTH"), rows)


def health(system: dict[str, Any]) -> str:
    """Summarize the health of an entry of `/status/systems`: `ok`, or the problem."""
    services = system.get("servicesHealth")
    if not services:
        return "not probed"
    sick = [
        f"{each.get('serviceType')} {each.get('path') or ''}".strip() + f": {each.get('message') or 'not healthy'}"
        for each in services
        if not each.get("healthy")
    ]
    degraded = [str(each["message"]) for each in services if each.get("degraded")]
    return "; ".join(sick) or (f"ok ({'; '.join(degraded)})" if degraded else "ok")


def _sites(target: str | None) -> dict[str, client.Site]:
    from crestline.client import find_site, load_sites, site_from_environment

    if target:
        site, _ = find_site(target)
        return {site.name: site}
    from_variables = site_from_environment()
    sites = load_sites()
    return ({"(FIRECREST_URL)": from_variables} if from_variables else {}) | sites or {"": find_site(None)[0]}


async def _ask_all(sites: dict[str, client.Site]) -> list[tuple[str, list[dict[str, Any]] | CrestlineError]]:
    async def ask(name: str, site: client.Site) -> tuple[str, list[dict[str, Any]] | CrestlineError]:
        from crestline.client import Policy, RetryPolicy, list_systems

        # A site that does not respond must not delay the others for long.
        quick = Policy(retry=RetryPolicy(attempts=1, total_timeout=10, connect_timeout=5, read_timeout=10))
        try:
            check_listening(site.url)
            return name, await list_systems(site, quick)
        except CrestlineError as error:
            if len(sites) == 1:
                raise
            return name, error

    return await asyncio.gather(*(ask(name, site) for name, site in sites.items()))


def _entries(name: str, answer: list[dict[str, Any]] | CrestlineError) -> list[dict[str, Any]]:
    if isinstance(answer, CrestlineError):
        return [{"site": name, "error": answer.message}]
    return [{"site": name, **system} for system in answer]
