"""Unmodified pyfirecrest - synchronous, asynchronous and its `firecrest` command - against the gateway.

A method that pyfirecrest has and this module does not call fails it, so the list stays complete.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import firecrest
import pytest
import typer.main
from click.testing import CliRunner
from firecrest.v2 import AsyncFirecrest, Firecrest

from harness.gateway import RunningGateway
from harness.waiting import until_blocking

SYSTEM = "local"
CALLED: dict[str, set[str]] = {"sync": set(), "async": set()}
# Not calls to the gateway.
HOUSEKEEPING = {"close_session", "create_new_session", "log", "set_api_version", "set_maximum_s3_connections"}

Call = Callable[..., Any]


class Recorder:
    """One of pyfirecrest's clients; coroutines are run to their end, and each method's name is kept."""

    def __init__(self, kind: str, client: Firecrest | AsyncFirecrest, run: Callable[[Any], Any]) -> None:
        self._kind = kind
        self._client = client
        self._run = run

    def __getattr__(self, name: str) -> Call:
        def call(*args: Any, **kwargs: Any) -> Any:
            CALLED[self._kind].add(name)
            result = getattr(self._client, name)(*args, **kwargs)
            return self._run(result) if inspect.isawaitable(result) else result

        return call


@pytest.fixture(scope="module", params=["sync", "async"])
def client(request: pytest.FixtureRequest, gateway: RunningGateway) -> Iterator[Recorder]:
    client_id, secret = gateway.client
    auth = firecrest.ClientCredentialsAuth(client_id, secret, gateway.token_url)
    auth.timeout = 30
    kind = AsyncFirecrest if request.param == "async" else Firecrest
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def run(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(120)

    client = kind(gateway.url, authorization=auth)
    client.timeout = 60
    yield Recorder(request.param, client, run)
    if request.param == "async":
        run(client.close_session())
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def work(client: Recorder, gateway: RunningGateway, tmp_path: Path) -> str:
    """A fresh directory on the system."""
    return str(client.mkdir(SYSTEM, f"{gateway.home}/files/{tmp_path.name}/deep", create_parents=True)["name"])


def wait(client: Recorder, job_id: str, *states: str) -> dict[str, Any]:
    """The job once it is in one of `states`."""

    def look() -> dict[str, Any] | None:
        job: dict[str, Any] = client.job_info(SYSTEM, job_id)[0]
        return job if job["status"]["state"].split()[0] in states else None

    return until_blocking(look) or {}


def put(client: Recorder, tmp_path: Path, directory: str, name: str, content: bytes) -> str:
    source = tmp_path / "source"
    source.write_bytes(content)
    client.upload(SYSTEM, source, directory, name)
    return f"{directory}/{name}"


def test_status(client: Recorder) -> None:
    system = client.systems()[0]
    assert system["name"] == SYSTEM
    assert system["scheduler"]["type"] == "slurm"
    assert any(each["defaultWorkDir"] for each in system["fileSystems"])
    assert all(each["healthy"] for each in system["servicesHealth"]), system["servicesHealth"]
    assert client.server_version().startswith("2.6.0")
    assert client.nodes(SYSTEM)[0]["cpus"] >= 1
    assert client.partitions(SYSTEM)[0]["partition"] in ("UP", ["UP"])
    assert client.reservations(SYSTEM) == []
    info = client.userinfo(SYSTEM)
    assert info["group"]["name"]
    assert [group["default"] for group in info["groups"]].count(True) == 1


def test_job_from_submission_to_output(client: Recorder, work: str, tmp_path: Path) -> None:
    script = '#!/bin/bash\n#SBATCH --job-name=hello\necho "$GREETING from $SLURM_JOB_ID"; exit 3\n'
    job_id = client.submit(SYSTEM, work, script_str=script, env_vars={"GREETING": "a, 'b' \"c\""})["jobId"]
    job = client.wait_for_job(SYSTEM, job_id, timeout=60)[0]
    assert job["status"] | {"stateReason": ""} == {
        "state": "FAILED",
        "stateReason": "",
        "exitCode": 3,
        "interruptSignal": 0,
    }
    assert (job["name"], job["workingDirectory"]) == ("hello", work)
    metadata = client.job_metadata(SYSTEM, job_id)[0]
    assert metadata["script"] == script
    assert client.view(SYSTEM, metadata["standardOutput"]) == f"a, 'b' \"c\" from {job_id}\n"
    assert job_id in [each["jobId"] for each in client.job_info(SYSTEM, name="hello", time_window="1h")]


def test_script_by_local_and_remote_path(client: Recorder, work: str, tmp_path: Path) -> None:
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/sh\npwd\n")
    local = client.submit(SYSTEM, work, script_local_path=str(script))["jobId"]
    put(client, tmp_path, work, "job.sh", script.read_bytes())
    remote = client.submit(SYSTEM, work, script_remote_path=f"{work}/job.sh")["jobId"]
    for job_id in (local, remote):
        assert client.wait_for_job(SYSTEM, job_id, timeout=60)[0]["status"]["state"] == "COMPLETED"
        assert client.view(SYSTEM, f"{work}/slurm-{job_id}.out") == f"{work}\n"


def test_cancel_twice(client: Recorder, work: str) -> None:
    job_id = client.submit(SYSTEM, work, script_str="#!/bin/sh\nsleep 600\n")["jobId"]
    wait(client, job_id, "RUNNING")
    client.cancel_job(SYSTEM, job_id)
    assert wait(client, job_id, "CANCELLED")["status"]["state"].startswith("CANCELLED by ")
    client.cancel_job(SYSTEM, job_id)


def test_attach(client: Recorder, work: str) -> None:
    job_id = client.submit(SYSTEM, work, script_str="#!/bin/sh\nuntil [ -e seen ]; do sleep 0.05; done\n")["jobId"]
    wait(client, job_id, "RUNNING")
    client.attach_to_job(SYSTEM, job_id, "touch seen")
    assert wait(client, job_id, "COMPLETED", "FAILED")["status"]["state"] == "COMPLETED"


def test_array(client: Recorder, work: str) -> None:
    script = "#!/bin/sh\n#SBATCH --array=1-3\necho $SLURM_ARRAY_TASK_ID; exit $((SLURM_ARRAY_TASK_ID == 2))\n"
    job_id = client.submit(SYSTEM, work, script_str=script)["jobId"]
    ended = {f"{job_id}_1": "COMPLETED", f"{job_id}_2": "FAILED", f"{job_id}_3": "COMPLETED"}
    until_blocking(lambda: {job["jobId"]: job["status"]["state"] for job in client.job_info(SYSTEM, job_id)} == ended)
    assert client.job_info(SYSTEM, f"{job_id}_2")[0]["status"]["exitCode"] == 1


@pytest.mark.parametrize("name", ["plain", "sp ace", "qu'ote\"s", "a|b", "am&p<x>", "new\nline", "größe-名"])
def test_file_names(client: Recorder, work: str, tmp_path: Path, name: str) -> None:
    directory = str(client.mkdir(SYSTEM, f"{work}/{name}")["name"])
    if "\n" not in name:  # httpx writes a line break of a multipart file name as %0A
        path = put(client, tmp_path, directory, name, b"content\n")
        assert client.checksum(SYSTEM, path) == {
            "algorithm": "SHA256",
            "checksum": hashlib.sha256(b"content\n").hexdigest(),
        }
        assert client.view(SYSTEM, path) == "content\n"
        assert client.cp(SYSTEM, path, f"{path}.copy") is not None
        assert [each["name"] for each in client.list_files(SYSTEM, directory)] == [name, f"{name}.copy"]
    assert name in [each["name"] for each in client.list_files(SYSTEM, work)]
    client.rm(SYSTEM, directory)
    assert client.list_files(SYSTEM, work) == []


def test_files(client: Recorder, work: str, tmp_path: Path) -> None:
    path = put(client, tmp_path, work, "ten", b"".join(b"%d\n" % number for number in range(10)))
    assert client.stat(SYSTEM, path)["size"] == 20
    assert client.file_type(SYSTEM, path) == "ASCII text"
    assert client.head(SYSTEM, path, num_lines=2)["content"] == "0\n1\n"
    assert client.head(SYSTEM, path, num_bytes=3)["content"] == "0\n1"
    assert client.head(SYSTEM, path, num_lines=8, exclude_trailing=True)["content"] == "0\n1\n"
    assert client.tail(SYSTEM, path, num_lines=2)["content"] == "8\n9\n"
    assert client.tail(SYSTEM, path, num_lines=9, exclude_beginning=True)["content"] == "8\n9\n"
    assert client.chmod(SYSTEM, path, "700")["permissions"] == "rwx------"
    owner = client.list_files(SYSTEM, work)[0]
    assert client.chown(SYSTEM, path, owner["user"], owner["group"])["user"] == owner["user"]
    client.symlink(SYSTEM, path, f"{work}/link")
    link = next(each for each in client.list_files(SYSTEM, work) if each["name"] == "link")
    assert (link["type"], link["linkTarget"]) == ("l", path)
    client.mv(SYSTEM, f"{work}/link", f"{work}/.hidden")
    assert [each["name"] for each in client.list_files(SYSTEM, work)] == ["ten"]
    assert {each["name"] for each in client.list_files(SYSTEM, work, show_hidden=True)} >= {"ten", ".hidden"}


@pytest.mark.parametrize("compression", ["none", "gzip", "bzip2", "xz"])
def test_compress_and_extract(client: Recorder, work: str, tmp_path: Path, compression: str) -> None:
    client.mkdir(SYSTEM, f"{work}/tree")
    put(client, tmp_path, f"{work}/tree", "a.txt", b"a")
    client.compress(SYSTEM, f"{work}/tree", f"{work}/tree.tar", compression=compression)
    client.mkdir(SYSTEM, f"{work}/out")
    client.extract(SYSTEM, f"{work}/tree.tar", f"{work}/out", compression=compression)
    assert client.view(SYSTEM, f"{work}/out/tree/a.txt") == "a"


def test_small_files_both_ways(client: Recorder, work: str, tmp_path: Path) -> None:
    content = os.urandom(900_000)
    path = put(client, tmp_path, work, "small.bin", content)
    client.download(SYSTEM, path, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content


def test_200_mib_both_ways(client: Recorder, work: str, tmp_path: Path) -> None:
    block = os.urandom(1024 * 1024)
    source = tmp_path / "large.bin"
    with source.open("wb") as stream:
        for number in range(200):
            stream.write(number.to_bytes(8, "big") + block[8:])
    client.upload(SYSTEM, source, work, "large.bin")
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    assert client.checksum(SYSTEM, f"{work}/large.bin")["checksum"] == digest
    client.download(SYSTEM, f"{work}/large.bin", tmp_path / "back.bin")
    assert hashlib.sha256((tmp_path / "back.bin").read_bytes()).hexdigest() == digest
    client.rm(SYSTEM, f"{work}/large.bin")


def test_transfer_is_a_job_that_can_be_looked_up_and_cancelled(client: Recorder, work: str, tmp_path: Path) -> None:
    source = tmp_path / "six"
    source.write_bytes(os.urandom(6 * 1024 * 1024))
    transfer = client.upload(SYSTEM, source, work, "six", blocking=False).transfer_data["transferJob"]
    assert transfer["jobId"].isalnum()
    assert client.job_info(SYSTEM, transfer["jobId"])[0]["status"]["state"] in ("PENDING", "RUNNING")
    client.cancel_job(SYSTEM, transfer["jobId"])
    assert client.job_info(SYSTEM, transfer["jobId"])[0]["status"]["state"].startswith("CANCELLED")
    assert client.list_files(SYSTEM, work) == []


@pytest.mark.parametrize("method", ["streamer", "wormhole"])
def test_other_transfer_methods_are_refused_as_firecrest_refuses_them(
    gateway: RunningGateway, work: str, method: str
) -> None:
    directives = {"transferMethod": method, "wormholeCode": "4-a-b"}
    with gateway.http() as http:
        answer = http.post(
            f"/filesystem/{SYSTEM}/transfer/upload", json={"path": f"{work}/x", "transferDirectives": directives}
        )
    assert answer.status_code == 400
    assert answer.json()["message"].startswith("Requested transfer method is not available.")


@pytest.mark.parametrize(
    ("call", "status", "text"),
    [
        (lambda c, w: c.job_info(SYSTEM, "999999"), 404, "Job not found"),
        (lambda c, w: c.cancel_job(SYSTEM, "999999"), 404, "Job not found"),
        (lambda c, w: c.list_files(SYSTEM, f"{w}/nope"), 404, "No such file or directory"),
        (lambda c, w: c.stat(SYSTEM, f"{w}/nope"), 404, "No such file or directory"),
        (lambda c, w: c.mkdir(SYSTEM, w), 400, "File exists"),
        (lambda c, w: c.list_files(SYSTEM, "/etc"), 400, "does not match any of the defined filesystem paths"),
        (lambda c, w: c.list_files("nowhere", w), 404, "System not found"),
        (lambda c, w: c.chown(SYSTEM, w, "no-such-user", ""), 400, "invalid user"),
    ],
)
def test_texts_that_clients_match(
    client: Recorder, work: str, call: Callable[[Recorder, str], Any], status: int, text: str
) -> None:
    with pytest.raises(firecrest.FirecrestException) as caught:
        call(client, work)
    answer = caught.value.responses[-1]
    assert answer.status_code == status
    assert text in answer.json()["message"]


def test_the_firecrest_command(gateway: RunningGateway, tmp_path: Path) -> None:
    from firecrest import cli2

    command = typer.main.get_command(cli2.app)
    client_id, secret = gateway.client
    environment = {
        "FIRECREST_URL": gateway.url,
        "AUTH_TOKEN_URL": gateway.token_url,
        "FIRECREST_CLIENT_ID": client_id,
        "FIRECREST_CLIENT_SECRET": secret,
        "FIRECREST_SYSTEM": SYSTEM,
        "COLUMNS": "200",
    }
    called = set()

    def run(*arguments: str) -> str:
        called.add(arguments[0])
        result = CliRunner().invoke(command, list(arguments), env=environment)
        assert result.exit_code == 0, (arguments, result.output, result.exception)
        return str(result.output)

    work = f"{gateway.home}/files/{tmp_path.name}-cli"
    source = tmp_path / "hello.txt"
    source.write_text("hello\n")
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/sh\nwhile [ ! -e go ]; do sleep 0.05; done; cat hello.txt\n")
    assert "2.6.0" in run("server-version")
    assert SYSTEM in run("systems")
    for name in ("get-nodes", "get-partitions", "id"):
        assert run(name, "--system", SYSTEM)
    run("get-reservations", "--system", SYSTEM)
    run("mkdir", "-p", work)
    run("upload", str(source), work)
    run("cp", f"{work}/hello.txt", f"{work}/copy")
    run("mv", f"{work}/copy", f"{work}/moved")
    run("chmod", f"{work}/moved", "600")
    run("chown", f"{work}/moved", "--owner", str(os.getuid()))
    run("symlink", f"{work}/moved", f"{work}/link")
    assert "moved" in run("ls", work)
    assert "ASCII text" in run("file", f"{work}/moved")
    assert '"size": 6' in run("stat", f"{work}/moved")
    assert hashlib.sha256(b"hello\n").hexdigest() in run("checksum", f"{work}/moved")
    assert "hello" in run("head", f"{work}/moved")
    assert "hello" in run("tail", "-n", "1", f"{work}/moved")
    run("compress", f"{work}/moved", f"{work}/moved.tar.gz")
    run("mkdir", f"{work}/out")
    run("extract", f"{work}/moved.tar.gz", f"{work}/out")
    run("download", f"{work}/out/moved", str(tmp_path / "back"))
    assert (tmp_path / "back").read_text() == "hello\n"
    job_id = json.loads(run("submit", "--working-dir", work, str(script)))["jobId"]
    assert job_id in run("job-info", job_id)
    assert "hello.txt" in run("job-metadata", job_id)
    with gateway.http() as http:
        url = f"/compute/{SYSTEM}/jobs/{job_id}"
        until_blocking(lambda: http.get(url).json()["jobs"][0]["status"]["state"] != "PENDING")
    run("attach-to-job", job_id, "touch go")
    assert "COMPLETED" in run("wait-for-job", job_id)
    run("cancel", job_id)
    run("rm", "--force", work)
    assert called == set(command.commands)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_every_method_was_called(kind: str) -> None:
    offered = {
        name
        for name, _ in inspect.getmembers(Firecrest if kind == "sync" else AsyncFirecrest, inspect.isfunction)
        if not name.startswith("_")
    }
    assert offered - HOUSEKEEPING - CALLED[kind] == set()
