"""Run the same work for several arguments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from crestline.cli.errors import report
from crestline.model import CrestlineError


class Several:
    """Continues with the other arguments if one of them fails. Errors are reported, and the command fails at the end.

    Args:
        names: the arguments as the user wrote them.
        json: report errors as JSON objects.
    """

    def __init__(self, names: Sequence[str], *, json: bool = False) -> None:
        self._is_one = len(names) < 2
        self._json = json
        self._failure: CrestlineError | None = None

    @contextmanager
    def one(self, name: str) -> Iterator[None]:
        """Process one argument. An error that concerns only this argument is held back for `raise_any`."""
        from crestline.client.files.failures import concerns_one

        try:
            yield
        except CrestlineError as error:
            if self._is_one or not concerns_one(error):
                raise
            if name not in error.message:
                error.message = f"{name}: {error.message}"
            self._report()
            self._failure = error

    def raise_any(self) -> None:
        """Raise if any argument failed.

        Raises:
            CrestlineError: the last failure. Earlier ones are already reported.
        """
        if self._failure is not None:
            raise self._failure

    def _report(self) -> None:
        if self._failure is not None:
            report(self._failure, as_json=self._json)
