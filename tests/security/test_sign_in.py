"""Failed sign-ins, what they leave behind, and credentials that outlive what they were made with."""

from __future__ import annotations

import getpass
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

from crestline.gateway.audit import AuditQuery, AuditRecord, AuditTrail
from crestline.gateway.config import AuditConfig
from crestline.gateway.state_directory import Endpoint, StateDirectory
from crestline.gateway.store import Store
from harness.audit import audit_records
from harness.cluster import Cluster
from harness.command import Command
from harness.forging_issuer import ForgingIssuer
from harness.gateway import RunningGateway, in_thread
from harness.slurm_gateway import SlurmGateway, prepare


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[RunningGateway]:
    with in_thread(tmp_path / "home", issuer={"max_failures": 5}) as gateway:
        yield gateway


def crestline(gateway: RunningGateway, *words: str) -> str:
    command = [str(Path(sys.executable).with_name("crestline")), *words, "--state-dir", str(gateway.home)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def ask(gateway: RunningGateway, client: tuple[str, str], **form: str) -> httpx.Response:
    return httpx.post(gateway.token_url, data={"grant_type": "client_credentials"} | form, auth=client)


def test_failed_sign_ins_are_limited_and_right_ones_are_not(fresh: RunningGateway) -> None:
    client_id, _ = fresh.client
    answers = [ask(fresh, (client_id, "wrong")) for _ in range(20)]
    assert [each.status_code for each in answers] == [401] * 5 + [429] * 15
    assert all(int(each.headers["Retry-After"]) > 0 for each in answers[5:])
    assert [ask(fresh, ("unknown", "wrong")).status_code, ask(fresh, fresh.client).status_code] == [429, 200]


def test_a_stranger_stores_nothing_of_their_choice(fresh: RunningGateway) -> None:
    """Whatever is sent with the id of a client that is known: one record, and one with the number of the others."""
    client_id, secret = fresh.client
    noise = "chosen-by-the-stranger"
    began = time.monotonic()
    for number in range(200):
        httpx.post(
            f"{fresh.token_url}?path={noise * 500}{number}",
            data={"grant_type": "client_credentials", "scope": noise * 50},
            auth=(client_id, "wrong"),
            headers={"User-Agent": noise},
        )
    minutes = int((time.monotonic() - began) / 60)  # on a busy machine more than none
    refused = [each for each in audit_records(fresh) if each.status in (401, 429)]
    assert 1 <= len(refused) <= 1 + 2 * minutes
    assert {(each.client_id, each.target, each.system) for each in refused} == {(client_id, "", "")}
    everything = b"".join(each.read_bytes() for each in (fresh.home / "private").glob("gateway.db*"))
    assert noise.encode() not in everything
    assert secret.encode() not in everything


def test_refused_credentials_are_counted_together(tmp_path: Path) -> None:
    with in_thread(tmp_path / "home") as gateway:
        with gateway.http() as http:
            key = http.post("/keys", json={"name": "short"}).json()
            http.delete(f"/keys/{key['keyId']}")
        for number in range(30):
            url = f"{gateway.url}/filesystem/local/ops/rm?path=/{'x' * 1000}{number}"
            assert httpx.delete(url, headers={"X-API-Key": key["secret"]}).status_code == 401
    refused = [each for each in audit_records(gateway) if each.status == 401]
    assert [each.client_id for each in refused] == [key["keyId"]] * 2
    assert "29 more" in refused[1].reason or "28 more" in refused[1].reason
    assert [each.target for each in refused] == ["", ""]


def redeem(gateway: RunningGateway, code: str) -> httpx.Response:
    return httpx.post(f"{gateway.url}/page/sign-in", json={"code": code})


def test_a_sign_in_link_works_once_and_for_minutes(fresh: RunningGateway) -> None:
    home = StateDirectory(fresh.home)
    home.record_endpoint(Endpoint(url=fresh.url, token_url=fresh.token_url, system=fresh.system))
    codes = []
    crestline(fresh, "clients", "add", "other", "--user", getpass.getuser())
    for words in ([], [], ["other"]):
        address, _, code = crestline(fresh, "clients", "link", *words).partition("/#/sign-in/")
        assert address == fresh.url
        codes.append(code)
    with ThreadPoolExecutor(8) as threads:  # all at once, one of them is served
        answers = list(threads.map(lambda _: redeem(fresh, codes[0]), range(8)))
    assert sorted(each.status_code for each in answers)[:2] == [201, 401]
    (served,) = [each for each in answers if each.status_code == 201]
    assert served.headers["Cache-Control"] == "no-store"
    key = served.json()
    assert 0 < key["expires"] - key["created"] <= 12 * 3600
    assert httpx.get(f"{fresh.url}/keys/", headers={"X-API-Key": key["secret"]}).status_code == 200

    with sqlite3.connect(home.database) as store:
        store.execute(
            "UPDATE sign_in_codes SET expires = 1 WHERE code_hash = ?", (sha256(codes[1].encode()).hexdigest(),)
        )
    assert redeem(fresh, codes[1]).status_code in (401, 429)
    with fresh.http() as http:
        http.delete(f"/keys/{key['keyId']}").raise_for_status()
    assert httpx.get(f"{fresh.url}/keys/", headers={"X-API-Key": key["secret"]}).status_code == 401
    crestline(fresh, "clients", "remove", "other")
    assert redeem(fresh, codes[2]).status_code in (401, 429)  # nor does a link outlive its client
    everything = b"".join(each.read_bytes() for each in (fresh.home / "private").glob("gateway.db*"))
    assert not any(each.encode() in everything for each in codes)


def test_guessed_sign_in_codes_are_limited(fresh: RunningGateway) -> None:
    answers = [redeem(fresh, f"guess-{number}") for number in range(20)]
    assert [each.status_code for each in answers] == [401] * 5 + [429] * 15
    assert [redeem(fresh, each).status_code for each in ("", "x" * 129)] == [400, 400]
    assert not any("guess-" in each.text for each in answers)


def test_a_sign_in_link_is_printed_where_it_is_asked_for(tmp_path: Path) -> None:
    """Not into files and pipes, which keep it, unless the user says so; and never into the log."""
    command = Command(tmp_path)
    with command.serving("--state-dir", tmp_path / "home") as facts:
        assert "sign_in_link" not in facts
    with command.start(
        "serve", "--state-dir", tmp_path / "home", "--port", "0", "--log-level", "debug", "--sign-in-link"
    ) as process:
        assert process.stdout is not None
        lines = []
        while not lines or not lines[-1].startswith("Ctrl-C"):
            lines.append(process.stdout.readline().decode())
            assert lines[-1], process.communicate()
        (link,) = [word for line in lines for word in line.split() if "/#/sign-in/" in word]
        url, _, code = link.partition("/#/sign-in/")
        assert httpx.post(f"{url}/page/sign-in", json={"code": code}).status_code == 201
        process.send_signal(signal.SIGINT)
        rest, log = process.communicate(timeout=60)
    assert code.encode() not in rest + log
    with command.serving("--state-dir", tmp_path / "home", "--sign-in-link") as facts:
        assert facts["sign_in_link"].startswith(f"{facts['url']}/#/sign-in/")


@pytest.mark.anyio
async def test_the_audit_table_has_a_size_limit(tmp_path: Path) -> None:
    home = StateDirectory(tmp_path)
    home.create()
    store = await Store.open(home.database)
    try:
        trail = AuditTrail(store, AuditConfig(max_records=50))
        for start in range(0, 200, 40):
            await trail.write([_record(number) for number in range(start, start + 40)])
            await trail.sweep()
        kept = await trail.read(AuditQuery(limit=1000))
        assert [each.target for each in kept] == [str(number) for number in range(150, 200)]
    finally:
        await store.close()


def _record(number: int) -> AuditRecord:
    fields: dict[str, Any] = dict.fromkeys(("request_id", "username", "client_id", "via", "address", "action"), "x")
    return AuditRecord(at=9e9 + number, system="", target=str(number), status=200, **fields)


def test_a_removed_client_leaves_no_credential(fresh: RunningGateway) -> None:
    secret = crestline(fresh, "clients", "add", "other", "--user", "alice")
    client = ("other", secret)
    grant = ask(fresh, client, scope="offline_access").json()
    headers = {"Authorization": f"Bearer {grant['access_token']}"}
    first = httpx.post(f"{fresh.url}/keys", json={"name": "a", "scopes": ["keys:write", "jobs:read"]}, headers=headers)
    by_key = {"X-API-Key": first.json()["secret"]}
    second = httpx.post(f"{fresh.url}/keys", json={"name": "b", "scopes": ["jobs:read"]}, headers=by_key).json()
    with fresh.http() as http:
        mine = http.post("/keys", json={"name": "of another client"}).json()
    jobs = f"{fresh.url}/compute/local/jobs"
    held = [by_key, {"X-API-Key": second["secret"]}, headers]
    assert [httpx.get(jobs, headers=each).status_code for each in held] == [200] * 3
    crestline(fresh, "clients", "remove", "other")
    # What the gateway remembers of credentials holds for a second.
    _until(lambda: [httpx.get(jobs, headers=each).status_code for each in held] == [401] * 3)
    assert httpx.post(f"{fresh.url}/keys", json={"name": "c"}, headers=headers).status_code == 401
    refresh = ask(fresh, client, grant_type="refresh_token", refresh_token=grant["refresh_token"])
    assert refresh.status_code == 401
    assert httpx.get(jobs, headers={"X-API-Key": mine["secret"]}).status_code == 200


def test_a_new_client_is_known_at_once(fresh: RunningGateway) -> None:
    with fresh.http() as http:
        assert http.get("/status/systems").status_code == 200
        for number in range(3):
            client = (f"new-{number}", crestline(fresh, "clients", "add", f"new-{number}", "--user", "alice"))
            with fresh.http(client) as other:
                assert other.get("/status/systems").status_code == 200


def test_a_revoked_key_leaves_no_key_that_it_made(fresh: RunningGateway) -> None:
    with fresh.http() as http:
        first = http.post("/keys", json={"name": "a", "scopes": ["keys:write", "jobs:read"]}).json()
        by_key = {"X-API-Key": first["secret"]}
        second = httpx.post(f"{fresh.url}/keys", json={"name": "b", "scopes": ["jobs:read"]}, headers=by_key).json()
        http.delete(f"/keys/{first['keyId']}")
    answer = httpx.get(f"{fresh.url}/compute/local/jobs", headers={"X-API-Key": second["secret"]})
    assert answer.status_code == 401


def test_a_refresh_keeps_the_scopes(fresh: RunningGateway) -> None:
    def refresh(token: str, **form: str) -> httpx.Response:
        return ask(fresh, fresh.client, grant_type="refresh_token", refresh_token=token, **form)

    first = ask(fresh, fresh.client, scope="offline_access jobs:read files:read").json()
    same = refresh(first["refresh_token"]).json()
    assert same["scope"].split() == first["scope"].split() == ["offline_access", "files:read", "jobs:read"]
    fewer = refresh(same["refresh_token"], scope="jobs:read").json()
    assert fewer["scope"] == "jobs:read"
    more = refresh(fewer["refresh_token"], scope="jobs:read jobs:write")
    assert (more.status_code, more.json()["error"]) == (400, "invalid_scope")
    again = refresh(fewer["refresh_token"]).json()  # a refusal has not used it up, and it grants what it did at first
    assert again["scope"].split() == ["offline_access", "files:read", "jobs:read"]
    with httpx.Client(base_url=fresh.url, headers={"Authorization": f"Bearer {again['access_token']}"}) as http:
        assert http.get("/compute/local/jobs").status_code == 200
        assert http.delete("/compute/local/jobs/1").status_code == 403


NAMES = ["root", "ROOT", " root", "root@example.org", "EXAMPLE\\root", "0", "daemon", "slurm", "slurmrestd", "munge",
         "systemd-network", "_apt", "nobody", "www-data", "postgres",
         "alice,root", "../alice", "-l", "alice\n", "\uff52oot", "alice@x/../root",
         "4294967296", "18446744073709551616", "0x0", "0.0", "4294967295", "D\\0x1"]  # fmt: skip


@pytest.fixture(scope="module")
def provider() -> Iterator[ForgingIssuer]:
    with ForgingIssuer().serving() as issuer:
        yield issuer


@pytest.fixture(scope="module")
def trusting(provider: ForgingIssuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    trusted = {"issuer": provider.issuer, "audience": provider.audience}
    with in_thread(tmp_path_factory.mktemp("trusting") / "home", oidc=[trusted]) as gateway:
        yield gateway


def status_for(gateway: RunningGateway, provider: ForgingIssuer, user: str) -> int:
    headers = {"Authorization": f"Bearer {provider.token(preferred_username=user)}"}
    return httpx.get(f"{gateway.url}/status/systems", headers=headers).status_code


@pytest.mark.parametrize("user", NAMES)
def test_a_token_names_no_system_account(trusting: RunningGateway, provider: ForgingIssuer, user: str) -> None:
    assert status_for(trusting, provider, user) == 403
    assert status_for(trusting, provider, "alice") == 200
    refused = [each for each in audit_records(trusting) if each.username == user]
    assert [each.status for each in refused] == [403]


def test_uids_and_patterns_decide_who_may_be_named(provider: ForgingIssuer, tmp_path: Path) -> None:
    trusted = {
        "issuer": provider.issuer, "audience": provider.audience,
        "min_uid": 0, "allowed_users": ["hpc-*", "daemon", "root"], "denied_users": ["*-admin"],
    }  # fmt: skip
    with in_thread(tmp_path / "home", oidc=[trusted]) as gateway:
        found = {
            user: status_for(gateway, provider, user) for user in ("hpc-1", "hpc-admin", "alice", "root", "daemon")
        }
    assert found == {"hpc-1": 200, "hpc-admin": 403, "alice": 403, "root": 200, "daemon": 200}


def test_the_smallest_uid_holds_without_a_list(provider: ForgingIssuer, tmp_path: Path) -> None:
    trusted = {"issuer": provider.issuer, "audience": provider.audience, "denied_users": []}
    with in_thread(tmp_path / "home", oidc=[trusted]) as gateway:
        assert [status_for(gateway, provider, user) for user in ("root", "daemon", "0", "alice")] == [403] * 3 + [200]


def test_api_keys_of_users_who_are_denied_later(provider: ForgingIssuer, tmp_path: Path) -> None:
    trusted: dict[str, Any] = {"issuer": provider.issuer, "audience": provider.audience}
    home = tmp_path / "home"
    keys: dict[str, dict[str, str]] = {}

    def statuses(**policy: Any) -> dict[str, int]:
        with in_thread(home, oidc=[trusted | policy]) as gateway:
            return {
                name: httpx.get(f"{gateway.url}/compute/local/jobs", headers=each).status_code
                for name, each in keys.items()
            }

    def make(gateway: RunningGateway, name: str, credential: dict[str, str]) -> None:
        body = {"name": name, "scopes": ["jobs:read", "keys:write"]}
        answer = httpx.post(f"{gateway.url}/keys", json=body, headers=credential)
        keys[name] = {"X-API-Key": answer.json()["secret"]}

    with in_thread(home, oidc=[trusted]) as gateway:
        secret = crestline(gateway, "clients", "add", "own", "--user", "alice")
        for user in ("alice", "carol"):
            make(gateway, user, {"Authorization": f"Bearer {provider.token(preferred_username=user)}"})
        make(gateway, "by a key", keys["alice"])
        make(gateway, "own", {"Authorization": f"Bearer {gateway.token(('own', secret))}"})
    assert statuses() == dict.fromkeys(("alice", "carol", "by a key", "own"), 200)
    denied = {"alice": 403, "by a key": 403, "carol": 200, "own": 200}
    assert statuses(denied_users=["ali*"]) == denied
    assert statuses(allowed_users=["carol"]) == denied


@pytest.mark.parametrize("observed", [False, True])
def test_the_uid_on_a_system_behind_ssh_counts(
    cluster: Cluster, provider: ForgingIssuer, tmp_path: Path, observed: bool
) -> None:
    """Of tokens, and of API keys that were made when the user was allowed; for every request about the system."""
    home = tmp_path / "home"
    system = prepare(cluster, home)
    if not observed:
        del system["host"]["observer"]
    trusted = {"issuer": provider.issuer, "audience": provider.audience}
    credential = {"Authorization": f"Bearer {provider.token(preferred_username='alice')}"}
    requests = [
        ("GET", "/filesystem/cluster/ops/ls?path=/scratch"),
        ("PUT", "/filesystem/cluster/ops/content?path=/scratch/never"),
        ("GET", "/compute/cluster/jobs"),
        ("GET", "/status/cluster/userinfo"),
        ("DELETE", "/filesystem/cluster/transfer/rm?path=/scratch/never"),
    ]
    with in_thread(home, oidc=[trusted], systems={"cluster": system}) as gateway:
        assert httpx.get(f"{gateway.url}{requests[0][1]}", headers=credential, timeout=60).status_code == 200
        key = httpx.post(f"{gateway.url}/keys", json={"name": "a"}, headers=credential).json()["secret"]
    with in_thread(home, oidc=[trusted | {"min_uid": 60_000}], systems={"cluster": system}) as gateway:
        for headers in (credential, {"X-API-Key": key}):
            for method, target in requests:
                answer = httpx.request(method, f"{gateway.url}{target}", headers=headers, timeout=60)
                assert answer.status_code == 403, (target, answer.text)
                assert "below 60000" in answer.text
        alice = SlurmGateway(gateway.url, home).client_of("alice")
        with gateway.http(alice) as http:  # the operator has chosen the user of a client
            assert http.get(requests[0][1]).status_code == 200


def test_a_failed_start_leaves_the_database_closed(tmp_path: Path) -> None:
    """By whatever part of the configuration it fails."""
    script = (
        "import sys, gc, asyncio\n"
        "from pathlib import Path\n"
        "from crestline.gateway.config import load_config\n"
        "from crestline.gateway.server import Server\n"
        "from crestline.model import CrestlineError\n"
        "system = {'host': {'type': sys.argv[2]}, 'scheduler': {'type': sys.argv[3]}}\n"
        "config = load_config(state_dir=Path(sys.argv[1]), systems={'one': system})\n"
        "try:\n"
        "    Server(config, port=0).run_forever()\n"
        "except* CrestlineError as error:\n"
        "    import os\n"
        "    held = [os.readlink(f'/proc/self/fd/{name}') for name in os.listdir('/proc/self/fd')"
        " if os.path.exists(f'/proc/self/fd/{name}')]\n"
        "    print(any('gateway.db' in each for each in held), any('socket' in each for each in held))\n"
    )
    for host, scheduler in (("unknown", "local"), ("local", "unknown"), ("ssh", "slurm")):
        command = [sys.executable, "-X", "dev", "-c", script, str(tmp_path / "home"), host, scheduler]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240)
        assert done.stdout.split() == ["False", "False"], done.stderr
        assert "never awaited" not in done.stderr
        assert "ResourceWarning" not in done.stderr
        with sqlite3.connect(tmp_path / "home" / "private" / "gateway.db") as database:
            database.execute("BEGIN EXCLUSIVE")


def _until(condition: Any) -> None:
    for _ in range(300):
        if condition():
            return
    pytest.fail("what the test waits for did not happen")
