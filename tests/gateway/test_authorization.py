"""What a credential may do: scopes, rules of systems, OpenFGA."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from crestline.gateway.app import create_app
from crestline.gateway.authorization.guard import required_scope
from crestline.gateway.config import GatewayConfig
from crestline.gateway.runtime import GatewayRuntime
from crestline.wire.extensions import SCOPES
from harness.gateway import RunningGateway, in_thread
from harness.oidc import OidcProvider
from harness.waiting import until
from stand_ins.openfga import STORE, OpenFga, openfga

KEY = "pre-shared-key-of-the-tests"
JOB = {"job": {"script": "#!/bin/sh\n", "workingDirectory": "/tmp"}}


def test_every_route_says_what_it_needs() -> None:
    app = create_app(GatewayRuntime(GatewayConfig()))
    named = set()
    for route in app.routes:
        if route.path.startswith("/docs"):
            continue
        for handler in route.route_handlers:
            if not handler.opt.get("public"):
                named |= {required_scope(method, handler.opt) for method in handler.http_methods if method != "OPTIONS"}
    assert named == SCOPES, "each scope is needed somewhere, and nothing else is"


@pytest.fixture(scope="module")
def scoped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with in_thread(tmp_path_factory.mktemp("scoped") / "home") as gateway:
        yield gateway


# For each scope: requests that need it, by method and path below the gateway.
REQUESTS: dict[str, list[tuple[str, str, Any]]] = {
    "status:read": [("GET", "/status/systems", None), ("GET", "/status/local/userinfo", None)],
    "jobs:read": [
        ("GET", "/compute/local/jobs", None),
        ("GET", "/compute/local/jobs/1", None),
        ("GET", "/compute/local/jobs/1/metadata", None),
    ],
    "jobs:write": [
        ("POST", "/compute/local/jobs", JOB),
        ("DELETE", "/compute/local/jobs/1", None),
        ("PUT", "/compute/local/jobs/1/attach", {"command": "true"}),
    ],
    "files:read": [
        ("GET", "/filesystem/local/ops/ls?path=/tmp", None),
        ("GET", "/filesystem/local/ops/content?path=/tmp/x", None),
        ("POST", "/filesystem/local/ops/manifest", {"path": "/tmp", "files": {}}),
        ("POST", "/filesystem/local/ops/tar", {"path": "/nowhere"}),
        ("POST", "/filesystem/local/transfer/download", {"path": "/x", "transferDirectives": {"transferMethod": "s3"}}),
    ],
    "files:write": [
        ("POST", "/filesystem/local/ops/mkdir", {"path": "/nowhere/x"}),
        ("PUT", "/filesystem/local/ops/content?path=/nowhere/x", None),
        ("DELETE", "/filesystem/local/ops/rm?path=/nowhere/x", None),
        ("DELETE", "/filesystem/local/transfer/rm?path=/nowhere/x", None),
        ("POST", "/filesystem/local/transfer/upload", {"path": "/x", "transferDirectives": {"transferMethod": "s3"}}),
    ],
    "keys:read": [("GET", "/keys", None)],
    "keys:write": [("POST", "/keys", {"name": "x", "scopes": ["keys:write"]}), ("DELETE", "/keys/nosuch", None)],
}


@pytest.mark.parametrize("scope", sorted(SCOPES))
def test_a_token_may_do_what_its_scope_says_and_nothing_else(scoped: RunningGateway, scope: str) -> None:
    token = scoped.token(scope=scope)
    with httpx.Client(base_url=scoped.url, headers={"Authorization": f"Bearer {token}"}, trust_env=False) as http:
        for needed, requests in REQUESTS.items():
            for method, path, body in requests:
                answer = http.request(method, path, json=body)
                if needed == scope:
                    assert answer.status_code not in (401, 403), (method, path, answer.text)
                    continue
                assert answer.status_code == 403, (method, path, answer.text)
                assert answer.json() == {
                    "errorType": "error",
                    "message": f"The token lacks the scope '{needed}'. Use one that has it.",
                    "causedBy": None,
                    "data": None,
                    "user": answer.headers["F7T-AuthUsername"],
                }
                assert f'error="insufficient_scope", scope="{needed}"' in answer.headers["WWW-Authenticate"]


def test_scopes_of_the_built_in_issuer(scoped: RunningGateway) -> None:
    """All of them unless some are asked for; words of other servers mean nothing."""
    form = {"grant_type": "client_credentials"}

    def granted(scope: str) -> set[str]:
        answer = httpx.post(scoped.token_url, data=form | {"scope": scope}, auth=scoped.client, trust_env=False)
        return set(answer.json()["scope"].split())

    assert granted("") == SCOPES
    assert granted("openid firecrest") == SCOPES | {"openid", "firecrest"}
    assert granted("firecrest jobs:read") == {"firecrest", "jobs:read"}


@contextmanager
def with_provider(provider: OidcProvider, home: Path, **options: Any) -> Iterator[RunningGateway]:
    trusted = {"issuer": provider.issuer, "audience": provider.audience} | options.pop("oidc", {})
    with in_thread(home, oidc=[trusted], **options) as gateway:
        yield gateway


def ask(gateway: RunningGateway, token: str, path: str = "/status/systems", method: str = "GET") -> httpx.Response:
    return httpx.request(method, gateway.url + path, headers={"Authorization": f"Bearer {token}"}, trust_env=False)


def test_scopes_of_a_provider(oidc_provider: OidcProvider, tmp_path: Path) -> None:
    mapping = {"firecrest": ["*"], "firecrest.read": ["status:read", "files:read"]}
    with with_provider(oidc_provider, tmp_path / "home", oidc={"scopes": mapping}) as gateway:
        everything = oidc_provider.token("alice", scope="firecrest")
        reading = oidc_provider.token("alice", scope="firecrest.read")
        ours = oidc_provider.token("alice", scope="jobs:read")
        listing, jobs, keys = "/filesystem/local/ops/ls?path=/tmp", "/compute/local/jobs", "/keys"
        for token, allowed in ((everything, [listing, jobs, keys]), (reading, [listing]), (ours, [jobs])):
            for path in (listing, jobs, keys):
                assert (ask(gateway, token, path).status_code == 200) == (path in allowed), path
        assert ask(gateway, reading, "/filesystem/local/ops/rm?path=/nowhere", "DELETE").status_code == 403


def test_without_a_mapping_a_providers_token_may_everything(oidc_provider: OidcProvider, tmp_path: Path) -> None:
    """As in an existing FirecREST deployment, whose tokens have the scope `firecrest` or none."""
    with with_provider(oidc_provider, tmp_path / "home") as gateway:
        for scope in ("firecrest", "firecrest.read"):
            for path in ("/compute/local/jobs", "/keys"):
                assert ask(gateway, oidc_provider.token("alice", scope=scope), path).status_code == 200


@pytest.mark.parametrize("claim", ["groups", "realm_access.roles"])
def test_rules_of_a_system(oidc_provider: OidcProvider, tmp_path: Path, claim: str) -> None:
    systems = {
        "open": {},
        "members": {"access": [{"groups": ["staff"]}, {"users": ["bob"], "scopes": ["jobs:read"]}]},
        "closed": {"access": [{"users": ["carol"], "groups": ["alice"]}]},
    }
    oidc = {"groups_claim": claim}
    with with_provider(oidc_provider, tmp_path / "home", systems=systems, oidc=oidc) as gateway:
        alice, bob = oidc_provider.token("alice"), oidc_provider.token("bob")
        for token, path, status in (
            (alice, "/compute/open/jobs", 200),
            (bob, "/compute/open/jobs", 200),
            (alice, "/compute/members/jobs", 200),
            (bob, "/compute/MEMBERS/jobs", 200),
            (alice, "/status/members/userinfo", 200),
            (bob, "/status/members/userinfo", 403),
            (alice, "/compute/closed/jobs", 403),
            (alice, "/compute/nosuch/jobs", 404),
        ):
            assert ask(gateway, token, path).status_code == status, path
        refusal = ask(gateway, bob, "/compute/members/jobs/1", "DELETE")
        assert refusal.json()["message"] == "'bob' may not do this on members (jobs:write). Ask the site for access."


@pytest.fixture
def fga(tmp_path: Path) -> Iterator[OpenFga]:
    (tmp_path / "openfga-key").write_text(f"{KEY}\n")
    with openfga(KEY) as server:
        yield server


def settings(server: OpenFga, folder: Path, **changes: Any) -> dict[str, Any]:
    return {"url": server.url, "store_id": STORE, "token_file": str(folder / "openfga-key"), "cache": 0} | changes


def test_openfgas_answer_is_read(fga: OpenFga, tmp_path: Path) -> None:
    with in_thread(tmp_path / "home", openfga=settings(fga, tmp_path, model_id="01JMODEL")) as gateway:
        token, user = gateway.token(), ask(gateway, gateway.token()).headers["F7T-AuthUsername"]
        refusal = ask(gateway, token, "/compute/local/jobs")
        assert (refusal.status_code, refusal.json()["message"]) == (
            403,
            f"'{user}' may not use local. Ask the site for access.",
        )
        tuple_key = {"user": f"user:{user}", "relation": "member", "object": "vcluster:local"}
        assert fga.questions[-1] == {"tuple_key": tuple_key, "authorization_model_id": "01JMODEL"}
        fga.tuples.add((f"user:{user}", "member", "vcluster:local"))
        assert ask(gateway, token, "/compute/local/jobs").status_code == 200


@pytest.mark.parametrize(
    "answer",
    [
        (200, b'{"allowed": "true"}'),
        (200, b"{}"),
        (200, b"OK"),
        (400, b'{"code": "validation_error"}'),
        (500, b'{"allowed": true}'),
    ],
)
def test_openfga_that_gives_no_answer_never_allows(fga: OpenFga, tmp_path: Path, answer: tuple[int, bytes]) -> None:
    with in_thread(tmp_path / "home", openfga=settings(fga, tmp_path)) as gateway:
        token = gateway.token()
        fga.tuples.add((f"user:{ask(gateway, token).headers['F7T-AuthUsername']}", "member", "vcluster:local"))
        fga.broken = answer
        refusal = ask(gateway, token, "/compute/local/jobs")
        assert refusal.status_code == 503
        assert int(refusal.headers["Retry-After"]) > 0
        fga.broken = None
        assert ask(gateway, token, "/compute/local/jobs").status_code == 200


def test_openfga_gone_and_back(fga: OpenFga, tmp_path: Path) -> None:
    with in_thread(tmp_path / "home", openfga=settings(fga, tmp_path)) as gateway:
        token = gateway.token()
        fga.tuples.add((f"user:{ask(gateway, token).headers['F7T-AuthUsername']}", "member", "vcluster:local"))
        assert ask(gateway, token, "/compute/local/jobs").status_code == 200
        fga.stop()
        refusal = ask(gateway, token, "/compute/local/jobs")
        assert (refusal.status_code, refusal.headers["Retry-After"]) == (503, "2")
        assert ask(gateway, token).status_code == 200, "what is not a matter of one system goes on"
        fga.start()
        assert ask(gateway, token, "/compute/local/jobs").status_code == 200


@pytest.mark.anyio
async def test_an_answer_of_openfga_holds_for_a_while(fga: OpenFga, tmp_path: Path) -> None:
    with in_thread(tmp_path / "home", openfga=settings(fga, tmp_path, cache=2)) as gateway:
        token = gateway.token()
        member = (f"user:{ask(gateway, token).headers['F7T-AuthUsername']}", "member", "vcluster:local")
        fga.tuples.add(member)
        for _ in range(5):
            assert ask(gateway, token, "/compute/local/jobs").status_code == 200
        assert len(fga.questions) < 5
        fga.tuples.remove(member)
        await until(lambda: ask(gateway, token, "/compute/local/jobs").status_code == 403)
