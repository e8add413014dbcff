"""ReFrame's job object.

It has its own file, because ReFrame loads the file of the class again when it restores a session from a report.
"""

from __future__ import annotations

from typing import Any

from reframe.core.schedulers import Job

from crestline_reframe.tracked_job import TrackedJob


class FirecrestJob(Job):  # type: ignore[misc]
    """A ReFrame job that runs on a system behind a gateway."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_array = False
        self._is_cancelling = False
        self._tracked: TrackedJob | None = None
        self._remotedir: str | None = None

    @property
    def is_array(self) -> bool:
        return self._is_array

    @property
    def is_cancelling(self) -> bool:
        """Whether its cancellation was requested."""
        return self._is_cancelling

    @property
    def remotedir(self) -> str | None:
        """Its stage directory on the system; None before it is known."""
        return self._remotedir

    def __rfm_json_encode__(self) -> Any:
        tracked, self._tracked = self._tracked, None
        try:
            return super().__rfm_json_encode__()
        finally:
            self._tracked = tracked
