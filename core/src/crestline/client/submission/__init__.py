"""Exactly-once submission, whatever answers are lost.

A key names one attempt. A strategy, chosen when a system is opened, ensures that an attempt leads to one job:
`HeaderSubmission` if the API itself recognises repeated keys, `TagSubmission` otherwise.
"""

from __future__ import annotations

from crestline.client.backends.base import Backend
from crestline.client.backends.capabilities import Capability
from crestline.client.policy import SubmitPolicy
from crestline.client.submission.header import HeaderSubmission
from crestline.client.submission.strategy import SubmissionStrategy
from crestline.client.submission.tag import TagSubmission
from crestline.client.submission_lookup import SubmissionLookup

__all__ = ["SubmissionStrategy", "choose_submission"]


def choose_submission(backend: Backend, lookup: SubmissionLookup, policy: SubmitPolicy) -> SubmissionStrategy:
    """The strategy for an open backend."""
    if Capability.IDEMPOTENCY_KEY in backend.capabilities:
        return HeaderSubmission(backend, policy)
    return TagSubmission(backend, lookup, policy)
