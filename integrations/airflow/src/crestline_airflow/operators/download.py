"""Download files from a system to the worker."""

from __future__ import annotations

import glob
import os
import posixpath
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crestline.client import BlockingSystem, TransferReport
from crestline.model import FileMissingError, InvalidRequestError
from crestline.model.text import printable
from crestline_airflow.operators.progress import TransferLog
from crestline_airflow.operators.transfer import FirecRESTTransferOperator, transfer_key
from crestline_airflow.operators.unique_names import has_pattern, names_in_one_directory
from crestline_airflow.rendered import required, single, texts

if TYPE_CHECKING:
    from airflow.sdk import Context


class FirecRESTDownloadOperator(FirecRESTTransferOperator):
    """Downloads files and directories, for example the output of a job. Skips files that are already on the worker.

    A file appears on the worker only when it is complete and verified. An interrupted download resumes where it
    stopped, also in the next try if that runs on the same worker. The XCom is the list of the paths on the worker.

    Example::

        FirecRESTDownloadOperator(task_id="results", target_task_id="scf", remote_files="*.xml", local_path="out/")

    Args:
        system: the system's name. None: the system of the connection.
        local_path: the target on the worker. It is a directory if it ends in `/`, or if there are several files or
            patterns. Otherwise it is the new name of the file or directory. Files keep their names in a directory. If
            two have the same name, they all keep the parts of their paths that differ.
        target_task_id: a FirecRESTSubmitOperator of this DAG run. Relative `remote_files` are below its job's working
            directory, and the job's id replaces `{job_id}` (or `{_jobid_}`) in them. Without `remote_files`, the
            operator downloads the job's stdout.
        remote_files: one path or pattern (`*`, `?`, `[...]`), or several. Without `target_task_id`, relative paths are
            below the user's default directory.
        deferrable: wait in the triggerer for the jobs with which a plain FirecREST transfers large files and archives
            directories. The task may be deferred several times. Default: `[operators] default_deferrable`.
    """

    template_fields = ("firecrest_conn_id", "system", "local_path", "target_task_id", "remote_files")

    def __init__(
        self,
        *,
        local_path: str,
        target_task_id: str | None = None,
        remote_files: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.local_path = local_path
        self.target_task_id = target_task_id
        self.remote_files = remote_files

    def transfer(self, context: Context, *, wait: bool) -> list[str]:
        target_task_id = single(self.target_task_id, "target_task_id")
        job = self._job(context, target_task_id) if target_task_id else None
        local_path = required(self.local_path, "local_path")
        remote_files = texts(self.remote_files)
        with self.hook.get_conn(self.system) as system:
            if job is not None:
                paths = [_of_job(path, job) for path in remote_files] or [job["stdout"]]
            else:
                paths = [system.resolve_path(path) for path in remote_files]
            into = f"{local_path}/" if any(map(has_pattern, paths)) else local_path
            paths = _expanded(system, paths)
            if len(paths) == 1 and not into.endswith(("/", os.sep)) and _is_directory(system, paths[0]):
                targets = {paths[0]: Path(into)}  # exists already if this is not the first try
            else:
                targets = local_targets(paths, into)
            key = transfer_key(context)
            transfers = (self._fetch(system, path, target, wait, key) for path, target in targets.items())
            self.run_transfers(system, transfers, context)
        return [str(target) for target in targets.values()]

    def _fetch(self, system: BlockingSystem, path: str, target: Path, wait: bool, key: str) -> TransferReport:
        target.parent.mkdir(parents=True, exist_ok=True)
        progress = TransferLog(self.log.info, f"Fetching {printable(path)}")
        if has_pattern(path):  # already expanded, so these characters are literal
            report = system.download(glob.escape(path), target.parent, progress=progress, wait=wait, key=key)
        else:
            report = system.download(path, target, progress=progress, wait=wait, key=key)
        self.log.info(
            "Fetched %d bytes in %d files from %s:%s to %s; %d were here already",
            report.bytes,
            report.files,
            system.name,
            printable(path),
            printable(str(target)),
            report.unchanged,
        )
        for name in report.excluded:
            self.log.warning("Left out of %s, since it leads out of it: %s", printable(path), printable(name))
        return report

    def _job(self, context: Context, task_id: str) -> dict[str, Any]:
        job = context["ti"].xcom_pull(task_ids=task_id)
        if not isinstance(job, dict) or "job_id" not in job:
            raise InvalidRequestError(
                f"The task {task_id!r} has left no job.",
                hint="target_task_id names a FirecRESTSubmitOperator that runs before this task.",
            )
        return job


def _of_job(path: str, job: dict[str, Any]) -> str:
    for placeholder in ("{job_id}", "{_jobid_}"):
        path = path.replace(placeholder, job["job_id"])
    return posixpath.join(job["working_dir"], path)


def _is_directory(system: BlockingSystem, path: str) -> bool:
    return stat.S_ISDIR(system.stat(path)["mode"])


def _expanded(system: BlockingSystem, paths: Sequence[str]) -> list[str]:
    """Return the paths, with each pattern replaced by its matches.

    Raises:
        FileMissingError: nothing matches a pattern.
    """
    found: list[str] = []
    for path in paths:
        matches = system.glob(path) if has_pattern(path) else [path]
        if not matches:
            raise FileMissingError(
                f"Nothing matches {path} on {system.name}.", hint="List the directory to see what is there."
            )
        found += matches
    return found


def local_targets(paths: Sequence[str], local_path: str) -> dict[str, Path]:
    """Return the target of each remote path. All targets differ.

    Files keep their names in a directory. If two have the same name, they all keep the parts of their paths that
    differ.

    Raises:
        InvalidRequestError: several paths although `local_path` is a file, or no path at all.
    """
    paths = list(dict.fromkeys(posixpath.normpath(path) for path in paths))
    local = Path(local_path)
    if not paths:
        raise InvalidRequestError("Nothing is to be fetched.", hint="Give remote_files or target_task_id.")
    if len(paths) == 1 and not local_path.endswith(("/", os.sep)) and not local.is_dir():
        return {paths[0]: local}
    if local.is_file():
        raise InvalidRequestError(
            f"{local_path} is a file, and {len(paths)} are to be fetched.", hint="Give a directory as local_path."
        )
    return {path: local / name for path, name in zip(paths, names_in_one_directory(paths), strict=True)}
