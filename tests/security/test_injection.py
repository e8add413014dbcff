"""Nothing that a caller writes is executed or leads outside: the corpus at every endpoint, on both kinds of gateway.

The canary proves it: a file that an executed entry would leave, searched for wherever a command of ours could run.
"""

from __future__ import annotations

import io
import os
import tarfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from harness.cluster import Cluster
from harness.corpus import Canary, ways_out
from harness.gateway import in_thread
from harness.waiting import until_blocking

RUNNING = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING")
SECRET = "what is outside"


@dataclass
class Target:
    """A system of a gateway."""

    http: httpx.Client
    system: str
    work: str
    """a directory of the caller's own"""
    outside: str
    """a file that the caller's paths must not reach"""
    search: Callable[[str], list[str]]
    """where files of that name are, if anywhere"""
    read: Callable[[str], str]
    """a file, past the gateway"""

    def ops(self, method: str, name: str, **arguments: Any) -> httpx.Response:
        return self.http.request(method, f"/filesystem/{self.system}/ops/{name}", **arguments)

    def transfer(self, method: str, name: str, **arguments: Any) -> httpx.Response:
        return self.http.request(method, f"/filesystem/{self.system}/transfer/{name}", **arguments)

    @property
    def jobs(self) -> str:
        return f"/compute/{self.system}/jobs"

    def finish(self, job_ids: list[str]) -> dict[str, str]:
        """The states of jobs that have ended."""
        deadline = time.monotonic() + 240
        while True:
            answer = self.http.get(self.jobs, params={"ids": ",".join(job_ids)}).raise_for_status().json()
            states = {job["jobId"]: job["status"]["state"] for job in answer["jobs"]}
            if len(states) == len(job_ids) and not set(states.values()) & set(RUNNING):
                return states
            assert time.monotonic() < deadline, states
            time.sleep(0.2)


@pytest.fixture(scope="module")
def on_local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    home = tmp_path_factory.mktemp("injected")
    files, outside = home / "files", home / "outside"
    files.mkdir()
    outside.write_text(SECRET)
    system = {"file_systems": [{"path": str(files), "default_work_dir": True}]}
    places = [home, Path.cwd(), Path.home()]

    def search(name: str) -> list[str]:
        found = [str(path) for path in home.rglob(name)]
        return found + [str(place / name) for place in places if (place / name).exists()]

    with in_thread(home / "gateway", systems={"local": system}) as gateway, gateway.http() as http:
        yield Target(http, "local", str(files), str(outside), search, lambda path: Path(path).read_bytes().decode())


@pytest.fixture(scope="module")
def on_slurm(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[Target]:
    gateway = request.getfixturevalue("slurm_gateway")
    work, outside = "/home/alice/injected", "/var/tmp/outside"
    cluster.check("alice", ["mkdir", "-p", work])
    cluster.check("alice", ["sh", "-c", f"printf '{SECRET}' >{outside}"])  # she may; through the gateway she may not

    def search(name: str) -> list[str]:
        pruned = ["-path", "/proc", "-prune", "-o", "-path", "/sys", "-prune", "-o"]
        return cluster.exec("root", ["find", "/", *pruned, "-name", name, "-print"]).stdout.splitlines()

    with gateway.http(gateway.client_of("alice")) as http:
        yield Target(http, "cluster", work, outside, search, lambda path: cluster.check("root", ["cat", path]))


@pytest.fixture(params=["local", "slurm"])
def target(request: pytest.FixtureRequest) -> Target:
    return request.getfixturevalue(f"on_{request.param}")


@pytest.fixture
def canary(target: Target) -> Iterator[Canary]:
    """One that must not have sung at the end of the test."""
    canary = Canary()
    yield canary
    assert target.search(canary.name) == []
    assert target.read(target.outside) == SECRET


def at_once(calls: list[Callable[[], None]]) -> None:
    """Some at a time: on a cluster most of the time is spent on the way."""
    with ThreadPoolExecutor(8) as threads:
        for outcome in [threads.submit(call) for call in calls]:
            outcome.result()


def test_canary_detects_script_injection(target: Target) -> None:
    """A script of the caller's own may do what the corpus must not, and is found out."""
    canary = Canary()
    job = {"workingDirectory": target.work, "script": f"#!/bin/sh\ntouch {canary.name}\n"}
    answer = target.http.post(target.jobs, json={"job": job})
    target.finish([answer.json()["jobId"]])
    assert target.search(canary.name) == [f"{target.work}/{canary.name}"]


def archive(name: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size = 4
        tar.addfile(member, io.BytesIO(b"text"))
    return buffer.getvalue()


def test_names_of_files(target: Target, canary: Canary) -> None:
    """A directory and a file of that name, through every endpoint; its content comes back as it was."""

    def all_endpoints(number: int, word: str) -> None:
        place = f"{target.work}/f{number}"
        answer = target.ops("POST", "mkdir", json={"path": f"{place}/{word}", "parent": True})
        assert answer.status_code == 201, (word, answer.text)
        path = f"{place}/{word}/{word}"
        assert target.ops("PUT", "content", params={"path": path}, content=b"text").status_code < 300, word
        for name in ("ls", "head", "tail", "view", "checksum", "file", "stat", "content", "download", "tar"):
            answer = target.ops("GET", name, params={"path": path})
            assert answer.status_code == 200 or (name, answer.status_code) == ("tar", 400), (name, word, answer.text)
            if name in ("content", "download"):
                assert answer.content == b"text"
        listed = target.ops("GET", "ls", params={"path": f"{place}/{word}", "showHidden": True}).json()["output"]
        assert len(listed) == 1
        packed, unpacked = f"{place}/{word}.tar", f"{place}/{word}.d"
        changes: list[tuple[str, str, dict[str, Any]]] = [
            ("PUT", "chmod", {"json": {"path": path, "mode": "600"}}),
            ("PUT", "chmod", {"json": {"path": path, "mode": word}}),
            ("PUT", "chown", {"json": {"path": path, "owner": word}}),
            ("PUT", "chown", {"json": {"path": path, "group": word}}),
            ("POST", "symlink", {"json": {"path": path, "linkPath": f"{place}/l{word}"}}),
            ("POST", "upload", {"params": {"path": place}, "files": {"file": (word, b"text")}}),
            ("POST", "compress", {"json": {"path": path, "targetPath": packed, "matchPattern": word}}),
            ("POST", "compress", {"json": {"path": f"{place}/{word}", "targetPath": packed}}),
            ("POST", "mkdir", {"json": {"path": unpacked}}),
            ("POST", "extract", {"json": {"path": packed, "targetPath": unpacked}}),
            ("PUT", "tar", {"params": {"path": unpacked}, "content": archive(f"m/{word}")}),
            ("POST", "tar", {"json": {"path": f"{place}/{word}", "files": [word]}}),
            ("POST", "tar", {"json": {"path": place, "patterns": [word]}}),
            ("POST", "manifest", {"json": {"path": f"{place}/{word}", "files": {word: "0" * 64}}}),
        ]
        for method, name, arguments in changes:
            answer = target.ops(method, name, **arguments)
            assert answer.status_code < 500, (name, word, answer.text)
        assert target.ops("GET", "content", params={"path": path}).content == b"text"
        headers = {"Upload-Id": quote(word), "Idempotency-Key": ascii(word), "X-Request-ID": ascii(word)[:60]}
        answer = target.ops("PUT", "content", params={"path": f"{place}/up"}, content=b"text", headers=headers)
        assert answer.status_code < 500, (word, answer.text)
        assert target.ops("DELETE", "rm", params={"path": place}).status_code == 204, word

    at_once([lambda n=n, w=w: all_endpoints(n, w) for n, w in enumerate(canary.everything())])  # type: ignore[misc]


def test_names_of_files_in_the_background(target: Target, canary: Canary) -> None:
    started = []

    def begin(number: int, word: str) -> None:
        source = f"{target.work}/b{number}"
        assert target.ops("PUT", "content", params={"path": f"{source} {word}"}, content=b"text").status_code < 300
        for name, other in (("cp", "c"), ("compress", "z")):
            body = {"path": f"{source} {word}", "targetPath": f"{source}{other}{word}", "account": word}
            answer = target.transfer("POST", name, json=body)
            assert answer.status_code == 201, (word, answer.text)
            started.append(answer.json()["transferJob"]["jobId"])
        answer = target.transfer(
            "POST", "download", json={"path": f"{source} {word}", "transferDirectives": {"transferMethod": "s3"}}
        )
        assert answer.status_code == 201, answer.text
        url = answer.json()["transferDirectives"]["downloadUrl"]
        assert httpx.get(url, trust_env=False, timeout=60).content == b"text"

    at_once([lambda n=n, w=w: begin(n, w) for n, w in enumerate(canary.words()[::3])])  # type: ignore[misc]
    for job_id in started:
        url = f"{target.jobs}/{job_id}"
        until_blocking(lambda url=url: target.http.get(url).json()["jobs"][0]["status"]["state"] == "COMPLETED")


def test_ways_out_of_the_tree(target: Target, canary: Canary) -> None:
    """No read gives, and no change reaches, what is outside: by the way itself, and behind what is served."""

    def try_out(path: str) -> None:
        calls: list[tuple[str, str, dict[str, Any]]] = [
            ("POST", "symlink", {"json": {"path": f"{target.work}/none", "linkPath": path}}),
            ("POST", "compress", {"json": {"path": path, "targetPath": f"{target.work}/stolen.tar"}}),
            ("POST", "compress", {"json": {"path": target.work, "targetPath": path}}),
            ("POST", "mkdir", {"json": {"path": path}}),
            ("PUT", "chmod", {"json": {"path": path, "mode": "777"}}),
            ("PUT", "content", {"params": {"path": path}, "content": b"mine"}),
            ("POST", "upload", {"params": {"path": os.path.dirname(path)}, "files": {"file": ("outside", b"mine")}}),
            ("POST", "upload", {"params": {"path": target.work}, "files": {"file": (path, b"mine")}}),
            ("POST", "tar", {"json": {"path": target.work, "files": [path]}}),
            ("DELETE", "rm", {"params": {"path": path}}),
        ]
        for name in ("head", "tail", "view", "checksum", "file", "stat", "download", "content", "tar"):
            calls.append(("GET", name, {"params": {"path": path}}))
        for method, name, arguments in calls:
            answer = target.ops(method, name, **arguments)
            assert answer.status_code < 500, (name, path, answer.text)
            assert SECRET not in answer.text, (name, path)
        for name in ("cp", "mv"):
            for source, goal in ((path, f"{target.work}/stolen"), (f"{target.work}/x", path)):
                answer = target.transfer("POST", name, json={"path": source, "targetPath": goal})
                assert answer.status_code in (201, 400), (name, path, answer.text)

    for way in ways_out(target.outside):
        try_out(way)
        try_out(f"{target.work}/{way}")
    assert target.ops("GET", "ls", params={"path": f"{target.work}/stolen"}).status_code == 404


def test_archives_that_unpack_outside(target: Target, canary: Canary) -> None:
    destination = f"{target.work}/unpacked"
    target.ops("POST", "mkdir", json={"path": destination})
    for way in ways_out(target.outside):
        content = archive(way.replace("\0", ""))
        assert target.ops("PUT", "tar", params={"path": destination}, content=content).status_code < 500, way
        target.ops("PUT", "content", params={"path": f"{target.work}/evil.tar"}, content=content)
        body = {"path": f"{target.work}/evil.tar", "targetPath": destination, "compression": "none"}
        assert target.ops("POST", "extract", json=body).status_code < 500, way


FIELDS = ("account", "reservation", "partition", "constraints", "scriptPath", "workingDirectory", "standardInput")
"""what mostly refuses the job, so each by itself; the others are filled in together"""
OPTIONS = ("array", "comment", "job-name", "dependency", "mail-user")


def test_jobs(target: Target, canary: Canary) -> None:
    """Every field of a job description; what is taken runs and finds its values as they were written."""
    jobs: list[dict[str, Any]] = []
    for number, word in enumerate(canary.everything()):
        directory = f"{target.work}/j{number}"
        target.ops("POST", "mkdir", json={"path": directory, "parent": True})
        job = {
            "workingDirectory": directory,
            "script": f'#!/bin/sh\nprintf %s "$WORD" >{directory}/word\n',
            "name": word,
        }
        job["env"] = {"WORD": word, "BASH_ENV": word, "ENV": word, "PS4": word}
        jobs.append(job | {"standardOutput": f"o{word}", "standardError": f"{directory}/e{word}"})
    plain = {"workingDirectory": target.work, "script": "#!/bin/sh\nexit 0\n"}
    for word in [*canary.words()[::4], *canary.options()[::2]]:
        jobs += [plain | {field: word} for field in FIELDS]
        jobs += [plain | {"env": {word: "x"}}, plain | {"env": [word]}, plain | {"env": [f"A={word}"]}]
        if "\n" not in word:  # a line of its own is no injection: the script is the caller's
            jobs += [plain | {"script": f"#!/bin/sh\n#SBATCH --{option}={word}\nexit 0\n"} for option in OPTIONS]
    items = [{"key": f"{canary.name}-{number}", "job": job} for number, job in enumerate(jobs)]
    submitted: dict[str, dict[str, Any]] = {}
    for start in range(0, len(items), 100):
        answer = target.http.post(f"{target.jobs}/batch", json={"jobs": items[start : start + 100]}, timeout=300)
        assert answer.status_code == 200, answer.text
        for item, outcome in zip(items[start : start + 100], answer.json()["results"], strict=True):
            if outcome.get("jobId"):
                submitted[outcome["jobId"]] = item["job"]
            else:
                assert 400 <= outcome["error"]["status"] < 500, (item, outcome)
    assert len(submitted) >= len(canary.everything())
    ours = {job_id: job for job_id, job in submitted.items() if "WORD" in (job.get("env") or {})}
    for job_id in submitted.keys() - ours.keys():
        if "--dependency" in submitted[job_id]["script"]:
            target.http.delete(f"{target.jobs}/{job_id}")
    states = target.finish(list(ours))
    wrong = {ours[job_id]["name"]: state for job_id, state in states.items() if state != "COMPLETED"}
    assert not wrong
    for job in ours.values():
        assert target.read(f"{job['workingDirectory']}/word").encode() == job["name"].encode()


def test_what_names_a_job(target: Target, canary: Canary) -> None:
    for word in canary.everything():
        calls = [
            ("GET", f"{target.jobs}/{quote(word, safe='')}", {}),
            ("DELETE", f"{target.jobs}/{quote(word, safe='')}", {}),
            ("GET", f"{target.jobs}/{quote(word, safe='')}/metadata", {}),
            ("PUT", f"{target.jobs}/{quote(word, safe='')}/attach", {"json": {"command": "true"}}),
            ("GET", target.jobs, {"params": {"ids": word}}),
            ("GET", target.jobs, {"params": {"name": word}}),
            ("GET", target.jobs, {"params": {"account": word}}),
            ("GET", target.jobs, {"params": {"time_window": word}}),
            ("GET", target.jobs, {"headers": {"If-None-Match": ascii(word)}}),
            ("GET", f"/status/{quote(word, safe='')}/nodes", {}),
        ]
        for method, url, arguments in calls:
            answer = target.http.request(method, url, **arguments)
            assert answer.status_code < 500, (method, url, answer.text)
