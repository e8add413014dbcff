"""Everything that one stand-in consists of, behind its ports; it outlives every outage of them."""

from __future__ import annotations

import time
from typing import NamedTuple

from crestline.testing.firecrest.faults import Faults
from crestline.testing.firecrest.object_store import ObjectStore
from crestline.testing.firecrest.scheduler import Scheduler
from crestline.testing.firecrest.settings import Settings
from crestline.testing.firecrest.tokens import Issuer


class Seen(NamedTuple):
    """One request that arrived. `status` is the one answered, or 0 where the connection was dropped."""

    method: str
    path: str
    query: str
    status: int


class FacilityState:
    """The parts, wired. `requests` lists what arrived at any port but the control's own, in order of their answers,
    `sessions` how many commands run for a user on the system."""

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
        """Stop what runs."""
        self.scheduler.close()
