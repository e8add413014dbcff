"""Optional features of a facility API."""

from __future__ import annotations

import enum
from collections.abc import Iterable


class Capability(enum.StrEnum):
    """Optional feature of an API. The values are the names in a Crestline gateway's header `Crestline-Features`.

    >>> Capability("idempotency-key") is Capability.IDEMPOTENCY_KEY
    True
    """

    IDEMPOTENCY_KEY = "idempotency-key"
    JOB_IDS = "job-ids"
    CONTENT = "content"
    JOB_ETAGS = "job-etags"
    JOB_EVENTS = "job-events"
    BATCH = "batch"
    TAR = "tar"
    API_KEYS = "api-keys"
    SUBMISSION_LOOKUP = "submission-lookup"
    TAR_SELECT = "tar-select"
    JOB_HOLD = "job-hold"
    ALLOCATIONS = "allocations"
    JOB_USAGE = "job-usage"
    SLURM_QUERIES = "slurm-queries"

    @classmethod
    def parse(cls, names: Iterable[str]) -> frozenset[Capability]:
        """Return the known features among `names`. A newer gateway may advertise others."""
        return frozenset(each for each in cls if each.value in set(names))
