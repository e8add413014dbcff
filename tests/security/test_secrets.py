"""Secrets stay where they belong: none in logs, arguments, environments, stores, answers or files that others read."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from harness.cluster import Cluster
from harness.gateway import GatewayProcess
from harness.ports import free_port
from harness.secret_scanner import (
    files_below,
    found_in,
    known_below,
    logs_below,
    plant,
    readable_by_others,
    remember,
    shown_by,
)
from harness.slurm_gateway import SlurmGateway
from harness.waiting import until_blocking

RUNNING = ("PENDING", "RUNNING", "COMPLETING")


def environment_script(folder: str) -> str:
    """A job that says when it runs and goes on until it is cancelled."""
    return f"#!/bin/sh\nset | wc -l >{folder}/runs\nsleep 600\n"


def arguments_and_environments() -> tuple[bytes, bytes]:
    """Of every process of this machine, this one and those that tests start apart."""
    texts: list[bytes] = [b"", b""]
    for process in Path("/proc").glob("[0-9]*"):
        for number, name in enumerate(("cmdline", "environ")):
            try:
                texts[number] += (process / name).read_bytes() + b"\0"
            except OSError:  # it has ended, or is not ours
                continue
    return texts[0], texts[1]


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    """A process with a log of its own that says all it can."""
    gateway = GatewayProcess(tmp_path / "home", free_port(), "--log-level", "debug")
    gateway.start()
    yield gateway
    gateway.stop()


def test_a_gateway_of_this_machine(gateway: GatewayProcess, tmp_path: Path) -> None:
    client_id, client_secret = gateway.client
    remember("client secret", client_secret)
    form = {"grant_type": "client_credentials", "scope": "offline_access"}
    tokens = httpx.post(gateway.token_url, data=form, auth=gateway.client).json()
    remember("access token", tokens["access_token"])
    remember("refresh token", tokens["refresh_token"])
    work = gateway.home / "files" / "work"
    work.mkdir(mode=0o700)
    answers: list[httpx.Response] = []

    with gateway.http() as http:
        remember("another access token", http.auth.token)
        http.event_hooks["response"].append(lambda answer: answers.append(answer))
        api_key = http.post("/keys", json={"name": "planted"}).json()["secret"]
        answers.clear()  # the one answer that shows it
        remember("API key", api_key)
        variable, content = plant("environment variable"), plant("file content")
        job = {"workingDirectory": str(work), "script": environment_script(str(work)), "env": {"SECRET": variable}}
        job_id = http.post("/compute/local/jobs", json={"job": job}).json()["jobId"]
        target = {"path": str(work / "file")}
        http.put("/filesystem/local/ops/content", params=target, content=content.encode())
        http.put("/filesystem/local/ops/chmod", json=target | {"mode": "600"})
        signed = http.post(
            "/filesystem/local/transfer/upload",
            json={"path": str(work / "signed"), "transferDirectives": {"transferMethod": "s3", "fileSize": 1}},
        ).json()["transferDirectives"]
        answers.clear()  # the one answer that shows the links
        for url in (signed["completeUploadUrl"], *signed["partsUploadUrls"]):
            remember("signature", httpx.URL(url).params["signature"])
        httpx.put(signed["partsUploadUrls"][0], content=b"x", trust_env=False)
        httpx.post(signed["completeUploadUrl"], content=b"<no completion/>", trust_env=False)

        # What goes wrong is where programs say too much.
        wrong = plant("wrong client secret")
        basic = base64.b64encode(f"{client_id}:{wrong}".encode()).decode()
        remember("wrong client secret in Basic", basic)
        forged = plant("forged token")
        refused = plant("value that is refused")
        with httpx.Client(base_url=gateway.url, trust_env=False, timeout=60) as stranger:
            answers += [
                stranger.post("/oauth2/token", data=form, auth=(client_id, wrong)),
                stranger.post("/oauth2/token", data={"client_id": client_id, "client_secret": wrong}),
                stranger.post("/oauth2/token", data={"grant_type": "refresh_token", "refresh_token": forged}),
                stranger.get("/status/systems", headers={"Authorization": f"Bearer {forged}"}),
                stranger.get("/status/systems", headers={"X-API-Key": forged}),
                stranger.get(f"/status/systems?access_token={forged}"),
            ]
        for env in ({"A=B": refused}, [f"=;{refused}"], {"A": f"{refused}\0"}, {"A": [refused]}, f"A={refused}"):
            http.post(
                "/compute/local/jobs",
                json={"job": {"workingDirectory": str(work), "script": "#!/bin/sh\n", "env": env}},
            )
        http.post("/compute/local/jobs", content=f'{{"job": {{"env": {{"A": "{refused}"')

        until_blocking((work / "runs").exists)
        known = known_below(tmp_path)
        arguments, environments = arguments_and_environments()
        assert found_in(arguments, known) == []
        its_own = [what for what in known if what.startswith("environment variable")]
        assert found_in(environments, known) == its_own  # which shows that the search finds what there is
        http.get(f"/compute/local/jobs/{job_id}")
        http.get(f"/compute/local/jobs/{job_id}/metadata")
        http.delete(f"/compute/local/jobs/{job_id}")

    shown = [(answer.request.url.path, what) for answer in answers for what in found_in(answer.content, known)]
    assert shown == []
    gateway.stop()
    assert shown_by([gateway.log, *logs_below(gateway.home)], known) == []
    assert shown_by(readable_by_others(gateway.home), known) == []
    # What the store must know of credentials it knows by their hashes.
    own = {"client.json", "signing_key.json"}
    credentials = {
        what: secret for what, secret in known.items() if not what.startswith(("environment", "file content"))
    }
    assert shown_by((file for file in files_below(gateway.home) if file.name not in own), credentials) == []
    audit = subprocess.run(
        [Path(gateway.process.args[0]), "audit", "--state-dir", gateway.home, "--json"],  # type: ignore[union-attr,index]
        capture_output=True,
        check=True,
    )
    assert b"/keys" in audit.stdout
    assert found_in(audit.stdout, known) == []
    gateway.start()  # for the fixture to stop


def test_a_job_of_the_cluster(slurm_gateway: SlurmGateway, cluster: Cluster, tmp_path: Path) -> None:
    """Of what is sent along a job has its own variables, its owner its files, and the others nothing."""
    cluster.check("root", ["touch", "/var/tmp/begun"])
    client = slurm_gateway.client_of("alice")
    remember("client secret of alice", client[1])
    with slurm_gateway.http(client) as http:
        token = http.auth.token
        remember("access token of alice", token)
        variable, content = plant("environment variable on the cluster"), plant("file on the cluster")
        cluster.check("alice", ["mkdir", "-p", "/home/alice/secrets"])
        cluster.check("alice", ["sh", "-c", "umask 077; : >/home/alice/secrets/file"])
        target = {"path": "/home/alice/secrets/file"}
        http.put("/filesystem/cluster/ops/content", params=target, content=content.encode()).raise_for_status()
        job = {
            "workingDirectory": "/home/alice/secrets",
            "script": environment_script("."),
            "env": {"SECRET": variable},
        }
        answer = http.post("/compute/cluster/jobs", json={"job": job})
        assert answer.status_code == 201, answer.text
        job_id = answer.json()["jobId"]
        try:
            until_blocking(lambda: not cluster.exec("alice", ["test", "-s", "/home/alice/secrets/runs"]).exit_status)
            known = known_below(tmp_path)
            keys = [file.read_text() for file in cluster.keys.iterdir()]
            known |= {f"SSH key {number}": key.splitlines()[1].encode() for number, key in enumerate(keys)}
            shown = {
                " ".join(words[:3]): cluster.exec("root", words).stdout.encode()
                for words in (
                    ["ps", "-eo", "args"],
                    ["scontrol", "show", "job", job_id],
                    ["scontrol", "write", "batch_script", job_id, "-"],
                    ["sacct", "-j", job_id, "--format=SubmitLine%2000,Comment%1000"],
                    ["sh", "-c", "cat /var/log/slurm*/* /var/log/*.log"],
                    ["sh", "-c", "find / -xdev -newer /var/tmp/begun -type f -perm -o=r -size -4096k -exec cat {} +"],
                )
            }
            environments = cluster.exec("alice", ["sh", "-c", "cat /proc/[0-9]*/environ"]).stdout.encode()
        finally:
            http.delete(f"/compute/cluster/jobs/{job_id}")
    assert {where: found for where, text in shown.items() if (found := found_in(text, known))} == {}
    its_own = [what for what in known if what.startswith("environment variable on the cluster")]
    assert found_in(environments, known) == its_own


def test_the_scanner_finds_what_there_is(tmp_path: Path) -> None:
    """Planted in a log, in a job's output and in a file for everybody; not behind a closed door."""
    secret = "found-wherever-it-is-0123456789"
    known = {"it": secret.encode()}
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    places = [
        tmp_path / "gateway.log",
        tmp_path / "slurm-1.out",
        closed / "x.err",
        tmp_path / "world",
        closed / "inner",
    ]
    (tmp_path / "logs").mkdir()
    places.append(tmp_path / "logs" / "attempt=1")
    for place in places:
        place.write_text(f"before {secret} after")
    (tmp_path / "world").chmod(0o604)
    found = {text.split(" shows ")[0] for text in shown_by(logs_below(tmp_path), known)}
    assert found == {str(place) for place in places} - {str(tmp_path / "world"), str(closed / "inner")}
    open_to_all = list(readable_by_others(tmp_path))
    assert tmp_path / "world" in open_to_all
    assert closed / "inner" not in open_to_all
    assert "it" not in str(shown_by([tmp_path / "none"], known))
