"""The runner: the calls of the custom executor in their order, and the result of the job.

Each version quotes its scripts as `scripts.py` describes. Version 17.9 adds BUILD_EXIT_CODE_FILE, and 17.4 names the
script `script`. Version 14 ends a cancelled job without after_script, and lacks cleanup_file_variables.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from crestline.testing.gitlab_runner import environment
from crestline.testing.gitlab_runner.ci_job import CiJob
from crestline.testing.gitlab_runner.executor import Call, Custom, Executor, StopError
from crestline.testing.gitlab_runner.gitlab import GitLab
from crestline.testing.gitlab_runner.scripts import Scripts, chosen

TRIES = 3


class Build:
    """One job that the stand-in runs in its own thread.

    Example::

        with Build(custom, gitlab, CiJob(script=["make"]), sha) as build:
            assert build.wait().state == "success"
    """

    def __init__(
        self,
        custom: Custom,
        gitlab: GitLab,
        job: CiJob,
        sha: str,
        *,
        version: str = "19.4.0",
        script_timeout: float | None = None,
        before_call: Callable[[str], None] | None = None,
        on_output: Callable[[bytes], None] | None = None,
    ) -> None:
        self.job = job
        self.state = ""
        """`success`, `failed` or `canceled`"""
        self.reason = ""
        self.exit_code: int | None = None
        self._custom = custom
        self._gitlab = gitlab
        self._sha = sha
        self._version = version
        self._modern = tuple(map(int, version.split(".")[:2])) >= (17, 9)
        self._script_timeout = script_timeout
        self._executor = Executor(custom, modern=self._modern, before_call=before_call, on_output=on_output)
        self._aborted = self._executor.aborted
        self._cancelled = threading.Event()
        self._job_env: dict[str, str] = {}
        self._variables: dict[str, str] = {}
        self._builds_dir = self._cache_dir = ""
        self._temporary = ""
        self._thread = threading.Thread(target=self._run, daemon=True)

    # Control of the job in tests.

    def __enter__(self) -> Build:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread.is_alive():
            self.abort()
            self._thread.join(120)

    def wait(self, seconds: float = 240) -> Build:
        """Wait until the job has ended.

        Raises:
            TimeoutError: the job has not ended within `seconds`.
        """
        self._thread.join(seconds)
        if self._thread.is_alive():
            raise TimeoutError(f"the job did not end:\n{self.text}")
        return self

    def wait_for(self, text: str, seconds: float = 120) -> None:
        """Wait until the log contains `text`.

        Raises:
            TimeoutError: the log lacks the text after `seconds`.
        """
        if not self._executor.wait_for(text.encode(), seconds):
            raise TimeoutError(f"{text!r} is not in the log:\n{self.text}")

    def wait_for_stage(self, stage: str, seconds: float = 120) -> int:
        """Wait until the process of a stage runs, and return its pid.

        Raises:
            TimeoutError: the stage has not started within `seconds`.
        """
        pid = self._executor.wait_for_stage(stage, seconds)
        if pid is None:
            raise TimeoutError(f"{stage} was not reached:\n{self.text}")
        return pid

    @property
    def running_pid(self) -> int | None:
        """Process id of the running call; None between calls."""
        return self._executor.running_pid

    def cancel(self) -> None:
        """Cancel the job as the button in GitLab does. The script ends; later stages still run (not in version 14)."""
        self._cancelled.set()
        if not self._modern and self._version.startswith("14."):
            self._aborted.set()

    def abort(self) -> None:
        """Abort the job as a job timeout, a forced cancel or a stop of the runner does. Only cleanup still runs."""
        self._aborted.set()

    def kill_runner(self) -> None:
        """Kill the runner. No further stage is called, and the pipe has no reader."""
        self._executor.killed = True
        self._aborted.set()

    @property
    def log(self) -> bytes:
        """Output of the executor before masking."""
        return self._executor.log

    @property
    def runner_log(self) -> bytes:
        """Output of cleanup, which does not reach the job's log."""
        return self._executor.runner_log

    @property
    def calls(self) -> list[Call]:
        """Finished calls so far."""
        return self._executor.calls

    @property
    def text(self) -> str:
        """The job's log as GitLab shows it: masked variables, and the job's token, are not in it."""
        shown = self.log.decode(errors="replace")
        for secret in (*self.job.masked_variables.values(), self.job.token):
            shown = shown.replace(secret, "[MASKED]")
        return shown + (f"\n--- cleanup:\n{self.runner_log.decode()}" if self.runner_log else "")

    @property
    def stages(self) -> list[str]:
        """Names of the calls, in order."""
        return [call.stage for call in self.calls]

    # Stages of the job.

    def _run(self) -> None:
        try:
            self._prepare()
            self._build()
            self.state = "success"
        except StopError as stop:
            self.state, self.reason, self.exit_code = "failed", stop.reason, stop.code
            if self._cancelled.is_set():
                self.state = "canceled"
        finally:
            if not self._executor.killed and self._temporary:
                self._cleanup()
            self._executor.end()

    def _prepare(self) -> None:
        error = StopError("runner_system_failure")
        for number in range(TRIES):
            if number:
                time.sleep(self._custom.pause)
            self._temporary = tempfile.mkdtemp(prefix="custom-executor")
            response = environment.response(self._gitlab, self.job, self._sha, version=self._version)
            file = Path(self._temporary, "response.json")
            file.touch(0o600)
            file.write_bytes(environment.encoded(response))
            self._set_variables()
            try:
                self._read_config(self._call("config", self._custom.config, stdout_is_answer=True))
                self._set_variables()
                self._call("prepare", self._custom.prepare)
                return
            except StopError as stop:
                error = stop
                if self._executor.killed:
                    raise
                self._cleanup()
                self._temporary = ""
                if stop.reason == "script_failure" or self._aborted.is_set():
                    raise
        raise error

    def _read_config(self, answer: bytes) -> None:
        try:
            config = json.loads(answer) if answer.strip() else {}
        except ValueError:
            raise StopError("runner_system_failure") from None
        self._builds_dir = config.get("builds_dir", "")
        self._cache_dir = config.get("cache_dir", "")
        self._job_env = config.get("job_env") or {}
        if not self._builds_dir:
            raise StopError("runner_configuration_error")

    def _set_variables(self, **changes: str) -> None:
        self._variables = (
            environment.variables(
                self._gitlab,
                self.job,
                self._sha,
                version=self._version,
                builds_dir=self._builds_dir,
                cache_dir=self._cache_dir,
            )
            | changes
        )

    def _build(self) -> None:
        failure = self._before_and_script()
        if self._aborted.is_set():
            raise failure or StopError("job_execution_timeout")
        failed = failure is not None
        scripts = self._scripts()
        if chosen(self.job.cache, failed=failed):
            self._quietly(
                "archive_cache_on_failure" if failed else "archive_cache", scripts.archive_cache(failed=failed)
            )
        if chosen(self.job.artifacts, failed=failed):
            stage = "upload_artifacts_on_failure" if failed else "upload_artifacts_on_success"
            upload = self._try(stage, scripts.upload_artifacts(failed=failed))
            failure = failure or upload
        if not self._version.startswith("14."):
            self._quietly("cleanup_file_variables", scripts.cleanup_file_variables())
        if failure is not None:
            raise failure

    def _before_and_script(self) -> StopError | None:
        scripts = self._scripts()
        self._stage("prepare_script", scripts.prepare_script())
        if (failure := self._get_sources(scripts)) is not None:
            return failure
        for stage, wanted, content in (
            ("restore_cache", bool(self.job.cache), scripts.restore_cache),
            ("download_artifacts", bool(self.job.dependencies), scripts.download_artifacts),
        ):
            if wanted and (failure := self._try(stage, content())) is not None:
                return failure
        failure = None
        for stage, lines in (("build_script", self.job.script), *self.job.more_steps.items()):
            timer = threading.Timer(self._script_timeout, self._cancelled.set) if self._script_timeout else None
            if timer and stage == "build_script":
                timer.start()
            failure = self._try(stage, self._scripts().build_script(lines), until=self._cancelled)
            if timer:
                timer.cancel()
            if failure is not None:
                break
        if self._aborted.is_set() or not self.job.after_script:
            return failure
        status = "success" if failure is None else "failed"
        if self._cancelled.is_set():
            status = "timedout" if self._script_timeout else "canceled"
        self._set_variables(CI_JOB_STATUS=status)
        self._quietly("after_script", self._scripts().build_script(self.job.after_script))
        return failure

    def _get_sources(self, scripts: Scripts) -> StopError | None:
        failure = None
        for attempt in range(int(self._variables.get("GET_SOURCES_ATTEMPTS", "1"))):
            if attempt and (failure := self._try("clear_worktree", scripts.clear_worktree())) is not None:
                continue
            if (failure := self._try("get_sources", scripts.get_sources())) is None:
                break
        return failure

    def _scripts(self) -> Scripts:
        return Scripts(self._gitlab, self.job, self._variables, self._sha, version=self._version)

    def _try(self, stage: str, script: bytes, *, until: threading.Event | None = None) -> StopError | None:
        try:
            self._stage(stage, script, until=until)
        except StopError as stop:
            if self._aborted.is_set():
                raise
            return stop
        return None

    def _quietly(self, stage: str, script: bytes) -> None:
        if self._try(stage, script) is not None:
            self._executor.write(f"WARNING: {stage} failed\n".encode())

    # Calls of the executor.

    def _stage(self, stage: str, script: bytes, *, until: threading.Event | None = None) -> None:
        folder = tempfile.mkdtemp(prefix="script", dir=self._temporary)
        path = Path(folder, "script" if self._modern else "script.")
        path.touch(0o700)
        path.write_bytes(script)
        self._call(stage, [*self._custom.run, str(path), stage], until=until)

    def _cleanup(self) -> None:
        with contextlib.suppress(StopError):  # the real runner ignores this error
            self._call("cleanup", self._custom.cleanup, to_job_log=False, interruptible=False)
        shutil.rmtree(self._temporary, ignore_errors=True)

    def _call(self, stage: str, command: list[str], **options: Any) -> bytes:
        variables = environment.call_environment(
            self._custom.environment, self._temporary, self._job_env, self._variables, code_file=self._modern
        )
        return self._executor.call(stage, command, folder=self._temporary, environment=variables, **options)
