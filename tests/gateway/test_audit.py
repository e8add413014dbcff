"""The audit trail: what is in it, what is not, and what happens to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from crestline.gateway.audit import AuditQuery, AuditRecord, AuditTrail
from crestline.gateway.config import AuditConfig
from crestline.gateway.store import Store
from harness.audit import audit_records
from harness.gateway import RunningGateway, in_thread
from harness.oidc import OidcProvider
from harness.postgresql import PostgresServer
from harness.waiting import until


@pytest.fixture
def audited(tmp_path: Path) -> Iterator[RunningGateway]:
    with in_thread(tmp_path / "home") as gateway:
        yield gateway


def test_every_change_is_recorded_before_its_answer(audited: RunningGateway) -> None:
    place = audited.home / "files" / "secret name"
    secret = "s3cr3t-value-of-the-job"
    with audited.http() as http:
        user = http.get("/status/systems").headers["F7T-AuthUsername"]
        job = {"name": "j", "script": f"#!/bin/sh\n# {secret}\n", "workingDirectory": "/tmp", "env": {"TOKEN": secret}}
        identifier = {"X-Request-ID": "of-the-test"}
        job_id = http.post("/compute/local/jobs", json={"job": job}, headers=identifier).json()["jobId"]
        http.delete(f"/compute/LOCAL/jobs/{job_id}")
        batch = http.post("/compute/local/jobs/batch", json={"jobs": [{"job": job}] * 3}).json()["results"]
        batch_ids = " ".join(each["jobId"] for each in batch)
        http.post("/filesystem/local/ops/mkdir", json={"path": str(place)})
        http.put("/filesystem/local/ops/content", params={"path": f"{place}/x"}, content=secret.encode())
        http.post("/filesystem/local/transfer/mv", json={"source_path": f"{place}/x", "target_path": f"{place}/y"})
        http.post("/filesystem/local/ops/manifest", json={"path": str(place), "files": {}})
        http.get("/filesystem/local/ops/view", params={"path": f"{place}/y"})
        http.delete("/filesystem/local/ops/rm", params={"path": f"{place}/nowhere"})
        key = http.post("/keys", json={"name": "test"}).json()
        http.delete(f"/keys/{key['keyId']}")
    records = [each for each in audit_records(audited) if each.username]
    assert [(each.action, each.system, each.target, each.status) for each in records] == [
        ("POST /compute/{system_name}/jobs", "local", job_id, 201),
        ("DELETE /compute/{system_name}/jobs/{job_id}", "local", job_id, 204),
        ("POST /compute/{system_name}/jobs/batch", "local", batch_ids, 200),
        ("POST /filesystem/{system_name}/ops/mkdir", "local", str(place), 201),
        ("PUT /filesystem/{system_name}/ops/content", "local", f"{place}/x", 204),
        ("POST /filesystem/{system_name}/transfer/mv", "local", f"{place}/x {place}/y", 201),
        ("DELETE /filesystem/{system_name}/ops/rm", "local", f"{place}/nowhere", 404),
        ("POST /keys", "", key["keyId"], 201),
        ("DELETE /keys/{key_id}", "", key["keyId"], 204),
    ]
    assert {(each.username, each.client_id, each.via, each.address) for each in records} == {
        (user, "local-client", "token", "127.0.0.1")
    }
    assert records[0].request_id == "of-the-test"
    assert records[6].reason, "what went wrong is said"
    assert [each.reason for each in records if each.status < 400] == [""] * 8
    everything = repr(records)
    for hidden in (secret, key["secret"], audited.client[1]):
        assert hidden not in everything


def test_every_denial_of_a_known_user_is_recorded(audited: RunningGateway) -> None:
    with audited.http() as http:
        key = http.post("/keys", json={"name": "reader", "scopes": ["jobs:read"]}).json()
        revoked = http.post("/keys", json={"name": "revoked"}).json()
        http.delete(f"/keys/{revoked['keyId']}")
    for secret in (key["secret"], revoked["secret"], "crk_nonsense", None):
        headers = {"X-API-Key": secret} if secret else {}
        httpx.get(f"{audited.url}/filesystem/local/ops/ls?path=/tmp", headers=headers, trust_env=False)
    wrong = {"grant_type": "client_credentials", "client_id": audited.client[0], "client_secret": "wrong"}
    httpx.post(audited.token_url, data=wrong, trust_env=False)
    httpx.post(audited.token_url, data=wrong | {"client_id": "nobody"}, trust_env=False)
    denied = [(each.via, each.client_id, each.status, each.reason) for each in audit_records(audited, denied=True)]
    assert denied == [
        ("api-key", key["keyId"], 403, "The API key lacks the scope 'files:read'. Use one that has it."),
        ("api-key", revoked["keyId"], 401, "The API key was revoked. Create a new one."),
        ("client", audited.client[0], 401, "Unknown client or wrong secret."),
    ]


def test_denied_tokens_of_a_provider_are_recorded(oidc_provider: OidcProvider, tmp_path: Path) -> None:
    trusted = {"issuer": oidc_provider.issuer, "audience": oidc_provider.audience, "scopes": {}}
    with in_thread(tmp_path / "home", oidc=[trusted]) as gateway:
        for token in (oidc_provider.token("alice"), oidc_provider.token("bob", resource="https://elsewhere.test")):
            headers = {"Authorization": f"Bearer {token}"}
            httpx.get(f"{gateway.url}/compute/local/jobs", headers=headers, trust_env=False)
        denied = audit_records(gateway, denied=True)
        assert [(each.username, each.client_id, each.status) for each in denied] == [
            ("alice", "alice-client", 403),
            ("bob", "bob-client", 401),
        ]
        assert audit_records(gateway, username="bob") == denied[1:]


def record(number: int, **changes: Any) -> AuditRecord:
    values = {
        "at": time.time(),
        "request_id": str(number),
        "username": "alice",
        "client_id": "test",
        "via": "token",
        "address": "127.0.0.1",
        "action": "DELETE /x",
        "system": "local",
        "target": "",
        "status": 204,
    }
    return AuditRecord(**(values | changes))


@pytest.mark.anyio
async def test_records_are_never_changed_on_sqlite(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "gateway.db")
    await _cannot_be_changed(store)
    await store.close()
    store = await Store.open(tmp_path / "gateway.db")  # what is there already is left alone
    await store.close()


@pytest.mark.anyio
async def test_records_are_never_changed_on_postgresql(postgresql: PostgresServer) -> None:
    store = await Store.open(postgresql.create_database("audit"))
    await _cannot_be_changed(store)
    await store.close()


async def _cannot_be_changed(store: Store) -> None:
    trail = AuditTrail(store)
    await trail.write([record(1)])
    with pytest.raises(DBAPIError, match="never changed"):
        async with store.engine.begin() as connection:
            await connection.execute(text("UPDATE audit SET username = 'bob'"))
    assert [each.username for each in await trail.read(AuditQuery())] == ["alice"]


@pytest.mark.anyio
async def test_old_records_go(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "gateway.db")
    trail = AuditTrail(store, AuditConfig(retention_days=30))
    day = 86400
    await trail.write([record(1, at=time.time() - 31 * day), record(2, at=time.time() - 29 * day), record(3)])
    await trail.sweep()
    assert [each.request_id for each in await trail.read(AuditQuery())] == ["2", "3"]
    assert [each.request_id for each in await trail.read(AuditQuery(since=time.time() - day))] == ["3"]
    assert [each.request_id for each in await trail.read(AuditQuery(limit=1))] == ["3"]
    await store.close()


@pytest.mark.anyio
async def test_records_wait_for_a_database_that_is_away(
    postgresql: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    store = await Store.open(postgresql.create_database("audit_away"))
    trail = AuditTrail(store)
    await trail.start()
    await trail.record(record(0))
    postgresql.stop()
    try:
        await asyncio.gather(*(trail.record(record(number)) for number in range(1, 50)))
        assert "not stored yet" in caplog.text
    finally:
        postgresql.start()
    await until(lambda: postgresql.execute("SELECT count(*) FROM audit", "audit_away") == "50")
    assert sorted(int(each.request_id) for each in await trail.read(AuditQuery())) == list(range(50))
    await trail.stop()
    await store.close()


@pytest.mark.anyio
async def test_a_record_that_cannot_be_held_keeps_no_other_out(
    postgresql: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    store = await Store.open(postgresql.create_database("audit_odd"))
    trail = AuditTrail(store)
    await trail.start()
    odd = record(1, target="a \0 byte")  # which PostgreSQL's texts cannot hold
    await asyncio.gather(*(trail.record(each) for each in (record(0), odd, record(2))))
    await trail.record(record(3))
    await trail.stop()
    assert [each.request_id for each in await trail.read(AuditQuery())] == ["0", "2", "3"]
    assert "not stored" in caplog.text
    await store.close()
