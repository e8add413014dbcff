"""Temporary directories for a part of a DAG run."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.sdk import XComArg

from crestline.client import BlockingSystem
from crestline.model import ConflictError, FileMissingError
from crestline_airflow.failures import short_failures
from crestline_airflow.operators.base import FirecRESTBaseOperator
from crestline_airflow.rendered import required

if TYPE_CHECKING:
    from airflow.sdk import Context

_MARK = ".airflow-scratch"
"""Marker file with the task that created the directory. Directories without it are never removed."""


class FirecRESTMakeScratchOperator(FirecRESTBaseOperator):
    """Creates a directory, to be removed by FirecRESTRemoveScratchOperator. The XCom is its absolute path.

    Example::

        FirecRESTMakeScratchOperator(task_id="scratch", path="sweep/{{ run_id }}")

    Args:
        path: a path on the system that does not exist yet. Relative paths are below the user's default directory.

    Raises:
        ConflictError: the path exists, and another task or user created it.
    """

    template_fields = ("firecrest_conn_id", "system", "path")

    def __init__(self, *, path: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.path = path

    def execute(self, context: Context) -> str:
        with short_failures(), self.hook.get_conn(self.system) as system:
            path = posixpath.normpath(system.resolve_path(required(self.path, "path")))
            owner = _owner(context, self.task_id)
            if _exists(system, path) and _mark(system, path) != owner and system.ls(path, hidden=True):
                raise ConflictError(
                    f"{path} on {system.name} is there already, and this task has not made it.",
                    hint="Give each run a path of its own, for example with {{ run_id }} in it.",
                )
            system.mkdir(path, parents=True)
            system.write_text(posixpath.join(path, _MARK), owner)
            self.log.info("Made %s on %s", path, system.name)
            return path


class FirecRESTRemoveScratchOperator(FirecRESTBaseOperator):
    """Removes the directory that a FirecRESTMakeScratchOperator of this DAG run created, with its contents.

    Example::

        make = FirecRESTMakeScratchOperator(task_id="scratch", path="sweep/{{ run_id }}")
        remove = FirecRESTRemoveScratchOperator(task_id="removal", path=make.output, created_by="scratch")
        remove.as_teardown(setups=make)

    Args:
        path: the XCom of that task.
        created_by: the id of that task.

    Raises:
        ConflictError: that task did not create the directory.
    """

    template_fields = ("firecrest_conn_id", "system", "path")

    def __init__(self, *, path: str | XComArg, created_by: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.path = path
        self.created_by = created_by

    def execute(self, context: Context) -> None:
        with short_failures(), self.hook.get_conn(self.system) as system:
            path = required(self.path, "path")
            if not _exists(system, path):
                self.log.info("%s on %s is gone already", path, system.name)
                return
            if _mark(system, path) != _owner(context, self.created_by):
                raise ConflictError(
                    f"{path} on {system.name} was not made by {self.created_by!r} in this run; it stays.",
                    hint="Give `path` the XCom of that task.",
                )
            system.remove(path, force=True)
            self.log.info("Removed %s on %s", path, system.name)


@contextmanager
def scratch_directory(
    path: str,
    *,
    task_id: str = "scratch",
    system: str | None = None,
    firecrest_conn_id: str | None = None,
) -> Iterator[XComArg]:
    """Return a setup task that creates a directory, with a teardown that removes it even if tasks between them fail.

    Example::

        with scratch_directory("sweep/{{ run_id }}") as scratch:
            FirecRESTSubmitOperator(task_id="job", command="srun pw.x", working_dir=scratch)

    Args:
        path: a path that does not exist yet. Relative paths are below the user's default directory.
        task_id: the id of the setup task. The id of the teardown is `<task_id>_removal`.
        system: the system's name. None: that of the DAG's `default_args`, or the system of the connection.
        firecrest_conn_id: the Airflow connection. None: that of the DAG's `default_args`, or the default one.

    Returns:
        The directory's absolute path, for templated arguments of the tasks between the two.
    """
    given = {"system": system, "firecrest_conn_id": firecrest_conn_id}
    place: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    make = FirecRESTMakeScratchOperator(task_id=task_id, path=path, **place)
    made = XComArg(make)
    remove = FirecRESTRemoveScratchOperator(
        task_id=f"{task_id}_removal",
        path=made,
        created_by=make.task_id,
        **place,
    )
    with remove.as_teardown(setups=make):
        yield made


def _owner(context: Context, task_id: str) -> str:
    ti: Any = context["ti"]
    return hashlib.sha256("\0".join((ti.dag_id, ti.run_id, task_id, str(ti.map_index))).encode()).hexdigest()


def _exists(system: BlockingSystem, path: str) -> bool:
    try:
        system.stat(path)
    except FileMissingError:
        return False
    return True


def _mark(system: BlockingSystem, path: str) -> str | None:
    try:
        return system.read_text(posixpath.join(path, _MARK)).strip()
    except FileMissingError:
        return None
