"""The FirecREST backend against a plain one: repeats, credentials, errors, and known defects put right."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import logging
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import firecrest.v2
import httpx
import msgspec
import pytest

from crestline.client import Policy, RetryPolicy
from crestline.client.auth import ApiKey, ClientCredentials, StaticToken, TokenCommand
from crestline.client.backends.firecrest import FirecrestBackend
from crestline.client.backends.firecrest.calls import PRIVATE_NAMES
from crestline.client.backends.firecrest.errors import error_from_response
from crestline.client.backends.firecrest.job_rows import read_jobs
from crestline.client.backends.firecrest.status_calls import pick_system
from crestline.client.backends.messages import JobFilter, NotSentError
from crestline.client.connection import Connection
from crestline.model import (
    AuthenticationError,
    ConfigError,
    ConflictError,
    CrestlineError,
    FileMissingError,
    GatewayUnavailableError,
    InvalidRequestError,
    JobNotFoundError,
    JobSpec,
    JobState,
    NotFoundError,
    PermissionDeniedError,
    RateLimitedError,
    SystemNotFoundError,
    TooLargeError,
    TransferError,
    UnsupportedError,
)
from crestline.testing.firecrest import PlainFirecrest, Rule, running
from crestline.testing.firecrest.status import recorded
from harness.cutting import relay_to
from harness.sites import BRISK

pytestmark = pytest.mark.anyio

SLEEP = "#!/bin/bash\nsleep 60\n"


@pytest.fixture
def plain() -> Iterator[PlainFirecrest]:
    with running(kill_wait=0.2, command_timeout=2.0) as plain:
        yield plain


def backend_of(plain: PlainFirecrest, authorizer: Any = None, url: str | None = None, **more: Any) -> FirecrestBackend:
    authorizer = authorizer or ClientCredentials(plain.token_url, plain.client_id, plain.client_secret)
    return FirecrestBackend(url or plain.url, more.pop("system", plain.system), authorizer, policy=BRISK, **more)


@pytest.fixture
async def backend(plain: PlainFirecrest) -> AsyncIterator[FirecrestBackend]:
    backend = backend_of(plain)
    await backend.open()
    plain.requests.clear()
    yield backend
    await backend.close()


@pytest.fixture
async def connection(backend: FirecrestBackend, plain: PlainFirecrest) -> AsyncIterator[Connection]:
    connection = Connection(backend, BRISK)
    await connection.open()
    plain.requests.clear()
    yield connection
    await connection.monitor.close()


async def started(backend: FirecrestBackend, plain: PlainFirecrest, script: str = SLEEP) -> str:
    return await backend.jobs.submit(JobSpec(script=script, workdir=str(plain.home)), "key")


# pyfirecrest


def test_the_private_names_that_are_used_still_exist() -> None:
    assert importlib.metadata.version("pyfirecrest").startswith("3.10.")
    client = firecrest.v2.AsyncFirecrest("http://127.0.0.1:1", StaticToken("t"))
    for name in PRIVATE_NAMES:
        assert hasattr(client, name)
    assert isinstance(client._session, httpx.AsyncClient)


def test_pyfirecrest_has_timeouts_and_no_retries_of_its_own(plain: PlainFirecrest) -> None:
    client = backend_of(plain)._api
    assert client.num_retries_rate_limit == 0
    assert client.timeout.read
    assert client.timeout.connect


# opening


async def test_what_a_plain_gateway_is(backend: FirecrestBackend, plain: PlainFirecrest) -> None:
    assert backend.capabilities == frozenset()
    assert backend.max_direct_upload == 5 * 1024 * 1024
    content = b"x" * backend.max_direct_download
    (plain.home / "limit").write_bytes(content)
    assert await backend.files.download_small(f"{plain.home}/limit") == content
    (plain.home / "limit").write_bytes(content + b"x")
    plain.faults.download_too_large = 413
    with pytest.raises(TooLargeError):
        await backend.files.download_small(f"{plain.home}/limit")
    assert await backend.system.default_workdir() == str(plain.home)
    assert (await backend.system.describe())["name"] == plain.system


@pytest.mark.parametrize(("asked", "fine"), [("LAB", True), (None, True), ("daint", False)])
async def test_system_names(plain: PlainFirecrest, asked: str | None, fine: bool) -> None:
    backend = backend_of(plain, system=asked)
    if fine:
        await backend.open()
        assert backend.system_name == "lab"
    else:
        with pytest.raises(SystemNotFoundError, match="daint") as caught:
            await backend.open()
        assert "lab" in caught.value.hint
    await backend.close()


async def test_additions_are_refused_on_a_plain_gateway(backend: FirecrestBackend, plain: PlainFirecrest) -> None:
    plain.requests.clear()
    with pytest.raises(UnsupportedError):
        await backend.files.changed("/x", {})
    with pytest.raises(UnsupportedError):
        await anext(backend.files.read("/x"))
    assert plain.requests == []


# repeats


async def test_text_that_no_request_carries_is_named(backend: FirecrestBackend, plain: PlainFirecrest) -> None:
    for call in (
        lambda: backend.jobs.submit(JobSpec(script="#!/bin/sh\n# caf\udce9\n", workdir="/"), "key"),
        lambda: backend.jobs.list(JobFilter(name="caf\udce9")),
        lambda: backend.files.list("/caf\udce9"),
        lambda: backend.files.stat("/caf\udce9"),
        lambda: backend.files.mkdir("/caf\udce9"),
    ):
        with pytest.raises(InvalidRequestError, match=r"caf\\udce9.* is not UTF-8"):
            await call()
    assert not plain.requests


@pytest.mark.parametrize("status", [408, 424, 429, 500, 502, 503, 504])
async def test_safe_requests_are_repeated(backend: FirecrestBackend, plain: PlainFirecrest, status: int) -> None:
    plain.faults.fail(status, path="/stat", count=2)
    assert (await backend.files.stat(str(plain.home)))["size"] > 0
    assert plain.count("GET", "/stat") == 3


async def test_a_final_500_is_not_repeated_for_long(backend: FirecrestBackend, plain: PlainFirecrest) -> None:
    plain.faults.fail(500, path="/stat", count=None)
    with pytest.raises(GatewayUnavailableError):
        await backend.files.stat(str(plain.home))
    assert plain.count("GET", "/stat") == 3


async def test_dropped_connections_are_repeated(backend: FirecrestBackend, plain: PlainFirecrest) -> None:
    plain.faults.drop(path="/stat", count=3)
    assert (await backend.files.stat(str(plain.home)))["size"] > 0


async def test_an_answer_that_breaks_off_is_repeated(plain: PlainFirecrest) -> None:
    (plain.home / "big").write_bytes(b"x" * 1_000_000)
    with relay_to(plain.url) as relay:
        backend = backend_of(plain, url=relay.url)
        await backend.open()
        relay.cuts_down.append(200_000)
        assert len(await backend.files.download_small(f"{plain.home}/big")) == 1_000_000
        assert plain.count("GET", "/download") == 2
        await backend.close()


async def test_retry_after_is_honoured(backend: FirecrestBackend, plain: PlainFirecrest) -> None:
    plain.faults.throttle(retry_after=1, path="/stat", count=1)
    began = asyncio.get_running_loop().time()
    await backend.files.stat(str(plain.home))
    assert asyncio.get_running_loop().time() - began >= 0.9


async def test_endless_refusal_ends(backend: FirecrestBackend, plain: PlainFirecrest) -> None:
    plain.faults.throttle(retry_after=0, path="/stat", count=None)
    with pytest.raises(RateLimitedError):
        await backend.files.stat(str(plain.home))


async def test_a_budget_in_seconds(plain: PlainFirecrest) -> None:
    impatient = msgspec.structs.replace(BRISK, retry=msgspec.structs.replace(BRISK.retry, total_timeout=0.3))
    backend = FirecrestBackend(plain.url, plain.system, StaticToken(plain.token()), policy=impatient)
    await backend.open()
    plain.faults.delay(3, path="/stat", count=None)
    with pytest.raises(GatewayUnavailableError, match="did not answer within"):
        await backend.files.stat(str(plain.home))
    await backend.close()


@pytest.mark.parametrize("status", [408, 424, 500, 502, 503, 504])
async def test_a_submission_is_never_repeated(backend: FirecrestBackend, plain: PlainFirecrest, status: int) -> None:
    plain.faults.fail(status, path="/jobs$", method="POST", when="after", count=None)
    with pytest.raises(GatewayUnavailableError) as caught:
        await started(backend, plain)
    assert not isinstance(caught.value, NotSentError)
    assert len(plain.jobs()) == 1
    plain.faults.reset()
    plain.faults.drop(path="/jobs$", method="POST", when="after", count=None)
    with pytest.raises(GatewayUnavailableError):
        await started(backend, plain)
    assert len(plain.jobs()) == 2


async def test_a_gateway_that_is_not_there(plain: PlainFirecrest) -> None:
    backend = backend_of(plain)
    await backend.open()
    plain.down()
    with pytest.raises(NotSentError) as caught:
        await started(backend, plain)
    assert plain.url in str(caught.value)
    plain.up()
    await started(backend, plain)
    await backend.close()


async def test_garbage(backend: FirecrestBackend, plain: PlainFirecrest) -> None:
    for call in (
        lambda: backend.files.stat("/x"),
        lambda: backend.files.list("/x"),
        lambda: backend.files.checksum("/x"),
        lambda: backend.jobs.get("1"),
        lambda: backend.jobs.list(JobFilter()),
        lambda: backend.jobs.metadata("1"),
        lambda: backend.system.describe(),
        lambda: backend.system.default_workdir(),
    ):
        for body in ("<html>Bad gateway</html>", "{}", "[]", "null", '{"output": {"wrong": 1}, "jobs": 3}'):
            plain.faults.reset()
            plain.faults.garble(body=body, count=None)
            with pytest.raises(GatewayUnavailableError):
                await call()


# credentials


async def test_one_refresh_on_401(backend: FirecrestBackend, plain: PlainFirecrest) -> None:
    plain.faults.fail(401, path="/stat", count=1)
    assert (await backend.files.stat(str(plain.home)))["size"] > 0
    assert plain.count("POST", "/token") == 1
    assert plain.count("GET", "/stat") == 2


async def test_another_refresh_for_each_new_token(backend: FirecrestBackend, plain: PlainFirecrest) -> None:
    plain.faults.fail(401, path="/stat", count=3)
    assert (await backend.files.stat(str(plain.home)))["size"] > 0
    assert plain.count("POST", "/token") == 3
    assert plain.count("GET", "/stat") == 4


async def test_refreshes_on_401_are_bounded(backend: FirecrestBackend, plain: PlainFirecrest) -> None:
    plain.faults.reject_tokens = True
    with pytest.raises(AuthenticationError) as caught:
        await backend.files.stat(str(plain.home))
    assert plain.count("POST", "/token") == 3
    assert plain.count("GET", "/stat") == 4
    assert "eyJ" not in str(caught.value)


async def test_a_renewal_that_brings_the_same_token_is_the_last(plain: PlainFirecrest) -> None:
    token = plain.token(lifetime=600)
    backend = backend_of(plain, TokenCommand([sys.executable, "-c", f"print({token!r})"]))
    await backend.open()
    before = plain.count("GET", "/stat")
    plain.faults.reject_tokens = True
    with pytest.raises(AuthenticationError):
        await backend.files.stat(str(plain.home))
    assert plain.count("GET", "/stat") - before == 2
    await backend.close()


async def test_a_submission_with_a_refused_token_goes_out_again(
    backend: FirecrestBackend, plain: PlainFirecrest
) -> None:
    plain.faults.fail(401, path="/jobs$", method="POST", count=1)
    await started(backend, plain)
    assert len(plain.jobs()) == 1


async def test_50_refused_requests_make_one_refresh(backend: FirecrestBackend, plain: PlainFirecrest) -> None:
    plain.faults.fail(401, path="/stat", count=20)
    await asyncio.gather(*(backend.files.stat(str(plain.home)) for _ in range(20)))
    assert plain.count("POST", "/token") == 1


@pytest.mark.parametrize("authorizer", [StaticToken("forged"), ApiKey("k")])
async def test_what_cannot_be_renewed_is_not_tried_twice(plain: PlainFirecrest, authorizer: Any) -> None:
    backend = backend_of(plain, authorizer)
    with pytest.raises(AuthenticationError):
        await backend.open()
    assert plain.count("GET", "/systems") == 1
    await backend.close()


async def test_tokens_that_expire_while_we_work(plain: PlainFirecrest) -> None:
    plain.settings.token_lifetime = 31  # the gateway takes it for one second
    backend = backend_of(plain, ClientCredentials(plain.token_url, *plain.second_client))
    await backend.open()
    for _ in range(8):
        await backend.files.stat(str(plain.settings.home_of(plain.second_user.name)))
        await asyncio.sleep(0.3)
    await backend.close()
    assert plain.count("POST", "/token") >= 2


async def test_no_secret_in_the_logs(plain: PlainFirecrest, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    backend = backend_of(plain)
    connection = Connection(backend, BRISK)
    await connection.open()
    plain.faults.fail(401, path="/stat", count=1)
    await backend.files.stat(str(plain.home))
    (plain.home / "f").write_bytes(b"1")
    await connection.files.finish(await backend.transfers.download(f"{plain.home}/f"))
    plain.faults.reject_tokens = True
    with pytest.raises(AuthenticationError):
        await backend.files.list(str(plain.home))
    await connection.close()
    assert caplog.records
    assert "eyJ" not in caplog.text
    assert "Bearer" not in caplog.text
    assert plain.client_secret not in caplog.text
    assert "ignature" not in caplog.text


# errors


def answer(status: int, body: Any, **headers: str) -> httpx.Response:
    content = body if isinstance(body, str) else json.dumps(body)
    return httpx.Response(status, text=content, headers=headers, request=httpx.Request("GET", "http://h/x"))


EXPECTED = {
    "no token": AuthenticationError,
    "expired": AuthenticationError,
    "ttl 20s (<30)": AuthenticationError,
    "unknown kid": AuthenticationError,
    "user w/o ssh key": PermissionDeniedError,
    "wrong system": SystemNotFoundError,
    "wrong path": NotFoundError,
    "unknown job": JobNotFoundError,
    "bad job id": InvalidRequestError,
    "nonnumeric id": JobNotFoundError,
    "cancel unknown": JobNotFoundError,
    "metadata unknown": JobNotFoundError,
    "ls missing": FileMissingError,
    "ls forbidden": InvalidRequestError,
    "ls perm": PermissionDeniedError,
    "submit missing": InvalidRequestError,
    "big ops upload": TooLargeError,
    "bad partition": InvalidRequestError,
    "no shebang": InvalidRequestError,
}


@pytest.mark.parametrize(
    "case", [case for case in recorded("errors") if case["case"] in EXPECTED], ids=lambda c: c["case"]
)
def test_recorded_errors(case: dict[str, Any]) -> None:
    error = error_from_response(answer(case["status"], case["body"]))
    assert type(error) is EXPECTED[case["case"]]
    assert error.status == case["status"]
    assert "/src/" not in str(error)


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (
            500,
            "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
            GatewayUnavailableError,
        ),
        (
            500,
            "sbatch: error: Batch job submission failed: Unable to contact slurm controller",
            GatewayUnavailableError,
        ),
        (
            500,
            "sbatch: error: Batch job submission failed: Zero Bytes were transmitted or received",
            GatewayUnavailableError,
        ),
        (500, "sbatch: error: Batch job submission failed: Invalid account", InvalidRequestError),
        (500, "qsub: Unknown queue", InvalidRequestError),
        (500, "qsub: cannot connect to server", GatewayUnavailableError),
        (500, "('Channel not open for sending',)", GatewayUnavailableError),
        (401, "Unable to verify system access authorization", PermissionDeniedError),
        (400, "mkdir: cannot create directory '/x': File exists", ConflictError),
        (302, "", GatewayUnavailableError),
        (418, "teapot", InvalidRequestError),
    ],
)
def test_errors_by_text(status: int, message: str, kind: type[CrestlineError]) -> None:
    assert type(error_from_response(answer(status, {"errorType": "error", "message": message}))) is kind


@pytest.mark.parametrize(
    ("status", "words", "kind", "said"),
    [
        (404, "stat: cannot statx '/h/a b': No such file or directory", FileMissingError, "/h/a b does not exist"),
        (404, "bash: line 1: /h/d/x: No such file or directory", FileMissingError, "The directory that /h/d/x"),
        (403, "bash: line 1: /h/x: Permission denied", PermissionDeniedError, "denies access to /h/x. "),
        (500, "dd: error reading '/h/d': Is a directory\n0+0 records in\n0+0 records out",
         InvalidRequestError, "/h/d is a directory."),
        (500, "base64: read error: Is a directory", InvalidRequestError, "This is a directory."),
        (500, "bash: line 1: /h/a.txt/x: Not a directory", InvalidRequestError, "A part of /h/a.txt/x"),
        (500, "chmod: changing permissions of '/h/x': Operation not permitted", PermissionDeniedError, "of /h/x. "),
        (500, "bash: line 1: /h/x: Disk quota exceeded", InvalidRequestError, "quota of the file system of /h/x"),
        (400, "mkdir: cannot create directory '/h/d': File exists", ConflictError, "/h/d exists already. "),
        (500, "tar: loop: Cannot stat: Too many levels of symbolic links", GatewayUnavailableError, "tar: loop"),
    ],
)  # fmt: skip
def test_failures_of_commands_are_sentences(status: int, words: str, kind: type[CrestlineError], said: str) -> None:
    """What FirecREST and the programs that it runs write around the reason is in `details`."""
    whole = f"Remote process failed with exit status:1 and error message:{words}"
    error = error_from_response(answer(status, {"errorType": "error", "message": whole}))
    assert type(error) is kind
    assert said in str(error)
    assert "Remote process" not in str(error)
    assert error.details == (" ".join(whole.split()),)


def test_error_texts_hold_no_secrets_and_have_an_end() -> None:
    token = "eyJhbGciOi.eyJleHAiOjE.c2lnbmF0dXJl"
    text = f"got {token} from http://s3/bucket?X-Amz-Signature=abc {'x' * 5000}"
    error = error_from_response(answer(500, {"message": text, "causedBy": [token]}))
    assert token not in str(error) + str(error.details)
    assert "abc" not in str(error)
    assert len(str(error)) < 1000
    assert error_from_response(answer(429, "", **{"Retry-After": "7"})).retry_after == 7.0
    assert error_from_response(answer(503, "", **{"Retry-After": "nonsense"})).retry_after is None


# jobs


async def test_job_from_submission_to_end(
    connection: Connection, backend: FirecrestBackend, plain: PlainFirecrest
) -> None:
    spec = JobSpec(script="#!/bin/bash\nread x; echo got $x; exit 7\n", workdir=str(plain.home), name="n", stdin="in")
    (plain.home / "in").write_text("word\n")
    job_id = await backend.jobs.submit(
        JobSpec(script=spec.script, workdir=spec.workdir, name="n", stdin="in", stdout="out", time_limit=90, nodes=1),
        "k",
    )
    await connection.monitor.wait(job_id)
    (job,) = await backend.jobs.get(job_id)
    assert (job.state, job.exit_code, job.name, job.user) == (JobState.FAILED, 7, "n", plain.client_id)
    assert job.workdir == str(plain.home)
    assert job.times.limit == 90
    assert (plain.home / "out").read_text() == "got word\n"
    (metadata,) = await backend.jobs.metadata(job_id)
    assert metadata.stdout == f"{plain.home}/out"
    assert metadata.script is not None
    assert "#SBATCH --time=00:01:30" in metadata.script


async def test_cancel_is_idempotent(backend: FirecrestBackend, plain: PlainFirecrest) -> None:
    job_id = await started(backend, plain)
    await backend.jobs.cancel(job_id)
    await backend.jobs.cancel(job_id)
    assert [seen.method for seen in plain.requests if job_id in seen.path] == ["DELETE", "DELETE"]
    assert (await backend.jobs.get(job_id))[0].state is JobState.CANCELLED
    assert (await backend.jobs.get(job_id))[0].raw_state == f"CANCELLED by {plain.user.uid}"
    with pytest.raises(JobNotFoundError):
        await backend.jobs.cancel("4711")
    with pytest.raises(InvalidRequestError):
        await backend.jobs.cancel("1;id")


async def test_cancel_in_a_bad_moment(backend: FirecrestBackend, plain: PlainFirecrest) -> None:
    job_id = await started(backend, plain)
    plain.faults.fail(500, path="/jobs/", method="DELETE", count=1)
    await backend.jobs.cancel(job_id)
    assert plain.jobs(job_id)[0].is_over


async def test_anothers_job(backend: FirecrestBackend, plain: PlainFirecrest) -> None:
    other = backend_of(plain, ClientCredentials(plain.token_url, *plain.second_client))
    await other.open()
    job_id = await started(backend, plain)
    with pytest.raises(PermissionDeniedError):
        await other.jobs.cancel(job_id)
    await other.close()


async def test_array_ids(connection: Connection, backend: FirecrestBackend, plain: PlainFirecrest) -> None:
    spec = JobSpec(script="#!/bin/bash\nexit $SLURM_ARRAY_TASK_ID\n", workdir=str(plain.home), array="0-2")
    job_id = await backend.jobs.submit(spec, "k")
    whole = await connection.monitor.wait(job_id)
    assert (whole.job_id, whole.state) == (job_id, JobState.FAILED)
    assert len(await backend.jobs.get(job_id)) == 3
    (element,) = await backend.jobs.get(f"{job_id}_2")
    assert (element.job_id, element.exit_code) == (f"{job_id}_2", 2)
    assert (await connection.monitor.wait(f"{job_id}_0")).state is JobState.COMPLETED
    with pytest.raises(JobNotFoundError):
        await backend.jobs.get(f"{job_id}_9")
    with pytest.raises(UnsupportedError):
        await backend.jobs.cancel(f"{job_id}_1")


async def test_list_filters(backend: FirecrestBackend, plain: PlainFirecrest) -> None:
    for name in ("a", "b", "b"):
        await backend.jobs.submit(JobSpec(script=SLEEP, workdir=str(plain.home), name=name), "k")
    assert len(await backend.jobs.list(JobFilter())) == 3
    assert len(await backend.jobs.list(JobFilter(name="b"))) == 2
    assert [job.job_id for job in await backend.jobs.list(JobFilter(ids=("2",)))] == ["2"]
    assert await backend.jobs.list(JobFilter(ids=())) == []
    with running(version="2.5.6") as old:
        elder = backend_of(old)
        await elder.open()
        await elder.jobs.submit(JobSpec(script=SLEEP, workdir=str(old.home), name="a"), "k")
        assert await elder.jobs.list(JobFilter(name="b", window=3600)) == []
        await elder.close()


async def test_a_spoilt_row_does_not_spoil_the_list() -> None:
    good = recorded("job_done")["jobs"][0]
    rows = [
        good,
        good | {"jobId": 7, "status": {"state": ["RUNNING", "COMPLETING"]}, "time": None, "nodes": "None assigned"},
        {"jobId": "8"},
        {"name": "no id"},
        good | {"jobId": "9", "name": "allocation", "workingDirectory": ""},
        "nonsense",
        good | {"jobId": "10", "surprise": [1], "exitCode": "7"},
    ]
    jobs = await read_jobs(json.dumps({"jobs": rows}).encode(), "lab")
    assert [job.job_id for job in jobs] == ["2246", "7", "8", "9", "10"]
    assert jobs[0].state is JobState.COMPLETED
    assert (jobs[1].state, jobs[1].raw_state, jobs[1].nodes) == (JobState.COMPLETING, "RUNNING+COMPLETING", "")
    assert jobs[2].state is JobState.UNKNOWN
    assert jobs[3].name == ""
    assert await read_jobs(b'{"jobs": null}', "lab") == []


async def test_a_long_list_leaves_the_loop_its_breath() -> None:
    row = recorded("job_done")["jobs"][0]
    body = json.dumps({"jobs": [row | {"jobId": str(number)} for number in range(10_000)]}).encode()
    breaths = 0

    async def breathe() -> None:
        nonlocal breaths
        while True:
            breaths += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(breathe())
    assert len(await read_jobs(body, "lab")) == 10_000
    task.cancel()
    assert breaths >= 39


# files


@pytest.mark.parametrize("path", ["/home/it's", "/home/a\nb", "relative"])
async def test_paths_that_would_break_out_of_the_shell(
    backend: FirecrestBackend, plain: PlainFirecrest, path: str
) -> None:
    for call in (
        backend.files.stat,
        backend.files.list,
        backend.files.checksum,
        backend.files.remove,
        backend.files.download_small,
        backend.files.mkdir,
    ):
        with pytest.raises(InvalidRequestError):
            await call(path)
    with pytest.raises(InvalidRequestError):
        await backend.files.symlink(path, "/home/link") if path.startswith("/") else await backend.files.symlink(
            "/home", path
        )
    with pytest.raises(InvalidRequestError):
        await backend.transfers.download(path)
    with pytest.raises(InvalidRequestError):
        await backend.transfers.upload("/home/a&b", 1)
    with pytest.raises(InvalidRequestError):
        await backend.files.chmod("/home/a", "7'55")
    assert plain.requests == []


async def test_file_operations(connection: Connection, backend: FirecrestBackend, plain: PlainFirecrest) -> None:
    home = str(plain.home)
    await backend.files.mkdir(f"{home}/d/e", parents=True)
    await backend.files.upload_small(f"{home}/d", "f", b"\x00content\xff")
    assert await backend.files.download_small(f"{home}/d/f") == b"\x00content\xff"
    changed = await backend.files.chmod(f"{home}/d/f", "600")
    assert changed is not None
    assert changed.permissions == "rw-------"
    await backend.files.symlink(f"{home}/d/f", f"{home}/d/link")
    entries = {entry.name: entry for entry in await backend.files.list(f"{home}/d")}
    assert entries["link"].link_target == f"{home}/d/f"
    assert entries["f"].permissions == "rw-------"
    assert entries["e"].is_directory
    await connection.files.finish(await backend.files.copy(f"{home}/d/f", f"{home}/g"))
    await connection.files.finish(await backend.files.move(f"{home}/g", f"{home}/h"))
    assert (plain.home / "h").read_bytes() == b"\x00content\xff"
    await connection.files.finish(await backend.files.compress(f"{home}/d", f"{home}/d.tgz"))
    await backend.files.mkdir(f"{home}/out")
    await connection.files.finish(await backend.files.extract(f"{home}/d.tgz", f"{home}/out"))
    assert (plain.home / "out/d/f").exists()
    await connection.files.finish(await backend.files.remove(f"{home}/d"))
    assert not (plain.home / "d").exists()
    (plain.home / "log").write_text("1\n2\n3\n")
    assert await backend.files.tail_lines(f"{home}/log", 2) == "2\n3\n"
    assert await backend.files.view(f"{home}/log", 2, 2) == "2\n"
    with pytest.raises(ConflictError):
        await backend.files.mkdir(f"{home}/out")


@pytest.mark.parametrize(("verb", "method"), [("rm", "DELETE"), ("mkdir", "POST"), ("symlink", "POST")])
async def test_changes_whose_answer_is_lost(
    backend: FirecrestBackend, plain: PlainFirecrest, verb: str, method: str
) -> None:
    home = str(plain.home)
    plain.faults.drop(path=f"/{verb}", method=method, when="after", count=1)
    (plain.home / "f").touch()
    if verb == "rm":
        await backend.files.remove(f"{home}/f")
        assert not (plain.home / "f").exists()
    elif verb == "mkdir":
        await backend.files.mkdir(f"{home}/d")
        assert (plain.home / "d").is_dir()
    else:
        await backend.files.symlink(f"{home}/f", f"{home}/l")
        assert (plain.home / "l").is_symlink()


@pytest.mark.parametrize("verb", ["rm", "compress", "extract"])
async def test_what_takes_too_long_becomes_a_job(
    connection: Connection, backend: FirecrestBackend, plain: PlainFirecrest, verb: str
) -> None:
    home = str(plain.home)
    (plain.home / "d").mkdir()
    (plain.home / "d/f").touch()
    await connection.files.finish(await backend.files.compress(f"{home}/d", f"{home}/a.tgz"))
    (plain.home / "out").mkdir()
    plain.faults.fail(408, path=f"/ops/{verb}", count=1)
    if verb == "rm":
        await connection.files.finish(await backend.files.remove(f"{home}/d"))
        assert not (plain.home / "d").exists()
    elif verb == "compress":
        await connection.files.finish(await backend.files.compress(f"{home}/d", f"{home}/b.tgz"))
        assert (plain.home / "b.tgz").exists()
    else:
        await connection.files.finish(await backend.files.extract(f"{home}/a.tgz", f"{home}/out"))
        assert (plain.home / "out/d/f").exists()
    assert len(plain.jobs()) == 1


async def test_the_account_of_the_site_is_charged(plain: PlainFirecrest) -> None:
    backend = backend_of(plain, account="proj7")
    connection = Connection(backend, BRISK)
    await connection.open()
    home = str(plain.home)
    (plain.home / "f").touch()
    await started(backend, plain)
    await backend.jobs.submit(JobSpec(script=SLEEP, workdir=home, account="proj8"), "k")
    await connection.files.finish(await backend.files.copy(f"{home}/f", f"{home}/g"))
    await connection.files.finish(await backend.files.move(f"{home}/g", f"{home}/h"))
    await connection.files.finish(await backend.transfers.download(f"{home}/f"))
    plain.faults.fail(408, path="/ops/rm", count=1)
    await connection.files.finish(await backend.files.remove(f"{home}/f"))
    assert [job.account for job in plain.jobs()] == ["proj7", "proj8", "proj7", "proj7", "proj7", "proj7"]
    await connection.close()


async def test_a_failed_transfer_job_is_an_error(
    connection: Connection, backend: FirecrestBackend, plain: PlainFirecrest
) -> None:
    with pytest.raises(TransferError, match=f"failed: cp: .*'{plain.home}/none': No such file or directory"):
        await connection.files.finish(await backend.files.copy(f"{plain.home}/none", f"{plain.home}/x"))
    plain.faults.failed_transfer_completes = False
    with pytest.raises(TransferError):
        await connection.files.finish(await backend.files.move(f"{plain.home}/none", f"{plain.home}/x"))


def test_a_system_must_be_named_where_there_are_several(plain: PlainFirecrest) -> None:
    backend = backend_of(plain, system=None)
    with pytest.raises(ConfigError, match="Name one"):
        pick_system(backend, [{"name": "a"}, {"name": "b"}])


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"status": 502, "body": "<html>Bad Gateway</html>"}, r"A proxy answered 502 .*, after \d+ tries in 3 s\."),
        ({"status": 503}, r"answered 503: The scheduler .* unhealthy, after \d+ tries in 3 s\."),
        ({"drop": True}, r"does not answer \(\w+\), after \d+ tries in 3 s\."),
        ({"delay": 9.0}, r"did not answer within 3 s\."),
    ],
)
async def test_a_call_that_runs_out_of_time_tells_the_last_answer(
    plain: PlainFirecrest, fault: dict[str, Any], said: str
) -> None:
    retry = RetryPolicy(attempts=50, initial_backoff=0.3, max_backoff=0.3, total_timeout=3.0)
    authorizer = ClientCredentials(plain.token_url, plain.client_id, plain.client_secret)
    backend = FirecrestBackend(plain.url, plain.system, authorizer, policy=Policy(retry=retry))
    await backend.open()
    plain.faults.add(Rule(path="/jobs$", count=None, **fault))
    with pytest.raises(GatewayUnavailableError, match=said):
        await backend.jobs.list(JobFilter())
    await backend.close()


async def test_a_list_that_a_name_has_broken_tells_the_cause(backend: FirecrestBackend, plain: PlainFirecrest) -> None:
    await backend.jobs.submit(JobSpec(script=SLEEP, name="a|b", workdir=str(plain.home)), "key")
    with pytest.raises(GatewayUnavailableError) as caught:
        await backend.jobs.list(JobFilter(), retry=False)
    assert "'|' or a line break" in caught.value.hint
