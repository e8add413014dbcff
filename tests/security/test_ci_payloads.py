"""What a CI job's payload says never runs, and is never looked up, on the runner's machine.

Each field that reaches a script of the runner's carries the whole corpus, for runners of each way of quoting.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
import zipfile
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from crestline.testing.gitlab_runner import Build, CiJob, GitLab, Quoting
from crestline_gitlab_runner import resources, sandbox, sources
from crestline_gitlab_runner.ci_job import CiJob as DriversJob
from crestline_gitlab_runner.failures import BuildFailureError
from crestline_gitlab_runner.gitlab_api import GitLabApi
from crestline_gitlab_runner.patterns import PatternError, compile_pattern, fill_in
from crestline_gitlab_runner.settings import Defaults, Gateway, Settings
from crestline_gitlab_runner.stages import project_path
from crestline_gitlab_runner.state import State
from gitlab_runner.conftest import MakeSite
from gitlab_runner.site import DriverSite
from harness.parts import require

CORPUS = tomllib.loads((Path(__file__).parent / "corpus.toml").read_text())
VERSIONS = ["14.7.0", "15.4.0", "15.6.0", "18.5.0", "19.3.0"]


class Watched:
    """A site, a file that only an executed entry makes, and a file of this machine that must not be read."""

    def __init__(self, site: DriverSite, gitlab: GitLab, place: Path) -> None:
        self.site = site
        self._gitlab = gitlab
        self.canary = place / "canary"
        self.secret = place / "host" / "the-secret.toml"
        self.secret.parent.mkdir()
        self.secret.write_text("text-of-the-secret\n")
        self.secret.with_name("named-by-no-job.toml").touch()
        entries = [text.format(canary=self.canary, outside=self.secret) for text in CORPUS["words"]]
        self.words = [*entries, f"$(cat {self.secret})", f"`cat {self.secret}`", f"$(<{self.secret})"]
        self.options = [text.format(canary=self.canary) for text in CORPUS["options"]]
        self.paths = [f"{self.secret.parent}/*.toml", str(self.secret), f"../../../../../../{self.secret}", "/etc/*"]

    def run(self, job: CiJob, **options: Any) -> Build:
        """Run a job; nothing of it was executed or read on this machine."""
        build = self.site.run(self._gitlab, job, **options)
        self.check(build)
        return build

    def check(self, build: Build) -> None:
        assert not list(self.canary.parent.glob("canary*")), build.text
        shown = [build.log, build.runner_log]
        shown += [name.encode() + content for _, _, name, content in self._gitlab.uploads]
        shown += [archive.read(name) for archive in self._archives() for name in archive.namelist()]
        assert not [text for text in shown if b"text-of-the-secret" in text or b"named-by-no-job" in text]

    def _archives(self) -> list[zipfile.ZipFile]:
        contents = [*self._gitlab.artifacts.values(), *self._gitlab.cache.values()]
        return [zipfile.ZipFile(BytesIO(content)) for content in contents if content.startswith(b"PK")]


@pytest.fixture
def watched(make_site: MakeSite, gitlab: GitLab, tmp_path: Path) -> Watched:
    return Watched(make_site("gateway"), gitlab, tmp_path)


@pytest.mark.parametrize("version", VERSIONS)
def test_artifacts_and_caches(watched: Watched, gitlab: GitLab, version: str) -> None:
    values = [*watched.words, *watched.options, *watched.paths]
    clean = [value for value in values if "\0" not in value]
    job = CiJob(
        name=watched.words[6],
        script=["mkdir -p out; echo fine >out/fine"],
        artifacts=[
            {"name": " ".join(clean), "paths": ["out", *clean], "exclude": clean},
            *({"name": value, "paths": ["out"], "expire_in": value} for value in clean[::12]),
            {"paths": ["out"], "artifact_type": watched.words[6], "artifact_format": "gzip"},
        ],
        cache=[
            {"key": "-".join(clean), "paths": ["out", *clean], "fallback_keys": clean[::16]},
            *({"key": value, "paths": ["out"]} for value in clean[::16]),
        ],
        variables={"OUT": watched.words[6], "CACHE_FALLBACK_KEY": watched.words[7]},
        masked_variables={"MASKED": watched.words[8]},
    )
    build = watched.run(job, version=version)
    assert build.state == "success", build.text
    names = {name for number, _, name, _ in gitlab.uploads if number == job.id}
    assert any("touch" in name for name in names), "names arrive as they were written"
    with zipfile.ZipFile(BytesIO(gitlab.artifacts[job.id])) as archive:
        assert "out/fine" in archive.namelist()


SOURCES: dict[str, Callable[[str], dict[str, Any]]] = {
    "refspecs": lambda value: {"refspecs": [value]},
    "ref": lambda value: {"ref": value},
    "GIT_SUBMODULE_PATHS": lambda value: {
        "variables": {"GIT_SUBMODULE_STRATEGY": "normal", "GIT_SUBMODULE_PATHS": value}
    },
    "GIT_DEPTH": lambda value: {"variables": {"GIT_DEPTH": value, "GIT_SUBMODULE_DEPTH": value}},
    "GIT_STRATEGY": lambda value: {"variables": {"GIT_STRATEGY": value}},
    "GIT_FETCH_EXTRA_FLAGS": lambda value: {"variables": {"GIT_FETCH_EXTRA_FLAGS": value}},
    "GIT_SUBMODULE_UPDATE_FLAGS": lambda value: {
        "variables": {"GIT_SUBMODULE_STRATEGY": "recursive", "GIT_SUBMODULE_UPDATE_FLAGS": value}
    },
    "CI_PROJECT_DIR": lambda value: {"variables": {"CI_PROJECT_DIR": value}},
    "CI_REPOSITORY_URL": lambda value: {"variables": {"CI_REPOSITORY_URL": value, "CI_SERVER_URL": value}},
    "CI_SERVER_TLS_CA_FILE": lambda value: {"variables": {"CI_SERVER_TLS_CA_FILE": value}},
    "GIT_CONFIG": lambda value: {
        "variables": {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "core.sshCommand", "GIT_CONFIG_VALUE_0": value}
    },
    "FF": lambda value: {
        "variables": {"FF_USE_FASTZIP": value, "FF_SCRIPT_SECTIONS": value, "FF_USE_BASH_EVAL": value}
    },
    "image": lambda value: {"image": value},
    "services": lambda value: {"services": [{"name": value, "alias": value, "entrypoint": [value]}]},
    "hooks": lambda value: {"hooks": [{"name": "pre_get_sources_script", "script": [value]}]},
}


@pytest.mark.parametrize(
    ("field", "version"), [*((field, "14.7.0") for field in SOURCES), ("GIT_SUBMODULE_PATHS", "19.3.0")]
)
def test_sources(watched: Watched, gitlab: GitLab, field: str, version: str) -> None:
    """Each field of its own, since some values end a job before the next field is read."""
    sha = gitlab.commit({"here.txt": "x"}, {"external/library": ("../library.git", "1" * 40)})
    command = f'"$(touch {watched.canary})";`touch {watched.canary}`'
    for value in (command, f"--upload-pack=touch${{IFS}}{watched.canary}"):
        watched.run(CiJob(script=["true"], **SOURCES[field](value)), sha=sha, version=version)


def test_a_submodule_with_a_hostile_address(watched: Watched, gitlab: GitLab) -> None:
    for url in (f"ext::sh -c touch% {watched.canary}", "file:///etc"):
        sha = gitlab.commit({"here.txt": "x"}, {"sub": (url, "1" * 40)})
        build = watched.run(CiJob(script=["true"], variables={"GIT_SUBMODULE_STRATEGY": "recursive"}), sha=sha)
        assert build.state == "failed", build.text


def test_a_cache_key_names_no_place(watched: Watched, gitlab: GitLab) -> None:
    """With a key that leads to the sources or to another project; the cache is kept all the same."""
    before = {path for path in watched.site.state.rglob("*") if path.name.endswith(".zip")}
    for key in ("../../../sources/group/project/x", "../../../../../../../../tmp/crestline-evil", "a/../../../b"):
        cache = [{"key": key, "paths": ["out"]}]
        build = watched.run(CiJob(script=["mkdir out; echo kept >out/f"], cache=cache), version="14.7.0")
        assert build.state == "success", build.text
        build = watched.run(CiJob(script=["cat out/f"], cache=cache), version="14.7.0")
        assert "kept\n" in build.text, build.text
    kept = {path for path in watched.site.state.rglob("*") if path.name.endswith(".zip")} - before
    assert len(kept) == 3
    assert {path.parents[2].name for path in kept} == {"caches"}
    assert not Path("/tmp/crestline-evil").exists()


@pytest.mark.parametrize(
    ("first", "second", "version"),
    [
        ({"project_id": 7}, {"project_id": 8}, "19.3.0"),
        ({"protected": True}, {"protected": False}, "19.3.0"),
        ({"protected": False}, {"protected": True}, "19.3.0"),
        ({"ref": "main"}, {"ref": "feature"}, "14.7.0"),
    ],
)
def test_caches_of_others(watched: Watched, first: dict[str, Any], second: dict[str, Any], version: str) -> None:
    """Neither read nor overwritten, whatever the key and whatever variables say."""
    cache = [{"key": "shared", "paths": ["out"]}]
    lies = {"CI_COMMIT_REF_PROTECTED": "true", "CI_PROJECT_ID": "7", "CI_COMMIT_REF_NAME": "main"}
    write = "cat out/f 2>/dev/null || echo nothing; mkdir -p out; echo of the {} >out/f"
    own = CiJob(script=[write.format("first")], cache=cache, **first)
    assert "\nnothing\n" in watched.run(own, version=version).text
    foreign = CiJob(script=[write.format("second")], cache=cache, variables=lies, **second)
    assert "\nnothing\n" in watched.run(foreign, version=version).text
    assert "\nof the first\n" in watched.run(own, version=version).text


def test_an_archive_that_would_unpack_elsewhere(watched: Watched, gitlab: GitLab, tmp_path: Path) -> None:
    """Artifacts of another job and a cache in the runner's storage, both made by hand."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        link = zipfile.ZipInfo("out/link")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        archive.writestr(link, str(tmp_path))
        for name in ("../../../../canary", f"{watched.canary}", "out/link/canary", "../canary", "fine"):
            archive.writestr(name, "evil")
    other = CiJob(script=["true"], name="other")
    gitlab.artifacts[other.id] = buffer.getvalue()
    gitlab.cache["/cache/runner/t0ken/project/7/k"] = buffer.getvalue()
    try:
        for change in ({"dependencies": [other]}, {"cache": [{"key": "k", "paths": ["out"], "has_url": True}]}):
            job = CiJob(script=["cat fine; ls -la out 2>&1 || true"], variables={"FF_USE_FASTZIP": "false"}, **change)
            build = watched.run(job)
            assert build.state == "success", build.text
            assert "evil" in build.text
            assert "Left out: '../../../../canary'" in build.text
            assert not [path for path in watched.site.state.rglob("*") if "canary" in path.name]
    finally:
        gitlab.artifacts.pop(other.id)


def test_a_signed_address_of_another_project(watched: Watched, gitlab: GitLab) -> None:
    gitlab.cache["/cache/runner/t0ken/project/8/k"] = b"of project 8"
    cache = [{"key": "../8/k", "paths": ["out"], "has_url": True}]
    build = watched.run(CiJob(script=["mkdir out; echo x >out/f"], cache=cache))
    assert "The cache's key leads out of the project" in build.text
    assert gitlab.cache["/cache/runner/t0ken/project/8/k"] == b"of project 8"


def test_results_beyond_the_limits(make_site: MakeSite, gitlab: GitLab, tmp_path: Path) -> None:
    site = make_site("gateway", limits={"ratio": 100, "members": 2000, "archive": "200K"})
    for script, said in (
        ("head -c 100000000 /dev/zero >out/zeros", "limits.ratio"),
        ("touch out/{1..2001}", "limits.members"),
        ("head -c 300000 /dev/urandom >out/random", "limits.archive"),
    ):
        job = CiJob(
            script=["mkdir out; echo small >small", script],
            artifacts=[{"paths": ["out"]}, {"paths": ["small"], "artifact_type": "sast"}],
            cache=[{"key": "large", "paths": ["out"]}],
        )
        build = site.run(gitlab, job)
        assert (build.state, build.reason) == ("failed", "script_failure"), build.text
        assert build.text.count(said) == 2, "of the cache and of the artifacts"
        uploaded = [query for number, query, _, _ in gitlab.uploads if number == job.id]
        assert [("sast" in query) for query in uploaded] == [True], "one that is too large does not cost the others"
        assert not list(site.state.rglob("*.zip"))


# what no shell sees, and still no program can take

NUMBERS = ["²", "٣", "9" * 5000, "-1", "1e9", "0x10", "1-²", "²:00", "00:٣:00", "9" * 4400 + "-00:00:00", "²G", "a:²"]
WORDS = ["", " ", "é", "\u2028", "\r", "a\nb", "--wrap=x", "-", "'", '"', "\\", "x" * 100_000, "$(id)", "=", ":::"]
PATTERNS = [
    *NUMBERS,
    *WORDS,
    "n" * 256,
    "{" * 101 + "a" + "}" * 101,
    "{..,x}/b",
    "[.][.]/x",
    "[z-a]",
    "[!é]",
    "[",
    "a/**b",
]
NAMES = ["n" * 256, "n/" * 2000 + "n", "..", "a/../b", "a//b", "a\nb"]
GIT: list[tuple[dict[str, str], dict[str, Any]]] = [
    *(({"GIT_SUBMODULE_DEPTH": each}, {}) for each in NUMBERS),
    *(({name: f"--depth {each}"}, {}) for each in NUMBERS for name in sources._ALLOWED),
    *(({name: each}, {}) for each in WORDS for name in (*sources._ALLOWED, "GIT_SUBMODULE_PATHS")),
    *(({}, {"refspecs": [each]}) for each in ("a\0b", "x" * 200_000, "--upload-pack=x", "")),
    ({}, {"refspecs": ["+refs/heads/main:refs/x"] * 100_000}),
    ({}, {"refspecs": [], "ref": "a\0b"}),
    ({}, {"sha": "main"}),
]


@pytest.mark.anyio
async def test_what_no_program_can_take_is_the_jobs_own_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither a failure of the runner, which GitLab would try again, nor memory without bounds on its machine."""
    settings = Settings(gateway=Gateway(url="https://firecrest.example.org", system="s"))
    state = State.create(tmp_path / "state", ci_job=1, root="/w")
    started: list[list[str]] = []

    async def start(command: list[str], *_: object, **__: object) -> tuple[int, bytes]:
        started.append(command)
        Path(command[2], ".gitmodules").touch()
        return 0, b""

    def job(variables: dict[str, str], git_info: dict[str, Any]) -> DriversJob:
        git_info = {"repo_url": "https://gitlab.example.org/g/p.git", "sha": "1" * 40, **git_info}
        (tmp_path / "response").write_text(json.dumps({"id": 1, "git_info": git_info}))
        environment = {f"CUSTOM_ENV_{name}": value for name, value in variables.items()}
        return DriversJob.of_this_process({"JOB_RESPONSE_FILE": str(tmp_path / "response"), **environment})

    monkeypatch.setattr(sandbox, "run", start)
    monkeypatch.setattr(sandbox, "_found", ["bubblewrap"])
    for variables, git_info in GIT:
        asked = job({"GIT_SUBMODULE_STRATEGY": "normal", **variables}, git_info)
        with suppress(BuildFailureError):
            await sources.fetch(settings, state, asked, "g/p", None)
    assert started
    for command in started:
        assert not [word for word in command if "\0" in word or len(word) > 100_000], command
    for name in (*resources._TYPED, *resources._SLURM, *resources._SLURM_DIRECTIVES, "SCHEDULER_PARAMETERS"):
        for value in (*NUMBERS, *WORDS, *(f"-N {each}" for each in NUMBERS), *(f"--mem={each}" for each in NUMBERS)):
            with suppress(BuildFailureError):
                resources.ask(Defaults(allowed=["nodes<=4", "time<=04:00:00"]), {name: value}, 3600)
    for name in NAMES:
        with pytest.raises(BuildFailureError):
            project_path(state, job({"CI_PROJECT_DIR": f"{state.builds_dir}/{name}"}, {}))
    for authority in (*NUMBERS, *WORDS[1:]):
        with pytest.raises(BuildFailureError):
            GitLabApi(authority=authority, largest=1)
    for text in PATTERNS:
        with suppress(PatternError):
            re.compile(compile_pattern(text, "/w/p").expression.encode("latin-1"))
    assert len(fill_in("$A" * 10_000, {"A": "x" * 100_000})) < 5000
    capfd.readouterr()


# the stand-in of the runner


@pytest.mark.parametrize(
    ("version", "expands"), [("14.7.0", True), ("15.4.0", True), ("15.6.0", False), ("19.3.0", False)]
)
def test_the_stand_in_quotes_as_the_runner_does(tmp_path: Path, version: str, expands: bool) -> None:
    script = Quoting(version).wrap([Quoting(version).command("echo", "$(touch executed)")])
    subprocess.run(["bash"], input=script, cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "executed").exists() is expands


def test_newer_runners_expand_paths_of_submodules(tmp_path: Path) -> None:
    for version, expands in (("18.5.0", False), ("18.8.0", True), ("19.3.0", True)):
        script = Quoting(version).wrap([Quoting(version).expanding("echo", "$(touch executed)")])
        subprocess.run(["bash"], input=script, cwd=tmp_path, check=True, capture_output=True)
        assert (tmp_path / "executed").exists() is expands


# confinement


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["bubblewrap", "unshare"])
async def test_what_confined_programs_reach(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "work"
    place.mkdir()
    (tmp_path / "secret").write_text("text-of-the-secret")
    attempts = [
        f"cat {tmp_path}/secret",
        "cat ../secret",
        "cat /etc/shadow /etc/passwd",
        "ls /home /root /run /var",
        "cat /proc/1/environ /proc/self/environ",
        "touch /usr/written",
        "mknod device b 8 0",
        "mount -t tmpfs none /usr",
        "unshare --user --map-root-user true",
        "chroot .. true",
    ]
    vain = f"touch {tmp_path}/written; ln -s {tmp_path} out && touch out/written; "  # into the sandbox's own memory
    script = (
        vain + "; ".join(f"({each}) 2>/dev/null && echo 'reached: {each}'" for each in attempts) + "; env; echo x >here"
    )
    program = {"bubblewrap": "bwrap", "unshare": "unshare"}[kind]
    require(
        shutil.which(program) is not None, f"there is no `{program}`: install Debian's `bubblewrap` or `util-linux`"
    )
    code, said = await sandbox.run(
        ["sh", "-c", script], sandbox.Sandbox(place), {"LANG": "C"}, kind=kind, output=subprocess.PIPE
    )
    assert code == 0, said.decode()
    assert b"reached" not in said, said.decode()
    assert {line.partition("=")[0] for line in said.decode().splitlines()} <= {
        "PATH",
        "LANG",
        "PWD",
        "OLDPWD",
        "SHLVL",
        "_",
    }
    assert (place / "here").read_text() == "x\n"
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "work.root") == ["secret", "work"]


def test_without_confinement_the_stage_is_refused(
    make_site: MakeSite, gitlab: GitLab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One line, before anything is submitted; in the job it goes on."""
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "sitecustomize.py").write_text("import crestline_gitlab_runner.sandbox as s; s.PATH = '/nonexistent'\n")
    site = make_site("gateway")
    site.custom.environment["PYTHONPATH"] = str(broken)
    build = site.run(gitlab, CiJob(script=["true"]))
    assert build.reason == "runner_system_failure"
    assert "prepare_script" not in build.stages
    assert "git cannot be confined" in build.text
    assert "stages.get_sources" in build.text
    job = CiJob(script=["echo x >f"], variables={"GIT_STRATEGY": "none"}, artifacts=[{"paths": ["f"]}])
    build = site.run(gitlab, job)
    assert build.reason == "runner_system_failure"
    assert "no process can be confined" in build.text
    assert job.id not in gitlab.artifacts
    site = make_site("gateway", stages={"artifacts": "unconfined"})
    site.custom.environment["PYTHONPATH"] = str(broken)
    assert site.run(gitlab, job).state == "success", "the operator says so"
