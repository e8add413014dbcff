"""Check the connection step by step: sites file, gateway, scheduler, files. Each step requires the one before."""

from __future__ import annotations

import secrets
import stat
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

import httpx

from crestline.bounded import MAX_REFUSAL, BoundedClient
from crestline.cli.checks import Check, Verdict, failed
from crestline.cli.checks.clock import MAX_SKEW, date_of
from crestline.cli.remote import naming_missing_directory, read_file
from crestline.cli.systems import health
from crestline.client import Policy, RetryPolicy, Site, System, connect, find_site, site_from_environment, sites_file
from crestline.client.backends.iri.transfers import LARGEST
from crestline.listening import check_listening
from crestline.model import AuthenticationError, CrestlineError
from crestline.plain_http import split_url
from crestline.wire.extensions import VERSION_HEADER

_APIS = {
    "firecrest": ("FirecREST", "Does the URL end where the API begins (often /firecrest/v2)?"),
    "iri": ("the IRI Facility API", "Does the URL end before /api/v1, or with /v1 or /v2?"),
}
"""Names of the APIs by a site's `api`, each with a question for the case that the API is not found."""

_PATIENCE = Policy(retry=RetryPolicy(attempts=1, total_timeout=20))


async def check_connection(target: str | None) -> AsyncIterator[Check]:
    """Run the checks until one fails on which the following ones depend."""
    if target or site_from_environment() is None:
        yield _sites_file()
    try:
        site, _ = find_site(target)
        split_url(site.url)
        trust = site.trust()
    except CrestlineError as error:
        yield failed("site", error)
        return
    yield _site(site)
    try:
        async with BoundedClient(limit=MAX_REFUSAL, seconds=10, verify=trust) as http:
            before = time.time()
            answer = await http.get(f"{site.url.rstrip('/')}/status/liveness", follow_redirects=True)
            after = time.time()
            found = await _find_api(http, site.url, answer)
    except httpx.HTTPError as error:
        try:
            check_listening(site.url)
        except CrestlineError as refused:
            yield failed("gateway", refused)
            return
        message = f"{site.url} does not answer: {error or type(error).__name__}."
        yield Check("gateway", Verdict.FAIL, message, "Is the URL right, and is the gateway running?")
        return
    check = _gateway(site, answer, found)
    yield check
    if check.verdict is Verdict.FAIL:
        return
    yield _clock(answer, before, after)
    try:
        async with connect(target, policy=_PATIENCE) as system:
            yield Check("credentials", Verdict.OK, "The gateway takes them.")
            async for check in _system(system):
                yield check
    except CrestlineError as error:
        yield failed("credentials" if isinstance(error, AuthenticationError) else "system", error)


def _sites_file() -> Check:
    file = sites_file()
    if not file.exists():
        message = f"{file} does not exist."
        return Check("sites file", Verdict.FAIL, message, "Start `crestline serve`, or set the FIRECREST_* variables.")
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & 0o077:
        return Check("sites file", Verdict.FAIL, f"{file} is open to others ({mode:o}).", f"Run: chmod 600 {file}")
    return Check("sites file", Verdict.OK, f"{file}, for you alone.")


def _site(site: Site) -> Check:
    url = httpx.URL(site.url)
    what = f"{site.name or 'site'} at {site.url}"
    if not site.verify:
        return Check("site", Verdict.WARN, f"{what}, whose certificate is not checked.", "Give ca_file instead.")
    if url.scheme == "http" and url.host not in ("localhost", "127.0.0.1", "::1"):
        message = f"{what}: secrets travel in clear text."
        return Check("site", Verdict.WARN, message, "Use https.")
    return Check("site", Verdict.OK, f"{what}.")


@dataclass(frozen=True)
class _FoundApi:
    """The API that a URL serves.

    Attributes:
        name: a value of a site's `api`. Empty if the API is unknown.
        version: the version of the API, or of the server.
    """

    name: str = ""
    version: str = ""


async def _find_api(http: httpx.AsyncClient, url: str, liveness: httpx.Response) -> _FoundApi:
    """Identify the API behind a site's URL.

    Args:
        liveness: the response to FirecREST's `/status/liveness`. A gateway adds its version to every response.
    """
    base = url.rstrip("/")
    for version in ("2", "1"):
        root = base if base.endswith(f"/v{version}") else f"{base}/api/v{version}"
        answer = await http.get(f"{root}/facility", headers={"Accept": "application/json"}, follow_redirects=True)
        if answer.status_code == 200 and b'"site_uris"' in answer.content:
            return _FoundApi("iri", f"v{version}")
    if liveness.is_success and VERSION_HEADER in liveness.headers:
        return _FoundApi("firecrest", liveness.headers[VERSION_HEADER])
    return _FoundApi()


def _gateway(site: Site, answer: httpx.Response, found: _FoundApi) -> Check:
    if site.api not in _APIS:
        return Check("gateway", Verdict.OK, f"{site.url} answers; its API is {site.api!r}.")
    wanted, hint = _APIS[site.api]
    if found.name == site.api:
        return Check("gateway", Verdict.OK, f"{wanted[0].upper()}{wanted[1:]} {found.version} answers.")
    if found.name:
        message = f"{site.url} answers as {_APIS[found.name][0]} does, and the site's `api` is {site.api!r}."
        hint = f'Set `api = "{found.name}"`, or the URL of {wanted}.'
        return Check("gateway", Verdict.FAIL, message, hint)
    return Check("gateway", Verdict.WARN, f"{site.url} answers with {answer.status_code}, not as {wanted} does.", hint)


def _clock(answer: httpx.Response, before: float, after: float) -> Check:
    theirs = date_of(answer)
    if theirs is None:
        return Check("clock", Verdict.WARN, "The gateway does not say what time it is.")
    skew = max(theirs - after, before - (theirs + 1), 0)
    if skew > MAX_SKEW:
        message = f"This machine's clock and the gateway's differ by {skew:.0f} s."
        return Check("clock", Verdict.FAIL, message, "Set them by NTP: tokens look expired otherwise.")
    return Check("clock", Verdict.OK, f"Differs from the gateway's by less than {skew + 1:.0f} s.")


async def _system(system: System) -> AsyncIterator[Check]:
    name = f"system {system.name}"
    try:
        found = health(await system.describe())
        sound = found in ("ok", "not probed")
        hint = "" if sound else "Ask the site's operators."
        yield Check(name, Verdict.OK if sound else Verdict.WARN, f"Health: {found}.", hint)
    except CrestlineError as error:
        yield failed(name, error)
    features = ", ".join(sorted(system.capabilities))
    name_of_api = {"firecrest": "plain FirecREST", "iri": "the IRI Facility API"}.get(system.api, f"{system.api!r}")
    none = f"None: the API is {name_of_api}. The client works without Crestline's additions."
    yield Check("features", Verdict.OK, f"{features}." if features else none)
    if not features:
        yield _large_files(system)
    try:
        yield Check("jobs", Verdict.OK, f"The scheduler lists {len(await system.jobs())} of your jobs.")
    except CrestlineError as error:
        yield failed("jobs", error)
    try:
        yield await _write_test(system)
    except CrestlineError as error:
        yield failed("files", error)
    for plugin in entry_points(group="crestline.checks"):
        try:
            async for what, message, hint in plugin.load()(system):
                yield Check(what, Verdict.OK, message, hint)
        except CrestlineError as error:
            yield failed(plugin.name, error)


def _large_files(system: System) -> Check:
    limit = f"{system.backend.max_direct_upload / 2**20:g} MiB"
    if system.backend.transfer_service == "s3":
        return Check("large files", Verdict.OK, f"Files of more than {limit} travel by way of the site's S3 store.")
    if not system.backend.max_direct_upload:
        return Check("files", Verdict.WARN, "The API has no operations on files here.", "Move files by other means.")
    if system.api == "iri":
        message = f"Files of more than {limit} travel in pieces, with one job, up to {LARGEST / 2**20:g} MiB."
        return Check("large files", Verdict.WARN, message, "Use Globus Transfer for larger files.")
    offer = f"only the {system.backend.transfer_service}" if system.backend.transfer_service else "nothing"
    message = f"The site offers {offer} for files of more than {limit}: each travels in pieces, with one job."
    return Check("large files", Verdict.WARN, message, "Ask the site for S3 if that is too slow.")


async def _write_test(system: System) -> Check:
    """Write, read and delete a file in the default directory."""
    name = f".crestline-doctor-{secrets.token_hex(4)}"
    path = await system.resolve_path(name)
    content = secrets.token_bytes(64)
    with tempfile.TemporaryDirectory(prefix="crestline-") as place:
        local = Path(place, name)
        local.write_bytes(content)
        async with naming_missing_directory(system, path):
            await system.upload(local, path)
    try:
        back = b"".join([chunk async for chunk in read_file(system, path)])
    finally:
        await system.remove(path)
    if back != content:
        return Check("files", Verdict.FAIL, f"{path} came back with another content.", "Tell the operators.")
    return Check("files", Verdict.OK, f"Wrote, read and removed a file in {path.rpartition('/')[0]}.")
