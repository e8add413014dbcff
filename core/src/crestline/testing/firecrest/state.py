"""The state of a stand-in behind its ports, which persists during outages."""

from __future__ import annotations

import time
from typing import NamedTuple

from crestline.testing.firecrest.faults import Faults
from crestline.testing.firecrest.object_store import ObjectStore
from crestline.testing.firecrest.scheduler import Scheduler
from crestline.testing.firecrest.settings import Settings
from crestline.testing.firecrest.tokens import Issuer


class Seen(NamedTuple):
    """A request that arrived. `status` is that of the response, or 0 if the connection was dropped."""

    method: str
    path: str
    query: str
    status: int


class FacilityState:
    """The components of a stand-in. `requests` records all requests except control calls, in the order of their
    responses. `sessions` counts the running commands of each user."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.faults = Faults()
        self.issuer = Issuer(settings, self.faults)
        self.scheduler = Scheduler(settings)
        self.store = ObjectStore(settings)
        self.requests: list[Seen] = []
        self.sessions: dict[str, int] = {}
        self.began = time.time()

    def close(self) -> None:
        """Stop all components."""
        self.scheduler.close()
