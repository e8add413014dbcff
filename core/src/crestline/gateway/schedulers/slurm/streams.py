"""Paths of a job's standard streams: sbatch(1), "filename pattern"."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass

from crestline.gateway.schedulers.slurm import ids as job_ids
from crestline.model import InvalidRequestError
from crestline.model.sbatch import parse_directives
from crestline.wire.compute import JobInfo, JobMetadata


@dataclass(frozen=True)
class Streams:
    """Slurm's data on a job's streams: paths with patterns, relative to the working directory."""

    raw_id: str
    """Slurm's number of the job."""
    stdin: str | None
    """None: /dev/null."""
    stdout: str | None
    """None: Slurm's default."""
    stderr: str | None
    """None: the file of the output."""


def job_metadata(job: JobInfo, script: str | None, streams: Streams) -> JobMetadata:
    """Return script and streams of a job, with absolute paths."""
    default = "slurm-%A_%a.out" if "_" in job.job_id else "slurm-%j.out"
    stdout = _path(job, streams.raw_id, streams.stdout or default)
    return JobMetadata(
        job_id=job.job_id,
        script=script,
        standard_input=_path(job, streams.raw_id, streams.stdin) if streams.stdin else "/dev/null",
        standard_output=stdout,
        standard_error=_path(job, streams.raw_id, streams.stderr) if streams.stderr else stdout,
    )


def options_of(script: str) -> Mapping[str, str]:
    """Return the options of a script that sbatch accepted. It may be long, so call this in a thread."""
    try:
        return parse_directives(script).options
    except InvalidRequestError:
        return {}  # sbatch accepted it, even if it is invalid here


def asked_for(options: Mapping[str, str], submit_line: str) -> Mapping[str, str]:
    """Return `input`, `output` and `error` as requested by options of our sbatch command or by `#SBATCH` lines."""
    return {
        **options,
        **dict(re.findall(r" --(input|output|error)=(.*?)(?= --[a-z]+=|$)", submit_line, re.DOTALL)),
    }


def _path(job: JobInfo, raw_id: str, pattern: str) -> str:
    return posixpath.join(job.working_directory, _expand(job, raw_id, pattern))


def _expand(job: JobInfo, raw_id: str, pattern: str) -> str:
    if "\\" in pattern:  # a backslash disables the patterns
        return pattern.replace("\\", "")
    whole, _, part = job.job_id.partition("_")
    numbers = {"A": job_ids.family(whole), "a": part or "4294967294", "j": raw_id, "J": raw_id, "n": "0", "t": "0"}
    words = {"%": "%", "s": "batch", "u": job.user or "", "x": job.name}
    if job.nodes:
        words["N"] = _first(job.nodes)

    def value(match: re.Match[str]) -> str:
        width, letter = match.groups()
        if letter in numbers:
            return numbers[letter].zfill(min(int(width or 0), 10))
        return words.get(letter, match[0])

    return re.sub(r"%(\d{0,4})([A-Za-z%])", value, pattern)


def _first(hostlist: str) -> str:
    """`nid[003-4,7],x` -> `nid003`"""
    return re.sub(r"\[(\d+)[^\]]*\].*", r"\1", hostlist, flags=re.DOTALL).partition(",")[0]
