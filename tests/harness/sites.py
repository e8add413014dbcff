"""Sites of the client for a stand-in and for a running gateway, and a policy without patience."""

from __future__ import annotations

from typing import Any

from crestline.client import Policy, PollPolicy, RetryPolicy, Site, SubmitPolicy
from crestline.testing.firecrest import PlainFirecrest
from harness.gateway import RunningGateway

BRISK = Policy(
    retry=RetryPolicy(attempts=4, initial_backoff=0.02, max_backoff=1.0, total_timeout=20.0, read_timeout=10.0),
    poll=PollPolicy(min_interval=0.05, max_interval=0.2, max_duty_cycle=1.0, list_retry_delay=0.5, missing_timeout=0.3),
    submit=SubmitPolicy(visibility_timeout=0.6, poll_interval=0.1, total_timeout=15.0),
)


def plain_site(plain: PlainFirecrest, **changes: Any) -> Site:
    """The first user on a stand-in, by client credentials."""
    values = {
        "name": "plain",
        "url": plain.url,
        "token_url": plain.token_url,
        "client_id": plain.client_id,
        "client_secret": plain.client_secret,
        "system": plain.system,
    }
    return Site(**(values | changes))


def gateway_site(gateway: RunningGateway, **changes: Any) -> Site:
    """The first client of a gateway."""
    client_id, client_secret = gateway.client
    values = {
        "name": "ours",
        "url": gateway.url,
        "token_url": gateway.token_url,
        "client_id": client_id,
        "client_secret": client_secret,
        "system": gateway.system,
    }
    return Site(**(values | changes))


def iri_site(gateway: RunningGateway, **changes: Any) -> Site:
    """The same by the gateway's IRI API."""
    return gateway_site(gateway, **({"name": "iri", "url": f"{gateway.url}/iri", "api": "iri"} | changes))
