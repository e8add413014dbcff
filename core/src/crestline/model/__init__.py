"""The types that all parts of Crestline use: jobs and their states, files, resources of systems, and errors.

This package contains no code for HTTP, a scheduler or a host framework, and imports no other part of Crestline.
"""

from crestline.model.endings import describe_end, end_hint, end_reason
from crestline.model.errors import (
    AuthenticationError,
    ConfigError,
    ConflictError,
    CrestlineError,
    FileMissingError,
    GatewayUnavailableError,
    InvalidRequestError,
    JobFailedError,
    JobNotFoundError,
    MaintenanceError,
    NoEligibleSiteError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitedError,
    SubmitLimitError,
    SubmitOutcomeUnknownError,
    SystemNotFoundError,
    TooLargeError,
    TransferError,
    UnsupportedError,
    WaitTimeoutError,
)
from crestline.model.files import File, FileType
from crestline.model.job import Job, JobSpec, JobTimes, JobUsage
from crestline.model.resources import Account, Allocation, Node, Partition, Reservation
from crestline.model.script import render_script
from crestline.model.state import JobState, normalize_state

__all__ = [
    "Account",
    "Allocation",
    "AuthenticationError",
    "ConfigError",
    "ConflictError",
    "CrestlineError",
    "File",
    "FileMissingError",
    "FileType",
    "GatewayUnavailableError",
    "InvalidRequestError",
    "Job",
    "JobFailedError",
    "JobNotFoundError",
    "JobSpec",
    "JobState",
    "JobTimes",
    "JobUsage",
    "MaintenanceError",
    "NoEligibleSiteError",
    "Node",
    "NotFoundError",
    "Partition",
    "PermissionDeniedError",
    "RateLimitedError",
    "Reservation",
    "SubmitLimitError",
    "SubmitOutcomeUnknownError",
    "SystemNotFoundError",
    "TooLargeError",
    "TransferError",
    "UnsupportedError",
    "WaitTimeoutError",
    "describe_end",
    "end_hint",
    "end_reason",
    "normalize_state",
    "render_script",
]
