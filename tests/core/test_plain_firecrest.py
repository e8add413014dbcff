"""The stand-in of a plain FirecREST, seen through an unmodified pyfirecrest: it works, and it fails as told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import firecrest
import httpx
import jwt
import pytest
from firecrest.FirecrestException import TransferJobFailedException, UnexpectedStatusException
from firecrest.v2 import Firecrest

from crestline.testing.firecrest import PlainFirecrest, running
from crestline.testing.firecrest.status import recorded
from harness.waiting import until_blocking

QUICK = "#!/bin/bash\necho hello\n"
SLEEP = "#!/bin/bash\nsleep 60\n"


@pytest.fixture(scope="module")
def server() -> Iterator[PlainFirecrest]:
    with running(max_part_size=2 * 1024 * 1024, kill_wait=0.5, command_timeout=2.0) as plain:
        yield plain


@pytest.fixture
def plain(server: PlainFirecrest) -> Iterator[PlainFirecrest]:
    server.faults.reset()
    server.requests.clear()
    yield server
    server.faults.reset()
    for job in server.jobs():
        if not job.is_over:
            server.scheduler.end(str(job.number), "CANCELLED by 0")


@pytest.fixture
def client(plain: PlainFirecrest) -> Firecrest:
    return login(plain)


@pytest.fixture
def place(plain: PlainFirecrest) -> Path:
    found = plain.home / f"at-{time.monotonic_ns()}"
    found.mkdir()
    return found


def login(plain: PlainFirecrest, client: tuple[str, str] | None = None) -> Firecrest:
    name, secret = client or (plain.client_id, plain.client_secret)
    found = Firecrest(plain.url, firecrest.ClientCredentialsAuth(name, secret, plain.token_url))
    found.timeout = 30
    found.num_retries_rate_limit = 0
    return found


def ask(plain: PlainFirecrest, method: str, path: str, token: str | None = None, **options: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token or plain.token()}"}
    return httpx.request(method, plain.url + path, headers=headers, timeout=30, **options)


def submit(plain: PlainFirecrest, script: str = QUICK, **description: Any) -> str:
    job = {"workingDirectory": str(plain.home), "script": script} | description
    answer = ask(plain, "POST", "/compute/lab/jobs", json={"job": job})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["jobId"])


def look(plain: PlainFirecrest, job_id: str) -> dict[str, Any]:
    answer = ask(plain, "GET", f"/compute/lab/jobs/{job_id}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["jobs"][0]
    return found


def over(plain: PlainFirecrest, job_id: str) -> str:
    until_blocking(lambda: all(job.is_over and job.process is None for job in plain.jobs(job_id)))
    return plain.jobs(job_id)[0].state


def started(plain: PlainFirecrest, job_id: str) -> None:
    until_blocking(lambda: plain.jobs(job_id)[0].started)


def refused(call: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[int, str]:
    with pytest.raises(UnexpectedStatusException) as caught:
        call(*arguments, **options)
    answer = caught.value.responses[-1]
    return answer.status_code, answer.json().get("message", "")


# it works


def test_a_job_from_submission_to_its_output(client: Firecrest, place: Path) -> None:
    script = '#!/bin/bash\n#SBATCH --job-name=first\nsleep 0.2\necho "$GREETING from $SLURM_JOB_ID"\n'
    job_id = client.submit("lab", str(place), script_str=script, env_vars={"GREETING": "hello"})["jobId"]
    [job] = client.wait_for_job("lab", job_id)
    assert (job["name"], job["status"]["state"], job["status"]["exitCode"]) == ("first", "COMPLETED", 0)
    assert job["workingDirectory"] == str(place)
    [metadata] = client.job_metadata("lab", job_id)
    assert metadata["script"] == script
    assert metadata["standardOutput"] == metadata["standardError"] == f"{place}/slurm-{job_id}.out"
    assert client.tail("lab", metadata["standardOutput"], num_lines=2) == {
        "content": f"hello from {job_id}\n",
        "contentType": "lines",
        "startPosition": -2,
        "endPosition": -1,
    }


def test_jobs_have_the_recorded_shape(plain: PlainFirecrest) -> None:
    def keys(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: keys(inner) for name, inner in value.items()}
        return [keys(inner) for inner in value] if isinstance(value, list) else None

    job_id = submit(plain, "#!/bin/bash\nsleep 1\n", name="sample")
    started(plain, job_id)
    assert keys({"jobs": [look(plain, job_id)]}) == keys(recorded("job_running"))
    over(plain, job_id)
    assert keys({"jobs": [look(plain, job_id)]}) == keys(recorded("job_done"))
    held = submit(plain, "#!/bin/bash\n#SBATCH --hold\n")
    assert keys({"jobs": [look(plain, held)]}) == keys(recorded("job_pending"))
    metadata = ask(plain, "GET", f"/compute/lab/jobs/{job_id}/metadata").json()
    assert keys(metadata) == keys(recorded("job_metadata"))


def test_files_and_directories(client: Firecrest, place: Path) -> None:
    sub = f"{place}/a/b"
    assert client.mkdir("lab", sub, create_parents=True)["type"] == "d"
    (place / "a" / "one ünï.txt").write_text("".join(f"line {n}\n" for n in range(20)))
    path = f"{place}/a/one ünï.txt"
    assert client.head("lab", path, num_lines=1)["content"] == "line 0\n"
    assert client.head("lab", path)["endPosition"] == 10
    assert client.tail("lab", path, num_lines=20, exclude_beginning=True)["content"] == "line 19\n"
    assert client.view("lab", path).endswith("line 19\n")
    assert client.stat("lab", path)["size"] == os.path.getsize(path)
    assert client.file_type("lab", path)
    assert client.chmod("lab", path, "640")["permissions"] == "rw-r-----"
    assert client.chown("lab", path, "fireuser", "")["user"] == "fireuser"
    assert client.symlink("lab", f"{place}/a", f"{place}/link")["output"]["linkTarget"] == f"{place}/a"
    names = {file["name"] for file in client.list_files("lab", str(place), recursive=True)}
    assert names == {"a", "link", "a/b", r"a/one \303\274n\303\257.txt"}
    file = next(file for file in client.list_files("lab", f"{place}/a") if file["type"] == "-")
    assert file.keys() == recorded("ls")["output"][0].keys()
    (place / "plain.txt").write_text("x")
    assert len(client.checksum("lab", f"{place}/plain.txt")["checksum"]) == 64
    client.compress("lab", f"{place}/a", f"{place}/a.tar.gz")
    client.mkdir("lab", f"{place}/again")
    client.extract("lab", f"{place}/a.tar.gz", f"{place}/again")
    assert (place / "again/a/one ünï.txt").read_bytes() == Path(path).read_bytes()
    assert client.rm("lab", f"{place}/a") is None
    assert not (place / "a").exists()
    assert refused(client.mkdir, "lab", sub.removesuffix("/a/b") + "/again")[0] == 400
    assert "No such file or directory" in refused(client.stat, "lab", path)[1]


@pytest.mark.parametrize("size", [100, 5_500_000])
def test_upload_and_download(client: Firecrest, place: Path, tmp_path: Path, size: int) -> None:
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(os.urandom(size))
    client.upload("lab", source, str(place), "a & b.bin" if size == 100 else "ab.bin")
    stored = next(place.iterdir())
    assert stored.read_bytes() == source.read_bytes()
    client.download("lab", str(stored), back)
    assert back.read_bytes() == source.read_bytes()


def test_copy_and_move_are_jobs(plain: PlainFirecrest, client: Firecrest, place: Path) -> None:
    (place / "one").write_text("1")
    job = client.cp("lab", f"{place}/one", f"{place}/two")["transferJob"]
    assert job["workingDirectory"] == str(plain.home)
    client.mv("lab", f"{place}/two", f"{place}/three")
    assert sorted(path.name for path in place.iterdir()) == ["one", "three"]
    with pytest.raises(TransferJobFailedException):
        client.cp("lab", f"{place}/nope", f"{place}/four")
    assert client.job_info("lab", str(plain.jobs()[-1].number))[0]["status"]["state"] == "COMPLETED"
    plain.faults.failed_transfer_completes = False
    with pytest.raises(TransferJobFailedException):
        client.cp("lab", f"{place}/nope", f"{place}/four")
    assert client.job_info("lab", str(plain.jobs()[-1].number))[0]["status"]["state"] == "FAILED"


def test_status_and_both_versions(plain: PlainFirecrest, client: Firecrest) -> None:
    assert client.server_version() == "2.6.0"
    [system] = client.systems()
    assert [fs["path"] for fs in system["fileSystems"]] == [str(plain.home.parent), str(plain.scratch)]
    assert len(client.nodes("lab")) == 2
    assert [partition["name"] for partition in client.partitions("lab")] == ["debug", "xfer"]
    assert client.reservations("lab") == []
    assert client.userinfo("lab")["groups"][0]["default"] is True
    assert "group" not in client.userinfo("lab")
    assert httpx.get(f"{plain.url}/status/liveness/").status_code == 200
    assert httpx.get(f"{plain.url}/status/liveness").status_code == 307
    assert ask(plain, "GET", "/STATUS/Lab/Nodes").status_code == 200
    with running(version="2.5.6") as older:
        assert login(older).server_version() == "2.5.6"
        assert ask(older, "GET", "/status/lab/userinfo").json() == recorded("userinfo")
        submit(older, SLEEP, name="this")
        assert len(ask(older, "GET", "/compute/lab/jobs?name=other&time_window=nope").json()["jobs"]) == 1


@pytest.mark.parametrize(
    "case",
    [
        "wrong system",
        "wrong path",
        "unknown job",
        "nonnumeric id",
        "cancel unknown",
        "cancel nonnumeric",
        "metadata unknown",
        "ls no path",
        "bad partition",
        "no shebang",
        "HEAD systems",
        "liveness noslash",
    ],
)
def test_errors_are_those_recorded(plain: PlainFirecrest, case: str) -> None:
    known = next(error for error in recorded("errors") if error["case"] == case)
    method, path = known["request"].split()
    scripts = {"bad partition": ("#!/bin/sh\n", "nosuch"), "no shebang": ("echo\n", None)}
    body = None
    if case in scripts:
        script, partition = scripts[case]
        body = {"job": {"workingDirectory": str(plain.home), "script": script, "partition": partition}}
    answer = ask(plain, method, path, json=body)
    assert answer.status_code == known["status"]
    if isinstance(known["body"], dict):
        assert answer.json() == known["body"]


def test_validation_and_permissions(plain: PlainFirecrest) -> None:
    for path in ("/compute/lab/jobs/12_3", "/compute/lab/jobs?time_window=nope", "/filesystem/lab/ops/ls?path=/etc"):
        assert ask(plain, "GET", path).status_code == 400
    answer = ask(plain, "POST", "/compute/lab/jobs", json={"job": {}})
    assert answer.json()["data"]["fields"] == [{"location": "body", "name": "job", "message": "Field required"}]
    secret = plain.home / "secret"
    secret.mkdir(mode=0o700)
    other = plain.token(plain.second_user)
    query = {"path": str(secret)}
    assert ask(plain, "GET", "/filesystem/lab/ops/ls", other, params=query).status_code == 403
    assert ask(plain, "GET", "/filesystem/lab/ops/ls", params=query).status_code == 200
    assert ask(plain, "GET", "/compute/lab/jobs", plain.token(plain.user_without_key)).status_code == 500
    with pytest.raises(httpx.RemoteProtocolError):
        ask(plain, "POST", "/compute/lab/jobs", content=b"no json")


def test_limits_of_the_file_endpoints(plain: PlainFirecrest, place: Path) -> None:
    (place / "big").write_bytes(b"x" * 6_000_000)
    query = {"path": f"{place}/big"}
    assert ask(plain, "GET", "/filesystem/lab/ops/download", params=query).status_code == 500
    plain.faults.download_too_large = 413
    assert ask(plain, "GET", "/filesystem/lab/ops/download", params=query).status_code == 413
    assert ask(plain, "GET", "/filesystem/lab/ops/view", params=query | {"size": 2_700_000}).status_code == 413
    assert ask(plain, "GET", "/filesystem/lab/ops/view", params=query | {"size": 2_500_000}).status_code == 200
    too_much = {"file": ("f", b"x" * (5 * 1024 * 1024 + 1))}
    answer = ask(plain, "POST", "/filesystem/lab/ops/upload", params={"path": str(place)}, files=too_much)
    assert (answer.status_code, answer.json()["message"]) == (413, "File to upload is too large.")
    (place / "text").write_text("äöü", encoding="utf-8")
    query = {"path": f"{place}/text", "bytes": 3}
    assert ask(plain, "GET", "/filesystem/lab/ops/tail", params=query).json()["output"]["content"] == "\ufffdü"
    query = {"path": f"{place}/text", "offset": 1, "size": 2}
    assert ask(plain, "GET", "/filesystem/lab/ops/view", params=query).json()["output"] == "ö"


def test_arrays_dependencies_and_waiting(plain: PlainFirecrest, place: Path) -> None:
    wait = f"until [ -f {plain.home}/go ]; do sleep 0.05; done"
    script = f"#!/bin/bash\n#SBATCH --array=0-5\n#SBATCH --output=%A.%a\n{wait}; echo $SLURM_ARRAY_TASK_ID\n"
    array_id = submit(plain, script, workingDirectory=str(place))
    good = submit(plain, f"#!/bin/bash\n#SBATCH --dependency=afterok:{array_id}\ntrue\n")
    never = submit(plain, f"#!/bin/bash\n#SBATCH -d afternotok:{array_id}\n")
    expected = {f"{array_id}_0", f"{array_id}_[4-5]"}
    until_blocking(lambda: expected <= {job["jobId"] for job in ask(plain, "GET", "/compute/lab/jobs").json()["jobs"]})
    until_blocking(lambda: look(plain, good)["status"]["stateReason"] == "Dependency")
    (plain.home / "go").touch()
    assert over(plain, array_id) == "COMPLETED"
    assert over(plain, good) == "COMPLETED"
    assert len(ask(plain, "GET", f"/compute/lab/jobs/{array_id}").json()["jobs"]) == 6
    assert sorted(path.read_text().strip() for path in place.iterdir()) == list("012345")
    until_blocking(lambda: look(plain, never)["status"]["stateReason"] == "DependencyNeverSatisfied")


def test_cancel_time_limit_failure_and_requeue(plain: PlainFirecrest, client: Firecrest, place: Path) -> None:
    cancelled = submit(plain, SLEEP)
    started(plain, cancelled)
    client.cancel_job("lab", cancelled)
    assert look(plain, cancelled)["status"]["state"] == "CANCELLED by 1001"
    assert refused(client.cancel_job, "lab", cancelled)[0] == 500
    limited = submit(plain, "#!/bin/bash\n#SBATCH --time=00:00:01\ntrap '' TERM; sleep 60\n")
    failed = submit(plain, "#!/bin/bash\nexit 3\n")
    assert over(plain, failed) == "FAILED"
    assert look(plain, failed)["status"]["exitCode"] == 3
    count_and_wait = (
        '#!/bin/bash\necho ${SLURM_RESTART_COUNT:-0} >> counts\n[ -n "$SLURM_RESTART_COUNT" ] || sleep 60\n'
    )
    (place / "job.sh").write_text(count_and_wait)
    again = client.submit("lab", str(place), script_remote_path=f"{place}/job.sh")["jobId"]
    started(plain, again)
    until_blocking((place / "counts").exists)
    plain.scheduler.requeue(again)
    assert over(plain, again) == "COMPLETED"
    assert (place / "counts").read_text().split() == ["0", "1"]
    assert look(plain, again)["name"] == "job.sh"
    other = plain.token(plain.second_user)
    running_one = submit(plain, SLEEP)
    assert "denied" in ask(plain, "DELETE", f"/compute/lab/jobs/{running_one}", other).json()["message"]
    plain.scheduler.show_as(running_one, "CONFIGURING")
    assert look(plain, running_one)["status"]["state"] == "CONFIGURING"
    plain.scheduler.show_as(running_one, None)
    started(plain, running_one)
    client.attach_to_job("lab", running_one, f"touch {place}/attached")
    assert (place / "attached").exists()
    plain.scheduler.end(running_one, "NODE_FAIL")
    assert look(plain, running_one)["status"]["state"] == "NODE_FAIL"
    assert over(plain, limited) == "TIMEOUT"


def test_nothing_to_run_and_no_directory(plain: PlainFirecrest) -> None:
    answer = ask(plain, "POST", "/compute/lab/jobs", json={"job": {"workingDirectory": str(plain.home)}})
    assert answer.status_code == 408
    assert over(plain, submit(plain, workingDirectory=f"{plain.home}/nope")) == "FAILED"


def test_list_filters(plain: PlainFirecrest) -> None:
    job_id = submit(plain, name="findme")
    over(plain, job_id)

    def ids(query: str, token: str | None = None) -> set[str]:
        found = ask(plain, "GET", f"/compute/lab/jobs{query}", token).json()["jobs"]
        return {job["jobId"] for job in found or []}

    assert ids("?name=findme") == {job_id}
    assert ids("?name=absent") == set()
    assert job_id in ids("?jobIds=1,2")
    assert job_id not in ids("", plain.token(plain.second_user))
    assert job_id in ids("?allusers=true", plain.token(plain.second_user))
    plain.scheduler.age(job_id, 2 * 86400)
    assert job_id not in ids("")
    assert job_id in ids("?time_window=3d")


def test_empty_filters_and_an_empty_name_are_none(plain: PlainFirecrest) -> None:
    jobs = f"/compute/{plain.system}/jobs"
    job = {"name": "", "workingDirectory": str(plain.home), "script": QUICK}
    job_id = ask(plain, "POST", jobs, json={"job": job}).json()["jobId"]
    for query in ({"account": ""}, {"name": ""}, {"name": "sbatch"}):
        assert job_id in [each["jobId"] for each in ask(plain, "GET", jobs, params=query).json()["jobs"]]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("#!/bin/bash\r\ntrue\r\n", "DOS line breaks"),
        ("#!/bin/bash\n: \0\n", "NULL character"),
        ("#!/bin/bash\n" + "#x\n" * 2_000_000, "parameter too long"),
    ],
    ids=["lines", "null", "size"],
)
def test_scripts_that_sbatch_does_not_read(plain: PlainFirecrest, script: str, words: str) -> None:
    job = {"name": "j", "workingDirectory": str(plain.home), "script": script}
    answer = ask(plain, "POST", f"/compute/{plain.system}/jobs", json={"job": job})
    assert answer.status_code == 500
    assert words in answer.json()["message"]


def test_tokens(plain: PlainFirecrest) -> None:
    def message(token: str) -> str:
        answer = ask(plain, "GET", "/status/systems", token)
        assert answer.status_code == 401
        assert answer.headers["auth-token"] == token
        return str(answer.json()["message"])

    assert message(plain.token(lifetime=20)) == "Access token expires too soon (less than 30s remaining)."
    assert message(plain.token(lifetime=-5)) == "Access token expired"
    assert message("garbage") == "Access token is invalid."
    plain.faults.unknown_signing_key = True
    assert message(plain.token()) == "Token's public key not found."
    plain.faults.reset()
    good = plain.token()
    plain.faults.reject_tokens = True
    assert message(good) == "Access token is invalid."
    plain.faults.reset()
    assert httpx.get(f"{plain.url}/status/systems").json()["message"] == "Not authenticated"
    [key] = httpx.get(plain.jwks_url).json()["keys"]
    claims = jwt.decode(good, jwt.PyJWK(key).key, algorithms=["RS256"], audience="account")
    assert claims["preferred_username"] == plain.client_id

    form = {"grant_type": "refresh_token", "refresh_token": plain.sign_in()["refresh_token"]}
    secret = (plain.client_id, plain.client_secret)
    first = httpx.post(plain.token_url, data=form, auth=secret)
    assert first.status_code == 200
    assert httpx.post(plain.token_url, data=form, auth=secret).json()["error"] == "invalid_grant"
    form["refresh_token"] = first.json()["refresh_token"]
    plain.faults.reject_refresh = True
    assert httpx.post(plain.token_url, data=form, auth=secret).status_code == 400
    assert httpx.post(plain.token_url, data={"grant_type": "client_credentials"}).status_code == 401


# it fails as told


def test_a_fresh_job_is_unknown_then_nameless_then_stale(plain: PlainFirecrest, client: Firecrest) -> None:
    plain.faults.fresh_job_404 = 3600
    job_id = submit(plain, SLEEP, name="mine")
    assert refused(client.job_info, "lab", job_id) == (404, "Job not found.")
    assert job_id not in {job["jobId"] for job in client.job_info("lab")}
    plain.faults.fresh_job_404 = 0
    plain.faults.allocation_window = 3600
    started(plain, job_id)
    seen = look(plain, job_id)
    assert (seen["name"], seen["workingDirectory"], seen["status"]["state"]) == ("allocation", "", "PENDING")
    assert client.job_info("lab", name="mine") == []
    plain.faults.allocation_window = 0
    plain.faults.stale_pending = 3600
    seen = look(plain, job_id)
    assert (seen["name"], seen["status"]["state"], seen["time"]["start"]) == ("mine", "PENDING", None)
    plain.faults.stale_pending = 0
    assert look(plain, job_id)["status"]["state"] == "RUNNING"


def test_a_list_that_omits_or_is_too_large(plain: PlainFirecrest, client: Firecrest) -> None:
    job_id = submit(plain, SLEEP, name="hidden")
    dependent = submit(plain, f"#!/bin/bash\n#SBATCH --dependency=afterany:{job_id}\n")
    plain.faults.list_omits = "hid.*"
    plain.faults.list_omits_dependent = True
    assert not {job_id, dependent} & {job["jobId"] for job in client.job_info("lab")}
    assert look(plain, job_id)["name"] == "hidden"
    plain.faults.reset()
    plain.faults.list_413_above = 1
    assert refused(client.job_info, "lab")[0] == 413
    assert len(client.job_info("lab", name="hidden")) == 1
    plain.faults.reset()
    plain.faults.list_408_above = 1
    assert refused(client.job_info, "lab")[0] == 408


def test_names_that_break_the_list() -> None:
    with running() as plain:
        client = login(plain)
        job_id = submit(plain, name='quo"te ü')
        assert look(plain, job_id)["name"] == "quo`te ?"
        plain.faults.names_mangled = False
        assert look(plain, job_id)["name"] == 'quo"te ü'
        broken = submit(plain, name="a|b")
        assert refused(client.job_info, "lab")[0] == 500
        assert refused(client.job_info, "lab", broken)[0] == 500
        assert ask(plain, "GET", "/compute/lab/jobs", plain.token(plain.second_user)).status_code == 200
        assert ask(plain, "GET", "/compute/lab/jobs?allusers=1", plain.token(plain.second_user)).status_code == 500
        plain.faults.pipe_in_name_breaks_list = False
        assert look(plain, broken)["name"] == "a|b"


@pytest.mark.parametrize("status", [500, 408])
def test_an_error_after_the_job_was_taken(plain: PlainFirecrest, client: Firecrest, status: int) -> None:
    plain.faults.fail(status, "/jobs$", "POST", when="after")
    before = len(plain.jobs())
    assert refused(client.submit, "lab", str(plain.home), script_str=QUICK)[0] == status
    assert len(plain.jobs()) == before + 1
    plain.faults.fail(status, "/jobs$", "POST")
    assert refused(client.submit, "lab", str(plain.home), script_str=QUICK)[0] == status
    assert len(plain.jobs()) == before + 1


def test_statuses_throttling_garbage_and_delay(plain: PlainFirecrest, client: Firecrest) -> None:
    for status in (500, 503, 408, 424):
        plain.faults.fail(status, "/status/systems", count=1)
        assert refused(client.systems)[0] == status
    plain.faults.throttle(0, "/status/systems", count=2)
    assert refused(client.systems)[0] == 429
    client.num_retries_rate_limit = None
    assert client.systems()
    plain.faults.garble("/status/systems")
    with pytest.raises(json.JSONDecodeError):
        client.systems()
    rule = plain.faults.delay(0.5, "/status/systems", skip=1)
    assert client.systems()
    begin = time.monotonic()
    assert client.systems()
    assert time.monotonic() - begin >= 0.5
    assert rule.count == 0
    assert [seen.status for seen in plain.requests if seen.path == "/status/systems"][:4] == [500, 503, 408, 424]


def test_dropped_connections(plain: PlainFirecrest, client: Firecrest, place: Path) -> None:
    plain.faults.drop("/ops/mkdir")
    with pytest.raises(httpx.TransportError):
        client.mkdir("lab", f"{place}/first")
    assert not (place / "first").exists()
    plain.faults.drop("/ops/mkdir", when="after")
    with pytest.raises(httpx.TransportError):
        client.mkdir("lab", f"{place}/second")
    assert (place / "second").exists()
    assert [seen.status for seen in plain.requests if seen.path.endswith("mkdir")] == [0, 0]
    plain.faults.break_after_400 = True
    assert refused(client.list_files, "lab", "/etc")[0] == 400
    with pytest.raises(httpx.TransportError):
        client.systems()
    assert client.systems()


def test_bugs_that_can_be_switched_off(plain: PlainFirecrest, client: Firecrest, place: Path) -> None:
    quoted, spaced = place / "it's", place / "a b"
    quoted.write_text("1")
    spaced.write_text("2")
    marker = place / "executed"
    assert refused(client.view, "lab", str(quoted))[0] == 500
    assert refused(client.view, "lab", f"{spaced}'; touch '{marker}")[0] == 500
    assert not marker.exists()
    assert refused(client.checksum, "lab", str(spaced))[0] == 500
    plain.faults.quote_in_path_breaks = plain.faults.space_breaks_checksum = False
    assert client.view("lab", str(quoted)) == "1"
    assert client.checksum("lab", str(spaced))["algorithm"] == "SHA256"

    (place / "a&b").write_text("3")
    with pytest.raises(TransferJobFailedException):
        client.cp("lab", f"{place}/a&b", f"{place}/copy")
    plain.faults.html_escapes_transfer_paths = False
    client.cp("lab", f"{place}/a&b", f"{place}/copy")

    (place / "ü").touch()
    assert r"\303\274" in [file["name"] for file in client.list_files("lab", str(place))]
    plain.faults.names_listed_in_octal = False
    assert "ü" in [file["name"] for file in client.list_files("lab", str(place))]

    plain.settings.command_timeout, usual = 0.2, plain.settings.command_timeout
    for hangs in (True, False):
        plain.faults.empty_upload_hangs = hangs
        answer = ask(plain, "POST", f"/filesystem/lab/ops/upload?path={place}", files={"file": ("empty", b"")})
        assert answer.status_code == (408 if hangs else 204)
        assert (place / "empty").stat().st_size == 0
        (place / "empty").unlink()
    plain.settings.command_timeout = usual

    script = '#!/bin/bash\n#SBATCH --output=out\necho "$LIST"\n'
    for truncated, text in ((True, "1\n"), (False, "1,2\n")):
        plain.faults.env_commas_truncate = truncated
        over(plain, client.submit("lab", str(place), script_str=script, env_vars={"LIST": "1,2"})["jobId"])
        assert (place / "out").read_text() == text

    assert refused(client.cancel_job, "lab", "999999")[0] == 500
    plain.faults.cancel_ended_is_500 = False
    assert refused(client.cancel_job, "lab", "999999")[0] == 404
    client.cancel_job("lab", submitted_and_over(plain))


def test_jobs_run_what_the_names_say(plain: PlainFirecrest, client: Firecrest, place: Path) -> None:
    """As on a real server: injection shows. (Clients must not send such names.)"""
    workdir = plain.home
    for name in ("f;touch one;x", "$(touch two)"):
        (place / name).write_bytes(b"x" * 50_000)
    (place / "link").symlink_to("f;touch one;x")

    def run(kind: str, **body: str) -> dict[str, Any]:
        directives = {"transferDirectives": {"transferMethod": "s3", "fileSize": 1}} if "load" in kind else {}
        answer = ask(plain, "POST", f"/filesystem/lab/transfer/{kind}", json={**body, **directives}).json()
        return {"said": answer, "state": over(plain, answer["transferJob"]["jobId"])}

    run("download", path=f"{place}/f;touch one;x")
    assert (workdir / "one").exists()
    uploaded = run_upload(plain, f"{place}/x$(touch two)")
    assert uploaded == "COMPLETED"
    assert (workdir / "two").exists()
    (place / "d").mkdir()
    run("compress", path=f"{place}/;touch three;x/d", targetPath=f"{place}/t.tgz", matchPattern=".*")
    assert (place / "three").exists()
    link = run("download", path=f"{place}/link")
    url = link["said"]["transferDirectives"]["downloadUrl"]
    plain.faults.offer_script_leaves_source_bare = False
    plain.faults.offer_script_measures_links = False
    (workdir / "one").unlink()
    whole = run("download", path=f"{place}/f;touch one;x")["said"]["transferDirectives"]["downloadUrl"]
    assert not (workdir / "one").exists()
    assert len(httpx.get(whole).content) == 50_000
    assert len(httpx.get(url).content) == 50_000  # less than a block: the measured size shows with larger files alone


def run_upload(plain: PlainFirecrest, path: str) -> str:
    body = {"path": path, "transferDirectives": {"transferMethod": "s3", "fileSize": 1}}
    answer = ask(plain, "POST", "/filesystem/lab/transfer/upload", json=body).json()
    directives = answer["transferDirectives"]
    tag = httpx.put(directives["partsUploadUrls"][0], content=b"x").headers["ETag"]
    parts = f"<C><Part><PartNumber>1</PartNumber><ETag>{tag}</ETag></Part></C>"
    httpx.post(directives["completeUploadUrl"], content=parts.encode()).raise_for_status()
    return over(plain, answer["transferJob"]["jobId"])


def submitted_and_over(plain: PlainFirecrest) -> str:
    job_id = submit(plain)
    over(plain, job_id)
    return job_id


def test_red_health(plain: PlainFirecrest, client: Firecrest) -> None:
    plain.faults.unhealthy = "scheduler"
    assert refused(client.job_info, "lab")[0] == 503
    assert client.list_files("lab", str(plain.home)) is not None
    [system] = client.systems()
    assert [h["healthy"] for h in system["servicesHealth"] if h["serviceType"] == "scheduler"] == [False]
    plain.faults.unhealthy = "ssh"
    assert refused(client.list_files, "lab", str(plain.home))[0] == 503


def test_an_outage_that_jobs_survive(plain: PlainFirecrest, client: Firecrest, place: Path) -> None:
    job_id = submit(plain, f"#!/bin/bash\nuntil [ -f {place}/go ]; do sleep 0.05; done\n")
    started(plain, job_id)
    client.systems()
    plain.down()
    with pytest.raises(httpx.ConnectError):
        client.systems()
    assert httpx.get(plain.jwks_url).status_code == 200
    (place / "go").touch()
    assert over(plain, job_id) == "COMPLETED"
    plain.up()
    assert client.job_info("lab", job_id)[0]["status"]["state"] == "COMPLETED"
    plain.down(0.2)
    until_blocking(lambda: reachable(plain))
    plain.restart()
    assert client.systems()


def reachable(plain: PlainFirecrest) -> bool:
    try:
        return httpx.get(f"{plain.url}/status/liveness/").is_success
    except httpx.TransportError:
        return False


def test_control_over_http_and_the_command_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "crestline.testing.firecrest", "--state-dir", str(tmp_path), "--version", "2.5.6"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        facts = json.loads(process.stdout.readline())
        auth = firecrest.ClientCredentialsAuth(facts["client_id"], facts["client_secret"], facts["token_url"])
        client = Firecrest(facts["url"], auth)
        assert client.server_version() == "2.5.6"
        changes = {"cancel_ended_is_500": False, "rules": [{"path": "systems", "status": 503, "count": 1}]}
        assert httpx.post(f"{facts['url']}/_faults", json=changes).json()["cancel_ended_is_500"] is False
        assert refused(client.systems)[0] == 503
        assert client.systems()
        assert httpx.post(f"{facts['url']}/_faults", json={"typo": 1}).status_code == 400
        job_id = client.submit("lab", facts["home"], script_str=SLEEP)["jobId"]
        ended = httpx.post(f"{facts['control_url']}/_jobs/{job_id}/end", json={"state": "OUT_OF_MEMORY"})
        assert ended.status_code == 200
        assert client.job_info("lab", job_id)[0]["status"]["state"] == "OUT_OF_MEMORY"
        assert any(seen["status"] == 503 for seen in httpx.get(f"{facts['url']}/_requests").json())
        httpx.post(f"{facts['url']}/_down", json={"seconds": 0.3})
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        if process.stdout is not None:
            process.stdout.close()
