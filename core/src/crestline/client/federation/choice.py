"""Choose the system for a job by health, limits and queue. The same key always gets the same system."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace

from crestline.client.config import Site, find_site, load_sites, site_from_environment
from crestline.client.federation import ledger
from crestline.client.federation.probe import SystemLoad, probe
from crestline.client.federation.requirements import Requirements, requirements_of
from crestline.client.policy import Policy, RetryPolicy
from crestline.client.system import System
from crestline.client.systems import list_systems
from crestline.listening import check_listening
from crestline.model import (
    ConfigError,
    CrestlineError,
    InvalidRequestError,
    JobSpec,
    NoEligibleSiteError,
    UnsupportedError,
)

ANY = "any"
"""target for all sites of the sites file; `any:one@here,there` for some"""

QUICK = Policy(retry=RetryPolicy(attempts=1, total_timeout=8, connect_timeout=4, read_timeout=6))
"""settings for one of several sites, so that a site that is down does not delay the others for long"""


@dataclass(frozen=True)
class Choice:
    """The system that was chosen for a job.

    Attributes:
        target: `system@site`, for `connect`.
        reasons: for each other system, why it was rejected.
        again: True if an earlier call with the same key chose the system.

    Example::

        choice = await choose_system(spec, key="campaign/42")
        async with crestline.connect(choice.target) as system:
            job = await system.submit(spec, key="campaign/42")
    """

    target: str
    reasons: dict[str, str]
    again: bool = False


def is_any(target: str | None) -> bool:
    """Return True if a target stands for several sites."""
    return target == ANY or bool(target and target.startswith(f"{ANY}:"))


async def choose_system(spec: JobSpec, target: str = ANY, *, key: str | None = None) -> Choice:
    """Choose the system for a job: healthy, large enough, with budget left, and with the shortest queue.

    With a key, the choice is made once. The client records it beside the sites file before it submits the job, and a
    repeated call returns it, even if the system is down. Without a record, for example on another machine, the client
    asks every system for the key. It chooses no system until all of them have answered.

    Args:
        spec: the job. Its partition, nodes, cores and time decide which systems can run it.
        target: `any`, or `any:` and targets separated by commas.
        key: key of the submission. Pass the same key to `System.submit`.

    Raises:
        NoEligibleSiteError: none can take it, or one that may have the job of this key does not say.
        ConfigError: no site is configured, or a named site does not exist.
    """
    needs = requirements_of(spec)
    if key is not None and (known := ledger.noted(key)) is not None:
        return Choice(known, {}, again=True)
    reasons: dict[str, str] = {}
    candidates = await _candidates(target, reasons)
    if key is not None:
        found = await _find(spec, key, candidates, reasons)
        if found is not None:
            return Choice(ledger.note(key, found), {}, again=True)
    answers = await asyncio.gather(*(_probe(each, needs) for each in candidates))
    looks = []
    for name, answer in zip(candidates, answers, strict=True):
        if isinstance(answer, SystemLoad):
            looks.append(answer)
        else:
            reasons[name] = answer
    if not looks:
        raise NoEligibleSiteError("No site can take this job:", reasons, hint="Ask for less, or try again later.")
    best = min(looks, key=lambda look: (look.waiting, -look.idle, -look.budget_ratio, candidates.index(look.target)))
    reasons |= {each.target: _longer(each, best) for each in looks if each is not best}
    chosen = ledger.note(key, best.target) if key is not None else best.target
    return Choice(chosen, reasons, again=chosen != best.target)


@contextlib.asynccontextmanager
async def connect_any(
    spec: JobSpec, target: str = ANY, *, key: str | None = None, policy: Policy | None = None
) -> AsyncGenerator[System]:
    """Open the chosen system. Then call `system.submit(spec, key=key)`.

    Raises:
        NoEligibleSiteError: as `choose_system`; or the system that an earlier call has chosen does not answer.
    """
    choice = await choose_system(spec, target, key=key)
    site, name = find_site(choice.target)
    system = System(site, name, policy or Policy())
    try:
        await system.open()
    except CrestlineError as error:
        raise _away(choice, error) from error
    try:
        yield system
    except InvalidRequestError:
        if key is not None and not choice.again:  # refused, so the key may go elsewhere; `_find` has the last word
            ledger.forget(key)
        raise
    finally:
        await system.close()


def _away(choice: Choice, error: CrestlineError) -> NoEligibleSiteError:
    if choice.again:
        return NoEligibleSiteError(
            "The job of this key went to a site that does not answer:",
            {choice.target: error.message},
            hint="Repeat with the same key when it does; a job elsewhere could be a second one.",
        )
    return NoEligibleSiteError("The chosen site does not answer any more:", {choice.target: error.message})


async def _candidates(target: str, reasons: dict[str, str]) -> list[str]:
    """Return all targets, in their order. A site without a default system stands for each of its systems."""
    if target.startswith(f"{ANY}:"):
        names = [each for each in target.removeprefix(f"{ANY}:").split(",") if each]
    else:
        names = list(load_sites())
    if not names:
        hint = "FIRECREST_URL names one site alone." if site_from_environment() else "`crestline serve` adds one."
        raise ConfigError("No sites are configured to choose from.", hint=f"Write several into the sites file. {hint}")
    lists = await asyncio.gather(*(_systems_of(name, reasons) for name in names))
    return list(dict.fromkeys(each for found in lists for each in found))


async def _systems_of(name: str, reasons: dict[str, str]) -> Sequence[str]:
    site, system = find_site(name)
    if system is not None:
        return [f"{system}@{site.name}"]
    try:
        check_listening(site.url)
        return [f"{each.get('name')}@{site.name}" for each in await list_systems(site, QUICK)]
    except CrestlineError as error:
        reasons[name] = f"no answer: {error.message}"
        return []


async def _find(spec: JobSpec, key: str, candidates: list[str], reasons: dict[str, str]) -> str | None:
    async def ask(target: str) -> bool | str:
        try:
            async with _opened(target) as system:
                return await system.connection.submission.was_submitted(spec, key)
        except UnsupportedError as error:
            return error.message
        except CrestlineError as error:
            return f"no answer: {error.message}"

    answers = dict(zip(candidates, await asyncio.gather(*map(ask, candidates)), strict=True))
    for target, answer in answers.items():
        if answer is True:
            return target
    silent = reasons | {target: answer for target, answer in answers.items() if isinstance(answer, str)}
    if silent:
        raise NoEligibleSiteError(
            "A site may have the job of this key already, and does not say:",
            silent,
            hint="Repeat when it answers, or choose among others: any:ONE,OTHER.",
        )
    return None


async def _probe(target: str, needs: Requirements) -> SystemLoad | str:
    try:
        async with _opened(target) as system:
            account = needs.account or find_site(target)[0].account
            return await probe(system, target, replace(needs, account=account))
    except CrestlineError as error:
        return f"no answer: {error.message}"


def _opened(target: str) -> System:
    site: Site
    site, name = find_site(target)
    check_listening(site.url)
    return System(site, name, QUICK)


def _longer(look: SystemLoad, best: SystemLoad) -> str:
    if look.waiting > best.waiting:
        return f"{look.waiting} jobs wait there, {best.waiting} at {best.target}"
    if look.idle < best.idle:
        return f"{look.idle} nodes are idle there, {best.idle} at {best.target}"
    if look.budget_ratio < best.budget_ratio:
        return f"{look.budget_ratio:.0%} of the budget is left there, {best.budget_ratio:.0%} at {best.target}"
    return f"{best.target} comes first"
