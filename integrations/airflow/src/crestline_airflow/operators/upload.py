"""Files from the worker to a system."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crestline_airflow.operators.base import FirecRESTBaseOperator, absolute

if TYPE_CHECKING:
    from airflow.sdk import Context


class FirecRESTUploadOperator(FirecRESTBaseOperator):
    """Sends a file, or a directory with all that it holds.

    The XCom is the absolute path on the system, as given.

    Args:
        system: the system's name; None: the one that the connection names.
        source_path: file or directory on the worker.
        target_path: where to on the system; a relative path is below the user's default directory. A file goes into it
            if it ends in `/` (then it is made if need be) or is a directory.
    """

    template_fields = ("system", "source_path", "target_path")

    def __init__(self, *, source_path: str, target_path: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.source_path = source_path
        self.target_path = target_path

    def execute(self, context: Context) -> str:
        with self.hook.get_conn(self.system) as system:
            target = absolute(system, self.target_path)
            report = system.upload(self.source_path, target)
            self.log.info("Sent %d bytes from %s to %s:%s", report.bytes, self.source_path, system.name, target)
            return target
