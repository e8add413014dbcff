"""A list of jobs, to look up what it says about one of them."""

from __future__ import annotations

from collections.abc import Sequence

from crestline import cooperative
from crestline.client.job_ids import find_job, is_element, parent
from crestline.model import Job


class JobIndex:
    """Jobs by their ids, and the elements of arrays by the array's id."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._elements: dict[str, list[Job]] = {}

    @classmethod
    async def build(cls, jobs: Sequence[Job]) -> JobIndex:
        """Sort them in; of an id that is listed twice the first counts."""
        listed = cls()
        async for job in cooperative.each(jobs):
            job_id = job.job_id
            listed._jobs.setdefault(job_id, job)
            if not job_id.isalnum() and (whole := parent(job_id)) != job_id:
                listed._elements.setdefault(whole, []).append(job)
        return listed

    def find(self, job_id: str) -> Job | None:
        """What the list says about `job_id`, None if nothing. The elements of an array say it of the whole."""
        job = self._jobs.get(job_id)
        family = self._elements.get(parent(job_id), [])
        if not family or (job is not None and is_element(job_id)):
            return job
        whole = self._jobs.get(parent(job_id))
        return find_job([whole, *family] if whole is not None else family, job_id)

    def may_be_partial(self, job_id: str) -> bool:
        """Whether it may have left out elements of this array, since it shows some."""
        return not is_element(job_id) and any(job.job_id != job_id for job in self._elements.get(parent(job_id), ()))
