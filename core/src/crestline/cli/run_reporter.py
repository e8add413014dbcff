"""Progress reports of `run`: remarks on stderr with the job's output, or everything as JSON lines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from crestline.cli.outcome import describe_end
from crestline.cli.output import note, print_json, write
from crestline.model import CrestlineError, Job, JobState

if TYPE_CHECKING:
    from crestline.client import JobEvent
    from crestline.client.files import TransferReport


_SHOWN = 8
"""Maximum number of names in one sentence."""


class RunReporter:
    """Reports the events of one `crestline run`: sentences on stderr, or with `json` one JSON object per line."""

    def __init__(self, json: bool) -> None:
        self._json = json

    def _print(self, event: str, sentence: str, **facts: Any) -> None:
        if self._json:
            print_json({"event": event, **facts})
        else:
            note(sentence)

    def uploaded(self, source: Path, report: TransferReport) -> None:
        """Report that an `--upload` is complete."""
        sentence = f"Uploaded {source}: {report.files} sent, {report.unchanged} there already."
        if report.excluded:
            more = f" and {len(report.excluded) - _SHOWN} more" if len(report.excluded) > _SHOWN else ""
            sentence += f" Left out: {', '.join(report.excluded[:_SHOWN])}{more} (--include PATTERN sends it)."
        self._print("uploaded", sentence, source=str(source), **msgspec.to_builtins(report))

    def submitted(self, job: Job, workdir: str) -> None:
        self._print("submitted", f"Job {job.job_id} submitted in {workdir}.", job_id=job.job_id, workdir=workdir)

    def attached(self, job: Job, workdir: str) -> None:
        """Report that the job of the run's key was found."""
        self._print("attached", f"Job {job.job_id} found in {workdir}.", job_id=job.job_id, workdir=workdir)

    def state(self, event: JobEvent) -> None:
        """Report a change of the job's state, except for its submission and its end."""
        if event.state.is_terminal or event.state is JobState.SUBMITTED:  # other methods report these
            return
        reason = "" if event.reason in ("", "None") else f" ({event.reason})"
        self._print(
            "state",
            f"Job {event.job.job_id} {event.state}{reason}.",
            job_id=event.job.job_id,
            state=event.state,
            reason=event.reason,
        )

    def output(self, stream: str, text: str) -> None:
        """Print a chunk of the job's output. `stream` is `stdout` or `stderr`."""
        if self._json:
            print_json({"event": "output", "stream": stream, "text": text})
            return
        write(text, stream)

    def cancelled(self, job: Job) -> None:
        """Report that the job was cancelled because the command was interrupted."""
        self._print("cancelled", f"Job {job.job_id} cancelled.", job_id=job.job_id)

    def collected(self, pattern: str, report: TransferReport) -> None:
        """Report that the files of a `--collect` pattern were fetched."""
        sentence = f"Collected {pattern}: {report.files} fetched, {report.unchanged} here already."
        self._print("collected", sentence, source=pattern, **msgspec.to_builtins(report))

    def not_collected(self, pattern: str, error: CrestlineError) -> None:
        """Report that the files of a `--collect` pattern could not be fetched."""
        self._print("not_collected", f"Not collected: {error}", source=pattern, message=str(error))

    def ended(self, job: Job, code: int) -> None:
        """Report the end of the job and the exit code of the command."""
        self._print("ended", f"{describe_end(job)}.", job=job, exit_code=code)
