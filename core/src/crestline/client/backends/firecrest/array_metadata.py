"""Output paths of an array's elements, where plain FirecREST tells those of one element for all.

Of an array it shows one record: that of the last element under the array's id, or of the elements that still wait,
whose index Slurm writes as 4294967294.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

import msgspec

from crestline.client.job_ids import parent
from crestline.model import InvalidRequestError, Job, JobState
from crestline.model.sbatch import parse_directives

_NO_INDEX = 4294967294
_PARTS = re.compile(r"(\d+)(?:-(\d+)(?::(\d+))?)?")


def is_of_array(record: Job) -> bool:
    """Whether this one record stands for an array."""
    return record.job_id.isalnum() and "array" in _options(record)


def of_elements(record: Job, indexes: Iterable[int]) -> list[Job]:
    """The records of these elements; a path that cannot be derived is None."""
    options = _options(record)
    output, error = options.get("output"), options.get("error", options.get("output"))
    last = _last(options.get("array", ""))
    return [
        msgspec.structs.replace(
            record,
            job_id=f"{record.job_id}_{index}",
            stdout=_path(record.stdout, output, record.job_id, last, index),
            stderr=_path(record.stderr, error, record.job_id, last, index),
        )
        for index in indexes
    ]


def missing_element(record: Job, jobs: Iterable[Job]) -> Job | None:
    """An element of the array that is in none of these rows, as a job that goes on; None if there is none.

    Args:
        record: the array's metadata.
        jobs: the rows that an answer has of it.
    """
    jobs = list(jobs)
    shown = [span for job in jobs for span in _spans(job.job_id.partition("_")[2].strip("[]"))]
    for span in _spans(_options(record).get("array", "")):
        for index in span:
            if not any(index in each for each in shown):
                job_id = f"{parent(record.job_id)}_{index}"
                return Job(job_id=job_id, state=JobState.RUNNING, name=jobs[0].name, system=jobs[0].system)
    return None


def _options(record: Job) -> dict[str, str]:
    try:
        return parse_directives(record.script or "").options
    except InvalidRequestError:
        return {}


def _path(path: str | None, pattern: str | None, array_id: str, last: int, index: int) -> str | None:
    if path is None:
        return None
    shown = _NO_INDEX if str(_NO_INDEX) in path else last
    if index == shown:
        return path
    if pattern is not None:
        as_shown, wanted = (pattern.replace("%A", array_id).replace("%a", str(each)) for each in (shown, index))
        if "%" not in wanted and path.endswith(as_shown):
            return path.removesuffix(as_shown) + wanted
    place = PurePosixPath(path)
    for shown_as, becomes in ((f"{array_id}_{shown}", f"{array_id}_{index}"), (str(_NO_INDEX), str(index))):
        if _holds(place.name, shown_as):
            name = re.sub(rf"(?<!\d){shown_as}(?!\d)", becomes, place.name)
            # Without a pattern in it, the directory is the same for all; a number in its name says nothing.
            is_fixed = pattern is None or "%" not in str(PurePosixPath(pattern).parent)
            return str(place.with_name(name)) if is_fixed or not _holds(str(place.parent), str(shown)) else None
    varies = _holds(path, str(shown)) or _holds(path, array_id)  # `%a`, or `%j`, which is another number for each
    return None if varies else path


def _holds(text: str, number: str) -> bool:
    return re.search(rf"(?<!\d){number}(?!\d)", text) is not None


def _last(array: str) -> int:
    """The highest index of `0-9:3,20%2`."""
    return max((span[-1] for span in _spans(array) if span), default=0)


def _spans(array: str) -> list[range]:
    """The indexes of `0-9:3,20%2`."""
    return [
        range(int(first), int(last or first) + 1, int(step or 1) or 1)
        for first, last, step in _PARTS.findall(array.partition("%")[0])
    ]
