"""Check that identity providers are reachable, have the configured issuer and keys, and that their clocks agree."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import httpx

from crestline.bounded import MAX_REFUSAL, BoundedClient, decode
from crestline.cli.checks import Check, Verdict
from crestline.cli.checks.clock import MAX_SKEW, date_of
from crestline.cli.checks.gateway.setup import Setup
from crestline.gateway.config import OidcConfig, OpenFgaConfig
from crestline.gateway.identity.oidc import Discovery, read_keys
from crestline.model import ConfigError
from crestline.plain_http import check_url

_SECONDS = 10.0


async def check(setup: Setup) -> AsyncIterator[Check]:
    """Check that each identity provider and OpenFGA respond."""
    for provider in setup.config.oidc:
        yield await _provider(provider)
    if setup.config.openfga is not None:
        yield await _openfga(setup.config.openfga)


async def _provider(provider: OidcConfig) -> Check:
    name = f"identity provider {provider.issuer}"
    try:
        async with BoundedClient(limit=MAX_REFUSAL, seconds=_SECONDS, verify=provider.ca_file or True) as http:
            answer = await http.get(f"{provider.issuer.rstrip('/')}/.well-known/openid-configuration")
            document = decode(answer.raise_for_status().content, Discovery)
            if document.issuer != provider.issuer:
                hint = "Write `issuer` exactly as the provider does, the slash at its end included."
                return Check(name, Verdict.FAIL, f"It calls itself {document.issuer[:200]!r}.", hint)
            check_url(document.jwks_uri)
            keys = read_keys((await http.get(document.jwks_uri)).raise_for_status().content).keys
    except httpx.HTTPStatusError as error:
        message = f"{error.request.url} answers with {error.response.status_code}."
        return Check(name, Verdict.FAIL, message, "Is the issuer's URL right?")
    except httpx.HTTPError as error:
        hint = "Can this machine reach it, and does ca_file name the authority of its certificate?"
        return Check(name, Verdict.FAIL, f"It cannot be reached: {error or type(error).__name__}.", hint)
    except OSError as error:
        return Check(name, Verdict.FAIL, f"ca_file cannot be read: {error.strerror}.", "Name a readable PEM file.")
    except ConfigError as error:
        return Check(name, Verdict.FAIL, f"Its jwks_uri is refused: {error.message}", error.hint)
    except (ValueError, httpx.InvalidURL):
        return Check(name, Verdict.FAIL, "Its discovery document or keys are invalid.", "Is the issuer's URL right?")
    if not keys:
        return Check(name, Verdict.FAIL, "It has no keys, so no token can be checked.", "Ask its operators.")
    if (date := date_of(answer)) is not None:
        skew = abs(date - time.time())
        if skew > MAX_SKEW:
            return Check(name, Verdict.FAIL, f"Its clock differs by {skew:.0f} s.", "Set the clocks by NTP.")
    return Check(name, Verdict.OK, f"It answers, with {len(keys)} key{'s' if len(keys) > 1 else ''}.")


async def _openfga(openfga: OpenFgaConfig) -> Check:
    try:
        async with BoundedClient(limit=MAX_REFUSAL, seconds=_SECONDS, verify=openfga.ca_file or True) as http:
            answer = await http.get(f"{openfga.url.rstrip('/')}/healthz")
    except (httpx.HTTPError, OSError) as error:
        return Check("openfga", Verdict.FAIL, f"{openfga.url} cannot be reached: {error}.", "Is the URL right?")
    if answer.status_code != 200:
        return Check("openfga", Verdict.FAIL, f"{openfga.url} answers with {answer.status_code}.", "See its log.")
    return Check("openfga", Verdict.OK, f"{openfga.url} answers.")
