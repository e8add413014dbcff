"""Describes a transfer as a job, and in the log that FirecREST's clients read."""

from __future__ import annotations

import re
import time

from crestline.gateway.transfers.records import ENDED, Transfer
from crestline.wire.compute import JobInfo, JobStatus, JobTime

_SENTENCES = {
    "upload": "File was successfully uploaded",
    "download": "Multipart file upload successfully completed",
    "cp": "Files were successfully copied",
    "mv": "Files were successfully moved",
    "rm": "Files were successfully deleted",
    "compress": "Files were successfully compressed",
    "extract": "Files were successfully extracted",
}
_SUCCESS = re.compile("Files? (was|were) successfully|upload successfully completed")


def output_log_text(transfer: Transfer, state: str, reason: str) -> str:
    """Return the line of the output log. Clients consider a transfer successful if it has the sentence of success."""
    if state == "COMPLETED":
        return f"{_SENTENCES[transfer.kind]}\n"
    shown = "see the log of errors" if _SUCCESS.search(reason) else reason
    return f"{transfer.kind} {state}: {shown}\n"


def to_job_info(transfer: Transfer) -> JobInfo:
    """Return a transfer as `GET jobs/{id}` shows a job."""
    ended = transfer.state in ENDED
    begin, end = transfer.started, transfer.ended
    return JobInfo(
        job_id=transfer.transfer_id,
        name=f"transfer-{transfer.kind}",
        status=JobStatus(
            # COMPLETING is internal: the logs are being written.
            state="RUNNING" if transfer.state == "COMPLETING" else transfer.state,
            state_reason=transfer.reason or None,
            exit_code=int(transfer.state != "COMPLETED") if ended else None,
        ),
        time=JobTime(
            elapsed=int((end or time.time()) - begin) if begin is not None else 0,
            start=int(begin) if begin is not None else None,
            end=int(end) if end is not None else None,
            submit=int(transfer.created),
        ),
        cluster=transfer.system,
        user=transfer.username,
        working_directory=transfer.directory,
    )
