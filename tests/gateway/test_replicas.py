"""Two gateways on one PostgreSQL in front of real Slurm: what one knows, the other does; and one may die."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import msgspec
import pytest
import tomlkit

from crestline.gateway.audit import AuditQuery, AuditTrail
from crestline.gateway.identity.clients import Clients
from crestline.gateway.schedulers.cli_scheduler import key_tag
from crestline.gateway.store import Store
from harness.cluster import Cluster
from harness.command import Command
from harness.gateway import GatewayProcess
from harness.ports import free_port
from harness.postgresql import PostgresServer
from harness.ssh import PATIENT
from harness.waiting import until_blocking

ALICE = ("alice-client", "alice's secret")
JOBS = "/compute/cluster/jobs"
PATIENCE = 240

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def database(postgresql: PostgresServer) -> str:
    url = postgresql.create_database("replicas_of_the_gateway")

    async def add_client() -> None:
        store = await Store.open(url)
        await Clients(store).add(ALICE[0], "alice", ALICE[1])
        await store.close()

    asyncio.run(add_client())
    return url


@pytest.fixture(scope="module")
def replicas(
    cluster: Cluster, database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[GatewayProcess]]:
    place = tmp_path_factory.mktemp("replicas")
    config = {
        "database": database,
        "drain": {"timeout": 2.0},
        "systems": {
            "cluster": {
                "host": {
                    "type": "ssh",
                    "host": cluster.host,
                    "port": cluster.port,
                    "known_hosts": cluster.known_hosts,
                    "timeout": msgspec.to_builtins(PATIENT),
                    "credentials": {"type": "user_keys", "directory": str(cluster.keys)},
                },
                "scheduler": {"type": "slurm"},
                "file_systems": [{"path": "/home", "default_work_dir": True}, {"path": "/scratch"}],
            }
        },
    }
    file = place / "gateway.toml"
    file.write_text(tomlkit.dumps(config))
    processes = [
        GatewayProcess(place / name, free_port(), "--config", str(file), "--log-level", "info")
        for name in ("one", "two")
    ]
    for process in processes:
        process.system = "cluster"
        process.start()
    yield processes
    for process in processes:
        process.stop()


def submit(gateway: GatewayProcess, key: str, token: str) -> httpx.Response:
    return httpx.post(
        f"{gateway.url}{JOBS}",
        json={"job": {"workingDirectory": "/scratch", "script": "#!/bin/bash\n#SBATCH --hold\ntrue\n"}},
        headers={"Idempotency-Key": key, "Authorization": f"Bearer {token}"},
        timeout=PATIENCE,
    )


def until_answered(ask: Callable[[], httpx.Response]) -> httpx.Response:
    """Repeat what gets 503 or no connection, as clients do."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            answer = ask()
            if answer.status_code != 503:
                return answer
            assert "retry-after" in answer.headers
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline, "no answer"
        time.sleep(0.3)


def jobs_of(cluster: Cluster, key: str) -> list[str]:
    """The jobs that carry this key, as Slurm itself knows them."""
    listed = cluster.check("alice", ["squeue", "--noheader", "--states=all", "--user=alice", "--format=%A %k"])
    return [row.split()[0] for row in listed.splitlines() if key_tag(key) in row]


def test_they_start_with_the_same_identity(replicas: list[GatewayProcess]) -> None:
    one, two = replicas
    assert one.client == two.client
    for name in ("identifier", "signing_key.json", "transfer_key"):
        assert (one.home / "private" / name).read_bytes() == (two.home / "private" / name).read_bytes()
        assert (two.home / "private" / name).stat().st_mode & 0o077 == 0


def test_one_key_posted_to_both_at_once_is_one_job(replicas: list[GatewayProcess], cluster: Cluster) -> None:
    token = replicas[0].token(ALICE)  # works on both
    with ThreadPoolExecutor(4) as pool:
        for number in range(3):
            key = f"at once {number}"
            answers = list(pool.map(lambda gateway, key=key: submit(gateway, key, token), replicas * 2))
            assert {answer.status_code for answer in answers} == {201}, [answer.text for answer in answers]
            assert {answer.json()["jobId"] for answer in answers} == set(jobs_of(cluster, key))
            assert len(jobs_of(cluster, key)) == 1


def test_a_refresh_token_of_one_is_used_up_at_the_other(replicas: list[GatewayProcess]) -> None:
    form = {"grant_type": "client_credentials", "scope": "offline_access"}
    answer = httpx.post(replicas[0].token_url, data=form, auth=ALICE).json()
    form = {"grant_type": "refresh_token", "refresh_token": answer["refresh_token"]}
    assert httpx.post(replicas[1].token_url, data=form, auth=ALICE).status_code == 200
    assert httpx.post(replicas[0].token_url, data=form, auth=ALICE).status_code == 400


def test_keys_audit_and_the_id_of_a_request(replicas: list[GatewayProcess], database: str) -> None:
    """A key made at one works at the other, and ends at both; one trail has it all; the log of commands has the id."""
    one, two = replicas
    with one.http(ALICE) as http:
        key = http.post("/keys", json={"name": "shared"}, headers={"X-Request-ID": "made-at-one"}).json()
        job = {"workingDirectory": "/scratch", "script": "#!/bin/bash\n#SBATCH --hold\ntrue\n"}
        headers = {"X-API-Key": key["secret"], "X-Request-ID": "used-at-two"}
        answer = httpx.post(f"{two.url}{JOBS}", json={"job": job}, headers=headers, timeout=PATIENCE)
        assert answer.status_code == 201, answer.text
        assert re.search(
            r"\[used-at-two\] crestline\.commands: sbatch as alice on cluster: exit 0, [\d.]+ms\n", two.log.read_text()
        )
        assert http.delete(f"/keys/{key['keyId']}").status_code == 204
    until_blocking(lambda: httpx.get(f"{two.url}{JOBS}", headers=headers, timeout=PATIENCE).status_code == 401)

    async def trail() -> list[tuple[str, str, str]]:
        store = await Store.open(database)
        records = await AuditTrail(store).read(AuditQuery(username="alice"))
        await store.close()
        return [(each.request_id, each.action, each.target) for each in records]

    records = asyncio.run(trail())
    assert ("made-at-one", "POST /keys", key["keyId"]) in records
    assert ("used-at-two", "POST /compute/{system_name}/jobs", str(answer.json()["jobId"])) in records


def test_an_upload_begun_at_one_goes_on_at_the_other(replicas: list[GatewayProcess], cluster: Cluster) -> None:
    one, two = replicas
    content = os.urandom(17 * 1024 * 1024)
    with one.http(ALICE) as first, two.http(ALICE) as second:
        begun = first.post(
            "/filesystem/cluster/transfer/upload",
            json={
                "path": "/scratch/shared-upload",
                "transferDirectives": {"transferMethod": "s3", "fileSize": len(content)},
            },
        ).json()
        assert "transferDirectives" in begun, begun
        directives = begun["transferDirectives"]
        size, tags = directives["maxPartSize"], []
        for number, url in enumerate(directives["partsUploadUrls"]):
            there = url.replace(one.url, (two, one)[number % 2].url)
            part = content[number * size : (number + 1) * size]
            tags.append(httpx.put(there, content=part, timeout=PATIENCE).headers["ETag"])
        parts = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{tag}</ETag></Part>" for n, tag in enumerate(tags, 1))
        complete = directives["completeUploadUrl"].replace(one.url, two.url)
        body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>"
        assert httpx.post(complete, content=body, timeout=PATIENCE).status_code == 200
        assert state(first, begun["transferJob"]["jobId"]) == "COMPLETED"
        wanted = {"path": "/scratch/shared-upload", "transferDirectives": {"transferMethod": "s3"}}
        offered = second.post("/filesystem/cluster/transfer/download", json=wanted).json()
        url = offered["transferDirectives"]["downloadUrl"].replace(two.url, one.url)
        assert httpx.get(url, timeout=PATIENCE).content == content
    cluster.check("alice", ["rm", "/scratch/shared-upload"])


def test_a_starting_gateway_leaves_the_work_of_a_living_one_alone(
    replicas: list[GatewayProcess], cluster: Cluster
) -> None:
    """And it may cancel what runs at the other."""
    one, two = replicas
    cluster.check("alice", ["truncate", "--size=50G", "/scratch/large"])
    with two.http(ALICE) as http:
        job = begin(http, "/scratch/large")
        until_blocking(lambda: state(http, job) == "RUNNING")
        one.stop()
        one.start()
        assert state(http, job) == "RUNNING"
        with one.http(ALICE) as other:
            assert state(other, job) == "RUNNING"
            assert other.delete(f"{JOBS}/{job}").status_code == 204
            until_blocking(lambda: state(other, job) == "CANCELLED")
    cluster.exec("root", ["pkill", "-KILL", "-u", "alice", "tar"])
    cluster.check("alice", ["rm", "-f", "/scratch/large"])


def test_a_dead_gateways_transfer_is_settled_by_the_other(replicas: list[GatewayProcess], cluster: Cluster) -> None:
    one, two = replicas
    cluster.check("alice", ["truncate", "--size=50G", "/scratch/large"])
    with one.http(ALICE) as http, two.http(ALICE) as other:
        job = begin(http, "/scratch/large")
        until_blocking(lambda: state(other, job) == "RUNNING")
        one.kill()
        until_blocking(lambda: state(other, job) == "FAILED")
    one.start()
    cluster.exec("root", ["pkill", "-KILL", "-u", "alice", "tar"])
    cluster.check("alice", ["rm", "-f", "/scratch/large"])


def test_the_other_takes_over_a_submission_in_the_middle_of_which_one_was_killed(
    replicas: list[GatewayProcess], cluster: Cluster
) -> None:
    one, two = replicas
    token = two.token(ALICE)
    key = "killed in the middle"
    with one.http(ALICE) as http:
        http.get("/status/cluster/userinfo")  # so that it is logged in
    with ThreadPoolExecutor(1) as pool:
        cluster.pause()
        try:
            lost = pool.submit(submit, one, key, token)
            until_blocking(lambda: "sbatch" in cluster.check("root", ["ps", "-eo", "comm"]))
            one.kill()
            assert isinstance(lost.exception(PATIENCE), httpx.TransportError)
        finally:
            cluster.resume()
    answer = until_answered(lambda: submit(two, key, token))
    assert answer.status_code == 201
    assert jobs_of(cluster, key) == [answer.json()["jobId"]]
    one.start()
    assert submit(one, key, token).json() == answer.json()


def test_without_the_database(replicas: list[GatewayProcess], cluster: Cluster, postgresql: PostgresServer) -> None:
    one, two = replicas
    with one.http(ALICE) as http:
        job = submit(one, "before", one.token(ALICE)).json()["jobId"]
        postgresql.stop()
        try:
            assert http.get(f"{JOBS}/{job}").json()["jobs"][0]["status"]["state"] == "PENDING"
            assert http.get(JOBS, params={"ids": job}).status_code == 200
            assert http.get("/filesystem/cluster/ops/ls", params={"path": "/scratch"}).status_code == 200
            assert http.get("/status/liveness").status_code == 200
            body = {"job": {"workingDirectory": "/scratch", "script": "#!/bin/bash\ntrue\n"}}
            unavailable = [
                http.post(JOBS, json=body, headers={"Idempotency-Key": "meanwhile"}),
                httpx.post(one.token_url, data={"grant_type": "client_credentials"}, auth=ALICE, timeout=PATIENCE),
            ]
            for answer in unavailable:
                assert answer.status_code == 503, answer.text
                assert int(answer.headers["Retry-After"]) > 0
            until_blocking(lambda: http.get("/status/readiness").status_code == 503)
        finally:
            postgresql.start()
        for gateway in (one, two):
            key = "after the outage"
            answer = until_answered(lambda gateway=gateway, key=key: submit(gateway, key, http_token(http)))
            assert answer.status_code == 201
        assert jobs_of(cluster, "meanwhile") == []
        assert len(jobs_of(cluster, "after the outage")) == 1
        assert until_answered(lambda: http.get("/status/readiness")).status_code == 200


def test_a_local_system_cannot_be_shared(database: str, tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text(tomlkit.dumps({"database": database}))
    line = Command(tmp_path).refused("serve", "--config", "gateway.toml", "--state-dir", "home", "--port", "0", code=78)
    assert "belong to one gateway" in line
    assert re.search("postgresql://", line) is None


def test_a_database_that_is_away_at_the_start(tmp_path: Path) -> None:
    url = f"postgresql://crestline:not-to-be-shown@127.0.0.1:{free_port()}/x"
    (tmp_path / "gateway.toml").write_text(tomlkit.dumps({"database": url}))
    done = Command(tmp_path)("serve", "--config", "gateway.toml", "--state-dir", "home", "--port", "0", code=69)
    assert b"database does not answer" in done.stderr
    assert b"not-to-be-shown" not in done.stderr


def begin(http: httpx.Client, source: str) -> str:
    """A transfer that takes minutes."""
    body = {"path": source, "targetPath": "/scratch/packed.tar.gz", "compression": "gzip"}
    answer = http.post("/filesystem/cluster/transfer/compress", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["transferJob"]["jobId"])


def state(http: httpx.Client, job: str) -> str:
    answer = http.get(f"{JOBS}/{job}")
    return str(answer.json()["jobs"][0]["status"]["state"])


def http_token(http: httpx.Client) -> str:
    return http.auth.token
