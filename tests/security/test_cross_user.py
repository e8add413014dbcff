"""Alice and Bob on a real cluster, through one gateway: neither gets what the system itself would refuse."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest

from harness.cluster import Cluster
from harness.slurm_gateway import SlurmGateway
from harness.waiting import until_blocking

OPS = "/filesystem/cluster/ops"
TRANSFER = "/filesystem/cluster/transfer"
JOBS = "/compute/cluster/jobs"
SECRET = "alice-s-secret-0d9f3c"
PLACE = "/scratch/cross-user"
FILE = f"{PLACE}/private"


@pytest.fixture(scope="module")
def alice(slurm_gateway: SlurmGateway) -> Iterator[httpx.Client]:
    with slurm_gateway.http(slurm_gateway.client_of("alice")) as http:
        yield http


@pytest.fixture(scope="module")
def bob(slurm_gateway: SlurmGateway) -> Iterator[httpx.Client]:
    with slurm_gateway.http(slurm_gateway.client_of("bob")) as http:
        yield http


@pytest.fixture(scope="module")
def file(cluster: Cluster, alice: httpx.Client) -> str:
    """Alice's, mode 600, in a directory where everybody may write."""
    cluster.check("root", ["mkdir", "-p", "--mode=1777", PLACE])
    alice.put(f"{OPS}/content", params={"path": FILE}, content=SECRET.encode()).raise_for_status()
    alice.put(f"{OPS}/chmod", json={"path": FILE, "mode": "600"}).raise_for_status()
    return FILE


@pytest.fixture(scope="module")
def job(cluster: Cluster, alice: httpx.Client) -> Iterator[str]:
    """Alice's, running, with the secret in its script, its environment and its output."""
    description = {
        "workingDirectory": "/home/alice",
        "name": "alice-alone",
        "script": f"#!/bin/bash\numask 077\necho {SECRET} >/home/alice/alone.log\nsleep 600\n",
        "env": {"TOKEN": SECRET},
    }
    headers = {"Idempotency-Key": "alice-s-own-key"}
    answer = alice.post(JOBS, json={"job": description}, headers=headers)
    assert answer.status_code == 201, answer.text
    job_id = answer.json()["jobId"]
    until_blocking(lambda: cluster.exec("alice", ["cat", "/home/alice/alone.log"]).stdout.strip() == SECRET)
    yield job_id
    alice.delete(f"{JOBS}/{job_id}")


def test_files_of_others_are_closed_to_every_endpoint(cluster: Cluster, bob: httpx.Client, file: str) -> None:
    calls: list[tuple[str, str, dict[str, Any]]] = [
        *(
            ("GET", f"{OPS}/{name}", {"params": {"path": file}})
            for name in ("head", "tail", "view", "checksum", "download", "content")
        ),
        ("PUT", f"{OPS}/content", {"params": {"path": file}, "content": b"bob's"}),
        ("PUT", f"{OPS}/chmod", {"json": {"path": file, "mode": "666"}}),
        ("PUT", f"{OPS}/chown", {"json": {"path": file, "owner": "bob"}}),
        ("DELETE", f"{OPS}/rm", {"params": {"path": file}}),
        ("POST", f"{OPS}/upload", {"params": {"path": PLACE}, "files": {"file": ("private", b"bob's")}}),
        ("POST", f"{OPS}/compress", {"json": {"path": file, "targetPath": f"{PLACE}/stolen.tgz"}}),
        ("POST", f"{TRANSFER}/download", {"json": {"path": file, "transferDirectives": {"transferMethod": "s3"}}}),
    ]
    for method, url, arguments in calls:
        answer = bob.request(method, url, **arguments)
        assert SECRET not in answer.text, url
        if url == f"{TRANSFER}/download" and answer.status_code == 201:  # it is read when the URL is
            answer = httpx.get(answer.json()["transferDirectives"]["downloadUrl"], trust_env=False, timeout=60)
        assert 400 <= answer.status_code < 500, (method, url, answer.status_code, answer.text)
        assert SECRET not in answer.text, url
    for method, arguments in (
        ("GET", {"params": {"path": PLACE}}),
        ("POST", {"json": {"path": PLACE, "files": ["private"]}}),
    ):
        assert SECRET.encode() not in streamed(bob, method, f"{OPS}/tar", arguments)
    answer = bob.post(f"{OPS}/manifest", json={"path": PLACE, "files": {"private": "0" * 64}})
    assert SECRET not in answer.text
    for name in ("cp", "mv", "compress"):
        body = {"path": file, "targetPath": f"{PLACE}/stolen-{name}"}
        started = bob.post(f"{TRANSFER}/{name}", json=body).json()["transferJob"]["jobId"]
        assert ended(bob, started) == "FAILED", name
    link = f"{PLACE}/link-of-bob"
    assert bob.post(f"{OPS}/symlink", json={"path": file, "linkPath": link}).status_code == 201
    assert bob.get(f"{OPS}/view", params={"path": link}).status_code == 403
    assert cluster.check("root", ["stat", "-c", "%U %a %s", file]).split() == ["alice", "600", str(len(SECRET))]
    found = cluster.exec("root", ["grep", "-rl", "--exclude=private", SECRET, PLACE]).stdout
    assert found == ""


def streamed(http: httpx.Client, method: str, url: str, arguments: dict[str, Any]) -> bytes:
    """As much of an answer as comes; one that has begun can end with an error in no other way than to break off."""
    received = b""
    with http.stream(method, url, **arguments) as answer, suppress(httpx.RemoteProtocolError):
        for chunk in answer.iter_bytes():
            received += chunk
    return received


def ended(http: httpx.Client, job_id: str) -> str:
    def state() -> str:
        return str(http.get(f"{JOBS}/{job_id}").json()["jobs"][0]["status"]["state"])

    until_blocking(lambda: state() not in ("PENDING", "RUNNING", "COMPLETING"))
    return state()


def test_what_arrives_for_one_is_not_readable_for_others(cluster: Cluster, alice: httpx.Client, file: str) -> None:
    """The new content of a private file, from its first byte on; whatever it is called meanwhile."""
    half_way, let_go = threading.Event(), threading.Event()

    def content() -> Iterator[bytes]:
        yield SECRET.encode() * 200_000
        half_way.set()
        assert let_go.wait(120)
        yield b"end"

    done: list[httpx.Response] = []
    sending = threading.Thread(
        target=lambda: done.append(alice.put(f"{OPS}/content", params={"path": file}, content=content()))
    )
    sending.start()
    try:
        assert half_way.wait(120)
        names: list[str] = []
        deadline = time.monotonic() + 60
        while not names and time.monotonic() < deadline:
            names = cluster.check("root", ["find", PLACE, "-name", ".crestline-*", "-size", "+0"]).split()
        assert names
        for name in names:
            assert cluster.exec("bob", ["cat", name]).exit_status != 0
    finally:
        let_go.set()
        sending.join(120)
    assert done[0].status_code < 300, done[0].text
    assert cluster.check("root", ["stat", "-c", "%U %a", file]).split() == ["alice", "600"]
    alice.put(f"{OPS}/content", params={"path": file}, content=SECRET.encode()).raise_for_status()


def test_jobs_of_others(cluster: Cluster, alice: httpx.Client, bob: httpx.Client, job: str) -> None:
    """That a job is there Slurm tells everybody; its script, environment and output it tells its owner."""
    assert SECRET in alice.get(f"{JOBS}/{job}/metadata").text
    assert job not in {each["jobId"] for each in bob.get(JOBS).json()["jobs"]}
    for url in (f"{JOBS}?allusers=true", f"{JOBS}/{job}", f"{JOBS}?ids={job}"):
        answer = bob.get(url)
        assert answer.status_code == 200
        assert SECRET not in answer.text
    answers = [
        bob.get(f"{JOBS}/{job}/metadata"),
        bob.delete(f"{JOBS}/{job}"),
        bob.put(f"{JOBS}/{job}/attach", json={"command": "cat /home/alice/alone.log"}),
        bob.get(f"{OPS}/view", params={"path": "/home/alice/alone.log"}),
    ]
    assert [answer.status_code for answer in answers] == [403] * 4
    assert not any(SECRET in answer.text for answer in answers)
    assert alice.get(f"{JOBS}/{job}").json()["jobs"][0]["status"]["state"] == "RUNNING"
    shown = [
        cluster.exec("bob", words).stdout
        for words in (
            ["scontrol", "show", "job", job],
            ["scontrol", "write", "batch_script", job, "-"],
            ["sacct", "-j", job, "--allusers", "--format=SubmitLine%1000,Comment%1000"],
            ["sacct", "-j", job, "--allusers", "--env-vars"],
            ["sacct", "-j", job, "--allusers", "--batch-script"],
            ["ps", "-eo", "args"],
        )
    ]
    assert not any(SECRET in each for each in shown)


def test_a_key_of_one_users_submission_finds_nothing_for_another(
    alice: httpx.Client, bob: httpx.Client, job: str
) -> None:
    """Neither the job nor that the key was used."""
    description = {"workingDirectory": "/home/bob", "name": "bob-alone", "script": "#!/bin/sh\nsleep 600\n"}
    answer = bob.post(JOBS, json={"job": description}, headers={"Idempotency-Key": "alice-s-own-key"})
    assert answer.status_code == 201, answer.text
    bobs = answer.json()["jobId"]
    try:
        assert bobs != job
        assert alice.delete(f"{JOBS}/{bobs}").status_code == 403
    finally:
        bob.delete(f"{JOBS}/{bobs}")


def test_events_are_ones_own(slurm_gateway: SlurmGateway, bob: httpx.Client, job: str) -> None:
    """A stream without ids begins with what the caller has."""
    token = slurm_gateway.token(slurm_gateway.client_of("bob"))
    headers = {"Authorization": f"Bearer {token}"}
    lines = []
    with httpx.stream("GET", f"{slurm_gateway.url}{JOBS}/events", headers=headers, timeout=60) as answer:
        for line in answer.iter_lines():
            lines.append(line)
            if not line:  # the end of the first event
                break
    assert f'"{job}"' not in "".join(lines)


def test_transfers_of_others(cluster: Cluster, alice: httpx.Client, bob: httpx.Client, file: str) -> None:
    size = len(SECRET)
    body = {"path": f"{PLACE}/arriving", "transferDirectives": {"transferMethod": "s3", "fileSize": size}}
    begun = alice.post(f"{TRANSFER}/upload", json=body).raise_for_status().json()
    part = begun["transferDirectives"]["partsUploadUrls"][0]
    assert httpx.put(part, content=SECRET.encode(), trust_env=False, timeout=60).status_code == 200
    job_id, logs = begun["transferJob"]["jobId"], begun["transferJob"]["logs"]
    url = f"{JOBS}/{job_id}"
    answers = [bob.get(url), bob.get(f"{url}/metadata"), bob.delete(url)]
    assert [answer.status_code for answer in answers] == [404] * 3
    assert job_id not in bob.get(f"{JOBS}?allusers=true").text
    for path in logs.values():
        assert bob.get(f"{OPS}/view", params={"path": path}).status_code in (403, 404)
    assert alice.get(url).json()["jobs"][0]["status"]["state"] == "RUNNING"
    assert alice.delete(url).status_code == 204


def test_keys_of_others(slurm_gateway: SlurmGateway, alice: httpx.Client, bob: httpx.Client) -> None:
    made = alice.post("/keys", json={"name": "alice's"}).json()
    assert made["keyId"] not in bob.get("/keys").text
    assert bob.delete(f"/keys/{made['keyId']}").status_code == 404
    headers = {
        "X-API-Key": made["secret"],
        "X-Remote-User": "bob",
        "F7T-AuthUsername": "bob",
        "X-Forwarded-User": "bob",
    }
    answer = httpx.get(f"{slurm_gateway.url}/status/cluster/userinfo", headers=headers, trust_env=False, timeout=60)
    assert (answer.status_code, answer.json()["user"]["name"]) == (200, "alice")
    assert alice.delete(f"/keys/{made['keyId']}").status_code == 204


def test_the_audit_trail_is_the_operators(slurm_gateway: SlurmGateway, bob: httpx.Client) -> None:
    """No route leads to it, and no metric or page says who does what."""
    document = bob.get("/docs/openapi.json").json()
    assert not [path for path in document["paths"] if "audit" in path]
    for path in ("/audit", "/metrics", "/admin", "/status/audit", "/debug"):
        assert bob.get(path).status_code == 404
