"""A task that waits for files on a system."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import PokeReturnValue

from crestline.model.text import printable
from crestline_airflow.rendered import required, single
from crestline_airflow.sensors.base import FirecRESTBaseSensor
from crestline_airflow.sensors.triggers import FirecRESTFileSensorTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context


class FirecRESTFileSensor(FirecRESTBaseSensor):
    """Waits until a file or directory exists.

    Another program may still be writing it then. Files that this package uploads to a Crestline gateway appear when
    they are complete. The XCom is the list of matching paths.

    Example::

        FirecRESTFileSensor(task_id="arrived", path="/scratch/shared/observations/*.h5", deferrable=True)

    Args:
        path: a path on the system, or a pattern (`*`, `?`, `[...]`). A relative path is below the user's default
            directory.
    """

    template_fields = ("firecrest_conn_id", "system", "path")

    def __init__(self, *, path: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.path = path

    def trigger(self) -> FirecRESTFileSensorTrigger:
        system, path = single(self.system, "system"), required(self.path, "path")
        return FirecRESTFileSensorTrigger(self.firecrest_conn_id, system, path, self.poke_interval)

    def execute_complete(self, context: Context, event: Any) -> list[str]:
        """Resume after the deferral: the files exist."""
        return list(self.payload(event))

    def poll_once(self) -> PokeReturnValue:
        with self.hook.get_conn(self.system) as system:
            found = system.glob(system.resolve_path(required(self.path, "path")))
            self.log.info("%s on %s: %s", self.path, system.name, printable(", ".join(found)) or "not there yet")
        return PokeReturnValue(is_done=bool(found), xcom_value=found)
