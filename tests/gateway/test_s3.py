"""Large files by way of a real S3 server, with unmodified pyfirecrest and with our client."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import firecrest
import httpx
import pytest
from firecrest.v2 import AsyncFirecrest, Firecrest

from crestline.gateway.transfers.s3.staging import bucket_of
from harness.cutting import relay_to
from harness.gateway import GatewayProcess, RunningGateway, in_thread
from harness.ports import free_ports
from harness.s3 import S3Server
from harness.sites import gateway_site
from harness.waiting import until_blocking

MIB = 1024 * 1024
SIZE = 33 * MIB + 17
JOBS = "/compute/local/jobs"
TRANSFER = "/filesystem/local/transfer"


@pytest.fixture(scope="module")
def served(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with in_thread(tmp_path_factory.mktemp("s3-gateway") / "home", systems=systems(s3_server.config)) as gateway:
        yield gateway


def systems(s3: dict[str, Any]) -> dict[str, Any]:
    return {"local": {"s3": s3}}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "gr\u00f6sse & 'quotes'.bin"
    path.write_bytes(os.urandom(SIZE))
    return path


@pytest.fixture
def work(served: RunningGateway) -> Path:
    folder = served.home / "files" / f"work-{time.monotonic_ns()}"
    folder.mkdir()
    return folder


def authorization(served: RunningGateway) -> firecrest.ClientCredentialsAuth:
    client_id, secret = served.client
    return firecrest.ClientCredentialsAuth(client_id, secret, served.token_url)


def own_bucket() -> str:
    import getpass

    return bucket_of("test-", getpass.getuser())


def wait(http: httpx.Client, answer: httpx.Response, seconds: float = 60) -> dict[str, Any]:
    def ended() -> dict[str, Any] | None:
        (job,) = http.get(f"{JOBS}/{answer.json()['transferJob']['jobId']}").json()["jobs"]
        return dict(job["status"]) if job["status"]["state"] not in ("PENDING", "RUNNING") else None

    status = until_blocking(ended, seconds)
    assert status is not None
    return status


def begin(http: httpx.Client, path: Path, size: int) -> httpx.Response:
    body = {"path": str(path), "transferDirectives": {"transferMethod": "s3", "fileSize": size}}
    return http.post(f"{TRANSFER}/upload", json=body)


def send(answer: httpx.Response, content: bytes) -> None:
    """The parts of an upload and their completion, as any S3 client does it."""
    assert answer.status_code == 201, answer.text
    directives = answer.json()["transferDirectives"]
    listed = ""
    for number, url in enumerate(directives["partsUploadUrls"], start=1):
        size = directives["maxPartSize"]
        put = httpx.put(url, content=content[(number - 1) * size : number * size], timeout=60, trust_env=False)
        assert put.status_code == 200, put.text
        listed += f"<Part><PartNumber>{number}</PartNumber><ETag>{put.headers['ETag']}</ETag></Part>"
    body = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>"
    done = httpx.post(directives["completeUploadUrl"], content=body, timeout=60, trust_env=False)
    assert done.status_code == 200, done.text


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_pyfirecrest_up_and_down(
    served: RunningGateway, s3_server: S3Server, source: Path, work: Path, tmp_path: Path, kind: str
) -> None:
    back = tmp_path / "back"
    if kind == "sync":
        client = Firecrest(served.url, authorization=authorization(served))
        client.upload("local", source, str(work), source.name)
        client.download("local", str(work / source.name), back)
    else:

        async def both() -> None:
            client = AsyncFirecrest(served.url, authorization=authorization(served))
            await client.upload("local", source, str(work), source.name)
            await client.download("local", str(work / source.name), back)
            await client.close_session()

        asyncio.run(both())
    assert (work / source.name).read_bytes() == source.read_bytes()
    assert back.read_bytes() == source.read_bytes()
    assert not list(work.glob(".crestline-*"))
    (kept,) = [key for key in s3_server.keys(own_bucket()) if key.endswith(source.name)][-1:]
    assert kept.split("/")[0].startswith("t")  # the download; the upload was removed when it had landed


def test_our_client_by_signed_urls(served: RunningGateway, source: Path, work: Path, tmp_path: Path) -> None:
    """As towards plain FirecREST; where it may, it streams through the gateway."""
    from crestline.client import connect
    from crestline.client.files import signed_urls
    from crestline.client.files.local import PartFile
    from crestline.client.files.report import Meter

    async def both() -> None:
        async with connect(gateway_site(served)) as system:
            backend = system.backend
            meter = Meter(None)
            transfer = await backend.transfers.upload(str(work / "file"), SIZE)
            await signed_urls.put_parts(transfer, source, SIZE, meter, backend.verify)
            await system.connection.files.finish(transfer)
            transfer = await backend.transfers.download(str(work / "file"))
            await system.connection.files.finish(transfer)
            assert transfer.download_url is not None
            with PartFile(tmp_path / "back", "identity") as part:
                await signed_urls.get(transfer.download_url, part, SIZE, meter, backend.verify)
                part.publish(executable=False)

    asyncio.run(both())
    assert (tmp_path / "back").read_bytes() == source.read_bytes()


def test_directives_are_those_of_firecrest(served: RunningGateway, s3_server: S3Server, work: Path) -> None:
    with served.http() as http:
        answer = begin(http, work / "new", SIZE)
        assert answer.status_code == 201
        directives = answer.json()["transferDirectives"]
        assert set(directives) == {"transferMethod", "partsUploadUrls", "completeUploadUrl", "maxPartSize"}
        assert directives["transferMethod"] == "s3"
        assert len(directives["partsUploadUrls"]) == 3
        for url in (*directives["partsUploadUrls"], directives["completeUploadUrl"]):
            assert url.startswith(f"{s3_server.url}/{own_bucket()}/")
            query = httpx.URL(url).params
            assert query["X-Amz-Algorithm"] == "AWS4-HMAC-SHA256"
            assert query["X-Amz-SignedHeaders"] == "host"
            assert 3600 <= int(query["X-Amz-Expires"]) + 5 < 3600 + 60
        (work / "there").write_bytes(b"content")
        offered = http.post(
            f"{TRANSFER}/download",
            json={"path": str(work / "there"), "transferDirectives": {"transferMethod": "s3"}},
        )
        assert set(offered.json()["transferDirectives"]) == {"transferMethod", "downloadUrl"}
        assert wait(http, offered)["state"] == "COMPLETED"
        url = offered.json()["transferDirectives"]["downloadUrl"]
        part = httpx.get(url, headers={"Range": "bytes=3-"}, trust_env=False)
        assert (part.status_code, part.content) == (206, b"tent")
        assert httpx.get(url.replace("X-Amz-Expires=3", "X-Amz-Expires=4"), trust_env=False).status_code == 403
        data = http.get("/status/systems").json()["systems"][0]["dataOperation"]["data_transfer"]
        assert (data["serviceType"], data["publicUrl"]) == ("s3", s3_server.url)
        assert s3_server.secret not in str(data)
        http.delete(f"{JOBS}/{answer.json()['transferJob']['jobId']}")


@pytest.mark.parametrize("size", [0, 1, 16 * MIB])
def test_sizes(served: RunningGateway, work: Path, size: int) -> None:
    content = os.urandom(size)
    with served.http() as http:
        answer = begin(http, work / "file", size)
        send(answer, content)
        assert wait(http, answer)["state"] == "COMPLETED"
        assert (work / "file").read_bytes() == content
        log = answer.json()["transferJob"]["logs"]["outputLog"]
        assert "File was successfully uploaded" in Path(log).read_text()
        offered = http.post(
            f"{TRANSFER}/download", json={"path": str(work / "file"), "transferDirectives": {"transferMethod": "s3"}}
        )
        assert wait(http, offered)["state"] == "COMPLETED"
        got = httpx.get(offered.json()["transferDirectives"]["downloadUrl"], trust_env=False)
        assert hashlib.sha256(got.content).digest() == hashlib.sha256(content).digest()


def test_a_cancelled_upload_leaves_nothing(served: RunningGateway, s3_server: S3Server, work: Path) -> None:
    with served.http() as http:
        answer = begin(http, work / "file", 5)
        assert list(work.glob(".crestline-*"))
        job_id = answer.json()["transferJob"]["jobId"]
        assert http.delete(f"{JOBS}/{job_id}").status_code == 204
        assert wait(http, answer)["state"] == "CANCELLED"
        assert list(work.iterdir()) == []
        refused = httpx.put(answer.json()["transferDirectives"]["partsUploadUrls"][0], content=b"12345")
        assert refused.status_code in (403, 404)
        assert not [key for key in s3_server.keys(own_bucket()) if key.startswith(job_id)]


def test_an_upload_of_another_size_fails(served: RunningGateway, work: Path) -> None:
    with served.http() as http:
        answer = begin(http, work / "file", 5)
        send(answer, b"1234567")
        state = wait(http, answer)
        assert state["state"] == "FAILED"
        assert "7 bytes" in state["stateReason"]
        assert list(work.iterdir()) == []


def test_uploads_to_where_they_cannot_go(served: RunningGateway, work: Path) -> None:
    with served.http() as http:
        assert begin(http, work / "none" / "file", 5).status_code == 404
        assert begin(http, Path("/etc/passwd"), 5).status_code == 400


def test_expired(served: RunningGateway, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from crestline.gateway.transfers import service

    monkeypatch.setattr(service, "LIFETIME", 1)
    with served.http() as http:
        answer = begin(http, work / "file", 5)
        state = wait(http, answer)
        assert state["state"] == "FAILED"
        assert state["stateReason"] == "The upload was not completed in time."
        refused = httpx.put(answer.json()["transferDirectives"]["partsUploadUrls"][0], content=b"12345")
        assert refused.status_code in (403, 404)
        assert list(work.iterdir()) == []


def test_a_kill_between_completion_and_landing(s3_server: S3Server, tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    lines = [f"{name} = {value!r}" for name, value in s3_server.config.items()]
    config.write_text("\n".join(["[systems.local.s3]", *lines, ""]))
    process = GatewayProcess(tmp_path / "home", free_ports(1)[0], "--config", str(config))
    process.start()
    try:
        content = os.urandom(SIZE)
        target = process.home / "files" / "file"
        with process.http() as http:
            answer = begin(http, target, SIZE)
        process.kill()
        send(answer, content)  # the store needs no gateway
        process.start()
        with process.http() as http:
            assert wait(http, answer)["state"] == "COMPLETED"
        assert target.read_bytes() == content
    finally:
        process.stop()


@pytest.mark.parametrize("way", ["stopped", "frozen"])
def test_without_the_store(served: RunningGateway, s3_server: S3Server, work: Path, way: str) -> None:
    content = os.urandom(5)
    with served.http() as http:
        under_way = begin(http, work / "file", 5)
        send(begin(http, work / "warm", 5), content)
        (s3_server.stop if way == "stopped" else s3_server.pause)()
        try:
            started = time.monotonic()
            refused = begin(http, work / "other", 5)
            detected = time.monotonic()
            again = begin(http, work / "other", 5)
            after = time.monotonic()
            assert (refused.status_code, again.status_code) == (503, 503)
            assert int(refused.headers["Retry-After"]) >= 1
            assert "object store does not answer" in refused.json()["message"]
            assert again.json()["message"] == refused.json()["message"]
            print(f"{way}: detected after {detected - started:.2f} s, then answered in {after - detected:.2f} s")
            assert not [name for name in os.listdir(work) if "other" in name]
            (job,) = http.get(f"{JOBS}/{under_way.json()['transferJob']['jobId']}").json()["jobs"]
            assert job["status"]["state"] == "RUNNING"  # it waits
        finally:
            (s3_server.start if way == "stopped" else s3_server.resume)()
        back = time.monotonic()
        while (answer := begin(http, work / "other", 5)).status_code == 503:
            assert time.monotonic() - back < 60
            time.sleep(0.1)
        assert answer.status_code == 201
        print(f"{way}: back {time.monotonic() - back:.2f} s after the store")
        send(answer, content)
        assert wait(http, answer)["state"] == "COMPLETED"
        send(under_way, content)
        assert wait(http, under_way)["state"] == "COMPLETED"
        assert (work / "file").read_bytes() == (work / "other").read_bytes() == content


def test_cuts_on_the_way_between_gateway_and_store(s3_server: S3Server, source: Path, tmp_path: Path) -> None:
    with relay_to(s3_server.url) as relay:
        table = s3_server.config | {"endpoint": relay.url, "public_endpoint": s3_server.url}
        with in_thread(tmp_path / "home", systems=systems(table)) as gateway, gateway.http() as http:
            target = gateway.home / "files" / "file"
            answer = begin(http, target, SIZE)
            relay.cuts_down = [5 * MIB, 20 * MIB]
            send(answer, source.read_bytes())
            assert wait(http, answer, 120)["state"] == "COMPLETED"
            assert target.read_bytes() == source.read_bytes()
            assert not relay.cuts_down  # both happened
            relay.cuts_up = [5 * MIB, 20 * MIB]
            offered = http.post(
                f"{TRANSFER}/download", json={"path": str(target), "transferDirectives": {"transferMethod": "s3"}}
            )
            assert wait(http, offered, 120)["state"] == "COMPLETED"
            assert not relay.cuts_up
            got = httpx.get(offered.json()["transferDirectives"]["downloadUrl"], timeout=60, trust_env=False)
            assert got.content == source.read_bytes()


def test_a_bucket_that_was_removed(served: RunningGateway, s3_server: S3Server, work: Path) -> None:
    with served.http() as http:
        answer = begin(http, work / "first", 5)
        send(answer, b"first")
        assert wait(http, answer)["state"] == "COMPLETED"
        s3_server.remove_bucket(own_bucket())
        answer = begin(http, work / "second", 5)
        send(answer, b"again")
        assert wait(http, answer)["state"] == "COMPLETED"


def test_wrong_credentials_are_said_and_never_shown(
    s3_server: S3Server, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("SECRET_OF_TEST", "quite another secret")
    table = s3_server.config | {"secret_access_key_env": "SECRET_OF_TEST", "bucket_prefix": "wrong-"}
    del table["secret_access_key_file"]
    with in_thread(tmp_path / "home", systems=systems(table)) as gateway, gateway.http() as http:
        refused = begin(http, gateway.home / "files" / "file", 5)
        assert refused.status_code == 500
        assert "refuses the gateway's access key (SignatureDoesNotMatch)" in refused.json()["message"]
        (health,) = [
            each
            for each in http.get("/status/systems").json()["systems"][0]["servicesHealth"]
            if each["serviceType"] == "s3"
        ]
        assert not health["healthy"]
        assert "access key" in health["message"]
    assert "quite another secret" not in caplog.text
    assert "X-Amz-Signature" not in caplog.text


def test_where_the_secret_is_not(tmp_path: Path) -> None:
    from crestline.gateway.config import S3Config
    from crestline.model import ConfigError

    base = S3Config(endpoint="http://127.0.0.1:1", access_key_id="key")
    with pytest.raises(ConfigError, match="one place"):
        base.read_secret()
    base.secret_access_key_file = tmp_path / "none"
    with pytest.raises(ConfigError, match="cannot be read"):
        base.read_secret()
    base.secret_access_key_file.write_text("\n")
    with pytest.raises(ConfigError, match="empty"):
        base.read_secret()


@pytest.mark.parametrize(
    ("user", "bucket"),
    [("alice", "p-alice"), ("user-1", "p-user-1"), ("A_b", None), ("x" * 80, None), ("\u00fc", None)],
)
def test_bucket_names(user: str, bucket: str | None) -> None:
    import re

    name = bucket_of("p-", user)
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", name)
    assert name == bucket or bucket is None
    assert bucket_of("p-", user) != bucket_of("p-", user + "_")
