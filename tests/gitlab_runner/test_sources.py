"""What of the repository a job finds: strategies of git, submodules, and no secret in what GitLab shows."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import msgspec
import pytest

from crestline.testing.gitlab_runner import CiJob, GitLab, environment
from crestline_gitlab_runner import sandbox, sources
from crestline_gitlab_runner.ci_job import CiJob as Job
from crestline_gitlab_runner.failures import BuildFailureError
from crestline_gitlab_runner.settings import Gateway, Limits, Settings
from crestline_gitlab_runner.state import State
from gitlab_runner.site import DriverSite
from harness.parts import require


def test_strategies_of_git(site: DriverSite, gitlab: GitLab) -> None:
    sha = gitlab.commit({"here.txt": "x"})
    expected = [
        ({"GIT_STRATEGY": "clone"}, "files: here.txt", "in project\n"),
        ({"GIT_STRATEGY": "none"}, "files: none", "in project\n"),
        ({"GIT_STRATEGY": "empty"}, "files: none", "in project-empty\n"),
        ({"GIT_CHECKOUT": "false"}, "files: none", "Skipping Git checkout\n"),
    ]
    script = ["echo files: $(ls here.txt 2>/dev/null || echo none)", "echo in $(basename $PWD)"]
    jobs = [CiJob(script=script, variables=variables) for variables, _, _ in expected]
    for build, (_, files, said) in zip(site.run_together(gitlab, jobs, sha=sha), expected, strict=True):
        assert build.state == "success", build.text
        assert f"{files}\n" in build.text
        assert said in build.text


def test_sources_that_come_at_the_second_attempt(site: DriverSite, gitlab: GitLab) -> None:
    """`fetch` goes on with what an attempt that failed has left on the runner's machine."""
    job = CiJob(script=["cat here.txt"], variables={"GET_SOURCES_ATTEMPTS": "2"})
    sha = gitlab.commit({"here.txt": "it is here\n"})
    gitlab.refuse_clones = 1
    build = site.run(gitlab, job, sha=sha)
    assert build.state == "success", build.text
    assert "it is here\n" in build.text
    assert build.stages.count("get_sources") == 2
    assert "clear_worktree" in build.stages


@pytest.mark.parametrize("strategy", ["normal", "recursive"])
def test_submodules(strategy: str, site: DriverSite, gitlab: GitLab) -> None:
    """The token that fetches them stays on the runner's machine."""
    deeper = gitlab.repository(f"deeper-{strategy}")
    library = gitlab.repository(f"library-{strategy}")
    inner = library.commit(
        {"library.txt": "of the library\n"},
        {"deep": (f"../deeper-{strategy}.git", deeper.commit({"deeper.txt": "of the deeper one\n"}))},
    )
    sha = gitlab.commit({"here.txt": "x"}, {"external/library": (f"../library-{strategy}.git", inner)})
    job = CiJob(
        script=[
            "cat external/library/library.txt",
            "cat external/library/deep/deeper.txt || echo not this deep",
            "git -C external/library status --short",
            "git submodule status",
            'if grep -r "$CI_JOB_TOKEN" .git external ../project.tmp; then echo the token is here; fi',
        ],
        variables={"GIT_SUBMODULE_STRATEGY": strategy, "GIT_SUBMODULE_UPDATE_FLAGS": "--jobs 2"},
    )
    build = site.run(gitlab, job, sha=sha)
    assert build.state == "success", build.text
    assert "of the library\n" in build.text
    assert ("of the deeper one\n" if strategy == "recursive" else "not this deep\n") in build.text
    assert "the token is here\n" not in build.text


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["bubblewrap", "unshare"])
async def test_git_in_each_kind_of_confinement(
    kind: str, gitlab: GitLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = {"bubblewrap": "bwrap", "unshare": "unshare"}[kind]
    require(
        shutil.which(program) is not None, f"there is no `{program}`: install Debian's `bubblewrap` or `util-linux`"
    )
    certificates = next(path for path in Path("/etc/ssl/certs").iterdir() if path.is_file())
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates))  # it lies below what is visible anyhow
    monkeypatch.setattr(sandbox, "_found", [kind])
    library = gitlab.repository(f"confined-{kind}")
    inner = library.commit({"library.txt": "x"})
    sha = gitlab.commit({"here.txt": "x"}, {"lib": (f"../confined-{kind}.git", inner)})
    job = CiJob(script=["true"], variables={"GIT_SUBMODULE_STRATEGY": "normal", "GIT_SUBMODULE_PATHS": "lib"})
    file = tmp_path / "response.json"
    file.write_bytes(environment.encoded(environment.response(gitlab, job, sha, version="19.3.0")))
    variables = {f"CUSTOM_ENV_{name}": value for name, value in job.variables.items()}
    state = State.create(tmp_path / "state", ci_job=1, root="/r")
    read = Job.of_this_process({"JOB_RESPONSE_FILE": str(file), **variables})
    settings = Settings(gateway=Gateway(url="https://g", system="s"))
    await sources.fetch(settings, state, read, "group/project", None)
    project = tmp_path / "state" / "sources" / "group" / "project"
    # Other tests have left their files in this project.
    assert {path.name for path in project.iterdir()} >= {".git", ".gitmodules", "here.txt", "lib"}
    assert (project / "lib" / "library.txt").exists()
    assert [path.name for path in (tmp_path / "state" / "sources").iterdir()] == ["group"]
    assert job.token not in (project / ".git" / "config").read_text()
    for limits in (Limits(members=20), Limits(unpacked="10K")):
        limited = msgspec.structs.replace(settings, limits=limits)
        with pytest.raises(BuildFailureError, match="The sources have more than"):
            await sources.fetch(limited, state, read, "group/project", None)


@pytest.mark.anyio
async def test_git_is_stopped_once_its_files_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few KiB of trees that contain each other become any number of files."""
    monkeypatch.setattr(sources, "_MEASURED_EVERY", 0.05)
    endless = "i=0; while :; do i=$((i + 1)); : >$i; done"

    async def run(*_: object, **__: object) -> tuple[int, bytes]:
        process = await asyncio.create_subprocess_exec("sh", "-c", endless, cwd=tmp_path)
        try:
            return await process.wait(), b""
        finally:
            process.kill()
            await process.wait()

    monkeypatch.setattr(sandbox, "run", run)
    settings = Settings(gateway=Gateway(url="https://g", system="s"), limits=Limits(members=500))
    state = State.create(tmp_path / "state", ci_job=1, root="/r")
    git = sources.Git(settings, state, None, tmp_path, tmp_path, "bubblewrap")  # type: ignore[arg-type]
    with pytest.raises(BuildFailureError, match=r"limits\.members"):
        await git._git("checkout")


def test_masked_variables_are_not_shown(site: DriverSite, gitlab: GitLab) -> None:
    """The runner masks what the driver writes: that works as long as nothing is inserted into the job's own bytes."""
    secret = "pa55word+of/the=project"
    job = CiJob(
        script=[
            'echo "<$PASSWORD>"',
            'printf "%s" "$PASSWORD" | head -c 8; sleep 1.5; printf "%s>\\n" "${PASSWORD#????????}"',
            'echo "$CI_JOB_TOKEN"',
            "exit 3",
        ],
        masked_variables={"PASSWORD": secret},
        after_script=['echo "after: $PASSWORD"'],
    )
    build = site.run(gitlab, job)
    assert build.exit_code == 3, build.text
    assert secret not in build.text
    assert job.token not in build.text
    assert build.text.count("[MASKED]") == 4, build.text
    assert secret not in build.runner_log.decode()
