"""`/filesystem/{system}/transfer` and the signed URLs: large files, and operations in the background."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx
import pytest

from crestline.gateway.identity.clients import Clients
from crestline.gateway.store import Store
from harness.gateway import RunningGateway
from harness.parts import require
from harness.waiting import until_blocking

TRANSFER = "/filesystem/local/transfer"
JOBS = "/compute/local/jobs"
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def http(gateway: RunningGateway) -> Iterator[httpx.Client]:
    with gateway.http() as client:
        yield client


@pytest.fixture(scope="module")
def store(gateway: RunningGateway) -> Iterator[httpx.Client]:
    """Like a client of S3: no token."""
    with httpx.Client(timeout=60, trust_env=False) as client:
        yield client


@pytest.fixture
def work(gateway: RunningGateway, tmp_path: Path) -> Path:
    directory = gateway.home / "files" / tmp_path.name
    directory.mkdir()
    return directory


def begin_upload(http: httpx.Client, path: Path | str, size: Any, **fields: Any) -> dict[str, Any]:
    body = {"path": str(path), "transferDirectives": {"transferMethod": "s3", "fileSize": size}, **fields}
    answer = http.post(f"{TRANSFER}/upload", json=body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def completion(tags: dict[int, str]) -> bytes:
    parts = "".join(f"<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>" for number, tag in tags.items())
    return f'<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{parts}</CompleteMultipartUpload>'.encode()


def send(store: httpx.Client, begun: dict[str, Any], content: bytes) -> dict[int, str]:
    directives = begun["transferDirectives"]
    size = directives["maxPartSize"]
    tags = {}
    for index, url in enumerate(directives["partsUploadUrls"]):
        answer = store.put(url, content=content[index * size : (index + 1) * size])
        assert answer.status_code == 200, answer.text
        tags[index + 1] = answer.headers["ETag"]
    return tags


def error_code(answer: httpx.Response) -> str:
    assert answer.headers["Content-Type"].startswith("application/xml")
    root = ElementTree.fromstring(answer.content)
    assert root.tag == "Error"
    assert root.findtext("Message")
    return root.findtext("Code") or ""


def job_of(http: httpx.Client, answer: dict[str, Any]) -> dict[str, Any]:
    found = http.get(f"{JOBS}/{answer['transferJob']['jobId']}")
    assert found.status_code == 200, found.text
    return dict(found.json()["jobs"][0])


def ended(http: httpx.Client, answer: httpx.Response, status: int = 201) -> tuple[str, str, str]:
    """State, output and errors of an operation once it has ended."""
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"transferJob"}
    job = answer.json()["transferJob"]
    assert set(job) == {"jobId", "system", "workingDirectory", "logs"}
    until_blocking(lambda: job_of(http, answer.json())["status"]["state"] not in ("PENDING", "RUNNING", "COMPLETING"))
    state = job_of(http, answer.json())["status"]["state"]
    texts = [
        http.get("/filesystem/local/ops/view", params={"path": job["logs"][log]}).json()["output"]
        for log in ("outputLog", "errorLog")
    ]
    return state, texts[0], texts[1]


def test_shape_of_an_upload(http: httpx.Client, gateway: RunningGateway, work: Path) -> None:
    begun = begin_upload(http, work / "file", 200 * MIB, account="none")
    job, directives = begun["transferJob"], begun["transferDirectives"]
    assert set(begun) == {"transferJob", "transferDirectives"}
    assert set(directives) == {"transferMethod", "partsUploadUrls", "completeUploadUrl", "maxPartSize"}
    assert directives["transferMethod"] == "s3"
    assert len(directives["partsUploadUrls"]) == -(-200 * MIB // directives["maxPartSize"]) == 10
    assert all(url.startswith(f"{gateway.url}/transfers/local/") for url in directives["partsUploadUrls"])
    assert re.fullmatch("t[0-9a-f]{16}", job["jobId"])
    assert job["system"] == "local"
    logs = f"{job['workingDirectory']}/.f7t_file_handling_job_"
    assert job["logs"] == {
        "outputLog": f"{logs}{job['jobId']}.log",
        "errorLog": f"{logs}error_{job['jobId']}.log",
    }
    assert http.delete(f"{JOBS}/{job['jobId']}").status_code == 204


def test_upload(http: httpx.Client, store: httpx.Client, work: Path) -> None:
    content = os.urandom(37 * MIB + 5)
    target = work / "am&p file|'名"
    target.write_text("old")
    target.chmod(0o600)
    begun = begin_upload(http, target, str(len(content)))
    tags = send(store, begun, content)
    assert [tag.strip('"') for tag in tags.values()] == [
        hashlib.md5(content[start : start + 16 * MIB]).hexdigest() for start in range(0, len(content), 16 * MIB)
    ]
    assert target.read_text() == "old"
    job = job_of(http, begun)
    assert (job["status"]["state"], job["user"]) == ("RUNNING", begun["transferJob"]["workingDirectory"].split("/")[-1])
    complete = begun["transferDirectives"]["completeUploadUrl"]
    answer = store.post(complete, content=completion(tags))
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"].startswith("application/xml")
    assert ElementTree.fromstring(answer.content).tag.endswith("CompleteMultipartUploadResult")
    assert target.read_bytes() == content
    assert target.stat().st_mode & 0o777 == 0o600
    assert os.listdir(work) == [target.name]
    job = job_of(http, begun)
    assert (job["status"]["state"], job["status"]["exitCode"]) == ("COMPLETED", 0)
    log = http.get("/filesystem/local/ops/view", params={"path": begun["transferJob"]["logs"]["outputLog"]})
    assert "File was successfully" in log.json()["output"]
    # The client may not have got the answer.
    assert store.post(complete, content=completion(tags)).text == answer.text
    assert error_code(store.put(begun["transferDirectives"]["partsUploadUrls"][0], content=b"x" * 16 * MIB)) == (
        "NoSuchUpload"
    )
    assert target.read_bytes() == content


def test_an_empty_upload(http: httpx.Client, store: httpx.Client, work: Path) -> None:
    begun = begin_upload(http, work / "empty", 0)
    assert begun["transferDirectives"]["partsUploadUrls"] == []
    answer = store.post(begun["transferDirectives"]["completeUploadUrl"], content=completion({}))
    assert answer.status_code == 200, answer.text
    assert (work / "empty").read_bytes() == b""


def test_parts_in_any_order_and_again(http: httpx.Client, store: httpx.Client, work: Path) -> None:
    content = os.urandom(33 * MIB)
    begun = begin_upload(http, work / "file", len(content))
    urls, size = begun["transferDirectives"]["partsUploadUrls"], begun["transferDirectives"]["maxPartSize"]
    tags = {}
    for number in (3, 1, 2, 3):
        part = content[(number - 1) * size : number * size]
        wrong = store.put(urls[number - 1], content=bytes(len(part)))  # replaced by what follows
        tags[number] = store.put(urls[number - 1], content=iter([part])).headers["ETag"]  # of unannounced length
        assert wrong.headers["ETag"] != tags[number]
    answer = store.post(begun["transferDirectives"]["completeUploadUrl"], content=completion(tags))
    assert answer.status_code == 200, answer.text
    assert (work / "file").read_bytes() == content


def test_parts_of_a_wrong_length(http: httpx.Client, store: httpx.Client, work: Path) -> None:
    begun = begin_upload(http, work / "file", 17 * MIB)
    last = begun["transferDirectives"]["partsUploadUrls"][1]
    for content in (b"", b"x" * (MIB - 1), b"x" * (MIB + 1)):
        answer = store.put(last, content=content)
        assert (answer.status_code, error_code(answer)) == (400, "InvalidRequest")
        answer = store.put(last, content=iter([content]))
        assert (answer.status_code, error_code(answer)) == (400, "InvalidRequest")
    tags = {1: '"0"', 2: '"0"'}
    answer = store.post(begun["transferDirectives"]["completeUploadUrl"], content=completion(tags))
    assert (answer.status_code, error_code(answer)) == (400, "InvalidPart")


def test_completions_that_cannot_be(http: httpx.Client, store: httpx.Client, work: Path) -> None:
    content = os.urandom(17 * MIB)
    begun = begin_upload(http, work / "file", len(content))
    complete = begun["transferDirectives"]["completeUploadUrl"]
    first = begun["transferDirectives"]["partsUploadUrls"][0]
    tags = {1: store.put(first, content=content[: 16 * MIB]).headers["ETag"]}
    assert error_code(store.post(complete, content=completion(tags))) == "InvalidPart"  # one is missing
    tags = send(store, begun, content)
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>' + completion(tags)
    for body, code in [
        (completion(tags | {2: tags[1]}), "InvalidPart"),
        (completion({1: tags[1]}), "InvalidPart"),
        (completion(tags | {3: tags[1]}), "InvalidPart"),
        (b"", "MalformedXML"),
        (b"<CompleteMultipartUpload>", "MalformedXML"),
        (b"<Other/>", "MalformedXML"),
        (b"<CompleteMultipartUpload><Part><ETag>1</ETag></Part></CompleteMultipartUpload>", "MalformedXML"),
        (completion({1: "x"}).replace(b">1<", b">one<"), "MalformedXML"),
        (bomb, "MalformedXML"),
    ]:
        answer = store.post(complete, content=body)
        assert (answer.status_code, error_code(answer)) == (400, code), body
    assert not (work / "file").exists()
    assert store.post(complete, content=completion(tags)).status_code == 200
    assert (work / "file").read_bytes() == content


def test_download(http: httpx.Client, store: httpx.Client, work: Path) -> None:
    content = os.urandom(20 * MIB)
    (work / "file").write_bytes(content)
    body = {"source_path": f"{work}/file", "transfer_directives": {"transfer_method": "s3"}}
    answer = http.post(f"{TRANSFER}/download", json=body)
    assert answer.status_code == 201, answer.text
    assert set(answer.json()["transferDirectives"]) == {"transferMethod", "downloadUrl"}
    assert job_of(http, answer.json())["status"]["state"] == "COMPLETED"
    url = answer.json()["transferDirectives"]["downloadUrl"]
    whole = store.get(url)
    assert (whole.status_code, whole.content) == (200, content)
    assert whole.headers["Content-Length"] == str(len(content))
    part = store.get(url, headers={"Range": f"bytes={19 * MIB}-", "If-Range": whole.headers["ETag"]})
    assert (part.status_code, part.content) == (206, content[19 * MIB :])
    assert store.head(url).headers["Content-Length"] == str(len(content))
    for method in ("PUT", "POST", "DELETE"):
        assert store.request(method, url, content=b"x").status_code == 405
    (work / "file").unlink()
    assert store.get(url).status_code == 404


def tampered(url: str) -> Iterator[str]:
    """The same URL, signed for something else or not at all."""
    parsed = httpx.URL(url)
    expires, signature = parsed.params["expires"], parsed.params["signature"]
    yield str(parsed.copy_with(query=None))
    yield str(parsed.copy_set_param("expires", str(int(expires) + 1)))
    yield str(parsed.copy_set_param("expires", "never"))
    yield str(parsed.copy_set_param("expires", ""))
    yield str(parsed.copy_set_param("signature", signature[:-1] + ("0" if signature[-1] != "0" else "1")))
    yield str(parsed.copy_set_param("signature", ""))
    yield str(parsed.copy_set_param("signature", "ü"))
    yield str(parsed.copy_with(path=re.sub("t[0-9a-f]{16}", "t" + "0" * 16, parsed.path)))
    if "/parts/" in parsed.path:
        yield str(parsed.copy_with(path=parsed.path.replace("/parts/1", "/parts/2")))
        yield str(parsed.copy_with(path=parsed.path.replace("/parts/1", "/parts/0")))


def test_signatures(http: httpx.Client, store: httpx.Client, work: Path) -> None:
    (work / "file").write_bytes(b"x")
    directives = begin_upload(http, work / "new", 17 * MIB)["transferDirectives"]
    body = {"path": f"{work}/file", "transferDirectives": {"transferMethod": "s3"}}
    download = http.post(f"{TRANSFER}/download", json=body).json()["transferDirectives"]["downloadUrl"]
    urls = {"PUT": directives["partsUploadUrls"][0], "POST": directives["completeUploadUrl"], "GET": download}
    for method, url in urls.items():
        for wrong in tampered(url):
            answer = store.request(method, wrong, content=b"x")
            assert answer.status_code == 403, (method, wrong, answer.text)
            assert error_code(answer) == "AccessDenied"
            assert httpx.URL(url).params["signature"] not in answer.text
        shouted = httpx.URL(url).copy_with(path=httpx.URL(url).path.upper())
        assert store.request(method, shouted, content=b"").status_code != 403
        # A token does not replace the signature.
        assert http.request(method, httpx.URL(url).path, content=b"x").status_code == 403


def test_transfer_ids_answer_like_job_ids(http: httpx.Client, store: httpx.Client, work: Path) -> None:
    begun = begin_upload(http, work / "file", 1)
    job_id, logs = begun["transferJob"]["jobId"], begun["transferJob"]["logs"]
    url = f"{JOBS}/{job_id}"
    job = http.get(url).json()["jobs"][0]
    assert (job["jobId"], job["cluster"], job["status"]["state"]) == (job_id, "local", "RUNNING")
    assert abs(job["time"]["start"] - time.time()) < 600
    metadata = http.get(f"{url}/metadata").json()["jobs"][0]
    assert (metadata["standardOutput"], metadata["standardError"]) == (logs["outputLog"], logs["errorLog"])
    assert any(name.startswith(".crestline-") for name in os.listdir(work))
    for _ in range(2):  # cancel is idempotent
        assert http.delete(url).status_code == 204
    assert http.get(url).json()["jobs"][0]["status"]["state"] == "CANCELLED"
    assert os.listdir(work) == []
    answer = store.put(begun["transferDirectives"]["partsUploadUrls"][0], content=b"x")
    assert (answer.status_code, error_code(answer)) == (404, "NoSuchUpload")
    for call in (http.get, http.delete):
        assert call(f"{JOBS}/t{'0' * 16}").status_code == 404
    assert http.get(f"{JOBS}/t{'0' * 16}/metadata").status_code == 404


async def client_of_another_user(gateway: RunningGateway) -> tuple[str, str]:
    """Id and secret of a new one."""
    store = Store.connect(gateway.home / "private" / "gateway.db")
    try:
        client_id = f"other-{time.monotonic_ns()}"
        return client_id, await Clients(store).add(client_id, "somebody")
    finally:
        await store.close()


def test_transfers_of_others(http: httpx.Client, gateway: RunningGateway, work: Path) -> None:
    client = asyncio.run(client_of_another_user(gateway))
    job_id = begin_upload(http, work / "file", 1)["transferJob"]["jobId"]
    headers = {"Authorization": f"Bearer {gateway.token(client)}"}
    for call in (http.get, http.delete):
        assert call(f"{JOBS}/{job_id}", headers=headers).status_code == 404
    assert http.get(f"{JOBS}/{job_id}/metadata", headers=headers).status_code == 404
    assert http.get(f"{JOBS}/{job_id}").json()["jobs"][0]["status"]["state"] == "RUNNING"
    assert http.delete(f"{JOBS}/{job_id}").status_code == 204


@pytest.mark.parametrize(
    ("directives", "text"),
    [
        ({"transferMethod": "streamer"}, "Requested transfer method is not available."),
        ({"transferMethod": "wormhole", "wormholeCode": "1-a"}, "Requested transfer method is not available."),
        ({}, "transfer method is not available."),
        ({"transferMethod": "s3"}, "fileSize"),
        ({"transferMethod": "s3", "fileSize": -1}, "fileSize"),
        ({"transferMethod": "s3", "fileSize": "many"}, "fileSize"),
        ({"transferMethod": "s3", "fileSize": 1.5}, "fileSize"),
        ({"transferMethod": "s3", "fileSize": True}, "fileSize"),
        (None, "transferDirectives"),
        ("s3", "transferDirectives"),
    ],
)
def test_uploads_that_cannot_be(http: httpx.Client, work: Path, directives: Any, text: str) -> None:
    answer = http.post(f"{TRANSFER}/upload", json={"path": f"{work}/file", "transferDirectives": directives})
    assert answer.status_code == 400, answer.text
    assert text in answer.json()["message"]
    assert os.listdir(work) == []


def test_uploads_to_where_they_cannot_go(http: httpx.Client, work: Path) -> None:
    def refusal(path: str, size: int) -> tuple[int, str]:
        body = {"path": path, "transferDirectives": {"transferMethod": "s3", "fileSize": size}}
        answer = http.post(f"{TRANSFER}/upload", json=body)
        return answer.status_code, answer.json()["message"]

    assert refusal(str(work), 1) == (400, f"write: cannot access '{work}': Is a directory")
    assert refusal(f"{work}/nope/file", 1)[0] == 404
    assert refusal(f"{work}/{'n' * 300}", 1)[0] == 400
    assert refusal(f"{work}/file", 2**60)[0] == 413
    status, message = refusal(f"{work}/file", 5 * 1024**4)
    assert (status, "No space left on device" in message) == (413, True)
    assert os.listdir(work) == []
    body = {"path": f"{work}/nope", "transferDirectives": {"transferMethod": "s3"}}
    assert http.post(f"{TRANSFER}/download", json=body).status_code == 404
    assert http.post(f"{TRANSFER}/download", json=body | {"path": str(work)}).status_code == 400


Operation = Callable[[httpx.Client, Path], httpx.Response]


def test_copy(http: httpx.Client, work: Path) -> None:
    (work / "a" / "sub").mkdir(parents=True)
    (work / "a" / "sub" / "file").write_bytes(os.urandom(3 * MIB))
    (work / "a" / "sub" / "file").chmod(0o751)
    (work / "a" / "link").symlink_to("sub/file")
    (work / "a" / "closed").mkdir(mode=0o500)

    def copy(source: str, target: str, **options: Any) -> tuple[str, str, str]:
        body = {"sourcePath": f"{work}/{source}", "target_path": f"{work}/{target}", **options}
        return ended(http, http.post(f"{TRANSFER}/cp", json=body))

    state, said, errors = copy("a", "b")
    assert (state, errors) == ("COMPLETED", "")
    assert "Files were successfully" in said
    assert (work / "b" / "sub" / "file").read_bytes() == (work / "a" / "sub" / "file").read_bytes()
    assert (work / "b" / "sub" / "file").stat().st_mode & 0o777 == 0o751
    assert (work / "b" / "closed").stat().st_mode & 0o777 == 0o500
    assert (work / "b" / "link").is_symlink()
    assert copy("a", "b")[0] == "COMPLETED"  # into the directory that is there
    assert (work / "b" / "a" / "sub" / "file").exists()
    assert copy("a", "followed", dereference=True)[0] == "COMPLETED"
    assert not (work / "followed" / "link").is_symlink()
    (work / "target").write_text("old and longer")
    assert copy("a/link", "target", dereference=True)[0] == "COMPLETED"
    assert (work / "target").read_bytes() == (work / "a" / "sub" / "file").read_bytes()
    for source, target, reason in [
        ("nope", "x", "No such file or directory"),
        ("a", "a/sub/deeper", "into itself"),
        ("target", "target", "same file"),
        ("target", "nowhere/x", "No such file or directory"),
        ("a", "target", "File exists"),
        ("target", "target/x", "Not a directory"),
    ]:
        state, said, errors = copy(source, target)
        assert (state, reason in errors) == ("FAILED", True), (source, target, state, errors)
        assert "successfully" not in said
        assert reason in said


def test_a_failure_whose_path_says_success(http: httpx.Client, work: Path) -> None:
    body = {"path": f"{work}/Files were successfully copied", "targetPath": f"{work}/x"}
    state, said, errors = ended(http, http.post(f"{TRANSFER}/cp", json=body))
    assert state == "FAILED"
    assert "successfully" not in said
    assert "No such file or directory" in errors


def test_move(http: httpx.Client, work: Path) -> None:
    def move(source: str, target: str) -> tuple[str, str, str]:
        body = {"path": f"{work}/{source}", "targetPath": f"{work}/{target}"}
        return ended(http, http.post(f"{TRANSFER}/mv", json=body))

    (work / "file").write_text("x")
    (work / "directory").mkdir()
    state, said, _ = move("file", "new")
    assert (state, "Files were successfully" in said) == ("COMPLETED", True)
    assert move("new", "directory")[0] == "COMPLETED"
    assert (work / "directory" / "new").read_text() == "x"
    assert move("directory", "renamed")[0] == "COMPLETED"
    (work / "full").mkdir()
    (work / "full" / "renamed").mkdir()
    (work / "full" / "renamed" / "x").touch()
    for source, target, reason in [
        ("nope", "x", "No such file or directory"),
        ("renamed", "renamed/deeper", "subdirectory of itself"),
        ("renamed", "full", "Directory not empty"),
        ("renamed/new", "renamed/new", "same file"),
    ]:
        state, _, errors = move(source, target)
        assert (state, reason in errors) == ("FAILED", True), (source, target, errors)
    assert (work / "renamed" / "new").read_text() == "x"


def test_move_to_another_file_system(http: httpx.Client, work: Path) -> None:
    other = Path("/dev/shm")
    require(other.is_dir() and other.stat().st_dev != work.stat().st_dev, "/dev/shm is not a second file system")
    from harness.gateway import in_thread

    # /dev/shm is not a file system of the shared gateway.
    place = other / f"crestline-test-{os.getpid()}"
    place.mkdir()
    try:
        systems = {"local": {"file_systems": [{"path": str(work), "default_work_dir": True}, {"path": str(place)}]}}
        with in_thread(work.parent.parent / f"{work.name}-home", systems=systems) as running, running.http() as client:
            (work / "tree").mkdir()
            (work / "tree" / "file").write_text("x")
            (work / "tree" / "link").symlink_to("file")
            body = {"path": f"{work}/tree", "targetPath": str(place)}
            assert ended(client, client.post(f"{TRANSFER}/mv", json=body))[0] == "COMPLETED"
            assert (place / "tree" / "link").read_text() == "x"
            assert not (work / "tree").exists()
    finally:
        import shutil

        shutil.rmtree(place)


def test_remove_compress_extract(http: httpx.Client, work: Path) -> None:
    (work / "tree").mkdir()
    (work / "tree" / "file").write_text("x")
    body = {"path": f"{work}/tree", "targetPath": f"{work}/tree.tar.xz", "compression": "xz", "account": "a"}
    state, said, _ = ended(http, http.post(f"{TRANSFER}/compress", json=body))
    assert (state, "Files were successfully" in said) == ("COMPLETED", True)
    state, said, _ = ended(http, http.request("DELETE", f"{TRANSFER}/rm", params={"path": f"{work}/tree"}), 200)
    assert (state, "Files were successfully" in said) == ("COMPLETED", True)
    assert os.listdir(work) == ["tree.tar.xz"]
    body = {"path": f"{work}/tree.tar.xz", "targetPath": str(work), "compression": "xz"}
    state, said, _ = ended(http, http.post(f"{TRANSFER}/extract", json=body))
    assert (state, "Files were successfully" in said) == ("COMPLETED", True)
    assert (work / "tree" / "file").read_text() == "x"
    state, said, errors = ended(http, http.post(f"{TRANSFER}/extract", json=body | {"compression": "gzip"}))
    assert (state, "successfully" in said, "tar archive" in errors) == ("FAILED", False, True)
    assert ended(http, http.delete(f"{TRANSFER}/rm", params={"path": f"{work}/nope"}), 200)[0] == "FAILED"


def test_cancel_a_running_copy(http: httpx.Client, work: Path) -> None:
    with (work / "large").open("wb") as file:
        file.truncate(10**12)  # sparse: copying it would take long
    answer = http.post(f"{TRANSFER}/cp", json={"path": f"{work}/large", "targetPath": f"{work}/copy"})
    until_blocking(lambda: job_of(http, answer.json())["status"]["state"] != "PENDING")
    assert http.delete(f"{JOBS}/{answer.json()['transferJob']['jobId']}").status_code == 204
    state, said, _ = ended(http, answer)
    assert (state, "successfully" in said) == ("CANCELLED", False)
    assert os.listdir(work) == ["large"]
