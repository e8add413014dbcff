"""Parts that die, hang or lose their connections, one after the other, in an order that a seed gives."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

Fault = Callable[[float], None]
"""does it, and has mended it after so many seconds when it returns"""


@dataclass
class Faults:
    """Within the `with` block the faults happen, in a thread; what went wrong with one is raised at its end."""

    faults: dict[str, Fault]
    seed: int
    pause: float
    """seconds between two of them, about"""
    happened: Counter[str] = field(default_factory=Counter)

    def __enter__(self) -> Faults:
        self._over = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        if error is None and self._failure is not None:
            raise self._failure

    def until_each_happened(self, times: int, seconds: float) -> None:
        """Return when every fault has happened so many times."""
        deadline = time.monotonic() + seconds
        while any(self.happened[name] < times for name in self.faults):
            if self._failure is not None:
                raise self._failure
            if time.monotonic() > deadline:
                raise TimeoutError(f"of all faults there were only {dict(self.happened)}")
            time.sleep(0.2)

    def _run(self) -> None:
        luck = random.Random(self.seed)
        try:
            while True:
                # Every fault in turn, each turn in another order: a short run has them all.
                for name in luck.sample(sorted(self.faults), len(self.faults)):
                    if self._over.wait(luck.uniform(0.5, 1.5) * self.pause):
                        return
                    self.faults[name](luck.uniform(0.5, 3.0))
                    self.happened[name] += 1
        except BaseException as error:
            self._failure = error
