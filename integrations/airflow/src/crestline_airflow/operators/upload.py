"""Upload files from the worker to a system."""

from __future__ import annotations

import glob
import os
import posixpath
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from crestline.client import BlockingSystem, TransferReport
from crestline.model import FileMissingError, InvalidRequestError
from crestline.model.text import printable
from crestline_airflow.operators.progress import TransferLog
from crestline_airflow.operators.transfer import FirecRESTTransferOperator, transfer_key
from crestline_airflow.operators.unique_names import has_pattern, names_in_one_directory
from crestline_airflow.rendered import required, texts

if TYPE_CHECKING:
    from airflow.sdk import Context


class FirecRESTUploadOperator(FirecRESTTransferOperator):
    """Uploads files and directories with their contents. Files that are already on the system are skipped.

    On a Crestline gateway, a file appears only when it is complete, and an interrupted upload resumes where it stopped,
    also in the next try. The XCom is the absolute path on the system, or for a list or a pattern the list of paths.

    Example::

        FirecRESTUploadOperator(task_id="inputs", source_path="structures/", target_path="run1/")

    Args:
        system: the system's name. None: the system of the connection.
        source_path: a file or directory on the worker, a pattern (`*`, `?`, `[...]`, `**`), or a list of these.
        target_path: the target on the system. Relative paths are below the user's default directory. A single file is
            copied into the target if that ends in `/` (then it is created if necessary) or is a directory. For a list
            or a pattern, the target is a directory, in which files keep their names. If two have the same name, they
            all keep the parts of their paths that differ.
        deferrable: wait in the triggerer for the jobs with which a plain FirecREST transfers large files and archives
            directories. The task may be deferred several times. Default: `[operators] default_deferrable`.
    """

    template_fields = ("firecrest_conn_id", "system", "source_path", "target_path")

    def __init__(self, *, source_path: str | Sequence[str], target_path: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.source_path = source_path
        self.target_path = target_path

    def transfer(self, context: Context, *, wait: bool) -> str | list[str]:
        with self.hook.get_conn(self.system) as system:
            key = transfer_key(context)
            target = system.resolve_path(required(self.target_path, "target_path"))
            many = not isinstance(self.source_path, str | os.PathLike | int | float)
            source: str | list[str] = texts(self.source_path) if many else required(self.source_path, "source_path")
            if isinstance(source, str) and (os.path.lexists(source) or not has_pattern(source)):
                self.run_transfers(system, [self._send(system, source, target, wait, key)], context)
                return target
            targets = remote_targets([source] if isinstance(source, str) else source, target)
            for directory in sorted({posixpath.dirname(path) for path in targets.values()}):
                system.mkdir(directory, parents=True)
            transfers = (self._send(system, path, place, wait, key) for path, place in targets.items())
            self.run_transfers(system, transfers, context)
            return list(targets.values())

    def _send(self, system: BlockingSystem, source: str, target: str, wait: bool, key: str) -> TransferReport:
        progress = TransferLog(self.log.info, f"Sending {printable(source)}")
        report = system.upload(source, target, progress=progress, wait=wait, key=key)
        self.log.info(
            "Sent %d bytes in %d files from %s to %s:%s; %d were there already",
            report.bytes,
            report.files,
            printable(source),
            system.name,
            printable(target),
            report.unchanged,
        )
        for name in report.excluded:
            self.log.warning(
                "Left out of %s, being no file, directory or link within it: %s", printable(source), printable(name)
            )
        return report


def remote_targets(sources: Sequence[str], directory: str) -> dict[str, str]:
    """Return the target of each local file or directory. All targets differ.

    Raises:
        FileMissingError: a path does not exist, or nothing matches a pattern.
        InvalidRequestError: no path at all.
    """
    found: list[str] = []
    for source in sources:
        if os.path.lexists(source) or not has_pattern(source):
            matches = [source] if os.path.exists(source) else []
        else:
            matches = sorted(glob.glob(source, recursive=True))
        if not matches:
            raise FileMissingError(
                f"{source} does not exist on this worker.", hint="Look at what ran before, and where."
            )
        found += [os.path.abspath(match) for match in matches]
    if not found:
        raise InvalidRequestError("Nothing is to be sent.", hint="Give a source_path.")
    paths = list(dict.fromkeys(found))
    return dict(zip(paths, [posixpath.join(directory, name) for name in names_in_one_directory(paths)], strict=True))
