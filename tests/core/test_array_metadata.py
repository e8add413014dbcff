"""Output paths of an array's elements, from the one record that plain FirecREST shows."""

from __future__ import annotations

import pytest

from crestline.client.backends.firecrest.array_metadata import of_elements
from crestline.model import Job, JobState


@pytest.mark.parametrize("directory", ["/scratch/run", "/scratch/2/run", "/home/user2/1_2", "/a/2"])
@pytest.mark.parametrize("pattern", [None, "slurm-%A_%a.out"])
def test_numbers_in_the_directory_do_not_matter(directory: str, pattern: str | None) -> None:
    option = f"#SBATCH --output={pattern}\n" if pattern else ""
    record = Job(
        job_id="1",
        state=JobState.COMPLETED,
        script=f"#!/bin/sh\n#SBATCH --array=0-2\n{option}true\n",
        stdout=f"{directory}/slurm-1_2.out",
    )
    assert [each.stdout for each in of_elements(record, [0, 1, 2])] == [
        f"{directory}/slurm-1_{index}.out" for index in range(3)
    ]
