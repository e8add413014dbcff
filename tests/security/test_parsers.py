"""What Slurm, PBS and people's scripts say, however odd, is read or refused in a typed way; nothing else comes out.

The single notations have their own tests (`tests/gateway/test_*_text.py`, `test_local_directives.py`); here whole
answers go through whole readers, and what was written comes back.
"""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crestline.gateway.hosts import Completed
from crestline.gateway.schedulers.command_lines import CommandLine, outcomes
from crestline.gateway.schedulers.pbs import jobs as pbs_jobs
from crestline.gateway.schedulers.pbs import resources as pbs_resources
from crestline.gateway.schedulers.pbs import submission as pbs_submission
from crestline.gateway.schedulers.pbs.output import read_objects
from crestline.gateway.schedulers.slurm import accounting, queue, restd, restd_jobs
from crestline.gateway.schedulers.slurm import resources as slurm_resources
from crestline.gateway.schedulers.slurm import submission as slurm_submission
from crestline.gateway.schedulers.slurm.streams import Streams, asked_for, job_metadata, options_of
from crestline.model import CrestlineError
from crestline.model.sbatch import parse_directives
from crestline.wire.compute import JobDescription, JobInfo, JobStatus, JobTime

SIZES = [60, pytest.param(5_000, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])]

TEXT = st.text(max_size=40) | st.from_regex(r"[0-9a-zA-Z:,%+T()\[\]/_.*~-]{0,16}") | st.just("9" * 5000)
BYTES = st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode(errors="replace"))
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


class Says:
    """Programs of a batch system that print what was drawn."""

    def __init__(self, cells: list[str], output: bytes) -> None:
        self._cells = cells
        self._output = output

    async def read(self, user: str, program: str, *arguments: str, **_: Any) -> Any:
        mark = re.search("@[A-Za-z0-9_-]{12}(?=,|$| )", " ".join(arguments))
        if mark is None:
            return self._output
        layout = next(each for each in arguments if each.lower().startswith("--format="))
        width = layout.count(",") + 1
        rows = [self._cells[start : start + width] for start in range(0, len(self._cells) - width + 1, width)]
        return "".join("".join(cell + mark[0] for cell in row) + "\n" for row in rows).encode(errors="replace")


class PbsSays(Says):
    async def read(self, user: str, program: str, *arguments: str, **_: Any) -> Any:
        return Completed(0, self._output, b"")


def rows(fields: tuple[str, ...]) -> st.SearchStrategy[list[dict[str, str]]]:
    known = {"JobID": st.from_regex(r"[0-9]{1,6}(_[0-9]|\+1)?(\.batch)?"), "JobArrayID": st.from_regex(r"[0-9]{1,6}")}
    return st.lists(st.fixed_dictionaries({name: TEXT | known.get(name, TEXT) for name in fields}), max_size=3)


ATTRIBUTES = (
    "job_state Exit_status substate stime obittime mtime ctime exec_host project Job_Name comment Account_Name server "
    "egroup queue Priority Variable_List Resource_List resources_used Output_Path Error_Path array_index Job_Owner"
).split()
PBS_JOBS = st.dictionaries(
    st.from_regex(r"[0-9]{1,6}(\[[0-9]?\])?\.s", fullmatch=True) | TEXT,
    st.dictionaries(st.sampled_from(ATTRIBUTES), JSON, max_size=8),
    max_size=3,
)
VNODES = st.dictionaries(
    st.sampled_from("resources_available resources_assigned queue state Mom".split()),
    JSON | st.dictionaries(st.sampled_from(["ncpus", "mem", "Qlist", "host"]), JSON),
)
SBATCH = st.lists(TEXT.map("#SBATCH {}".format) | TEXT | st.just("#SBATCH hetjob")).map("\n".join)
JOBS = st.builds(
    JobDescription,
    working_directory=TEXT | st.just("/w"),
    env=st.none() | st.dictionaries(TEXT, TEXT, max_size=3) | st.lists(TEXT, max_size=3),
    script=st.none() | SBATCH.map("#!/bin/sh\n{}".format) | TEXT,
    **{
        name: st.none() | TEXT
        for name in "name account reservation partition standard_input standard_output standard_error constraints "
        "script_path".split()
    },
)


def submit_to(prepare: Callable[..., CommandLine]) -> Callable[[JobDescription], None]:
    def check(job: JobDescription) -> None:
        ready = prepare(job)
        assert not any("\0" in word for word in ready.argv)
        assert ready.argv[0] == "timeout"

    return check


def read_with(reader: Callable[..., Any], says: type[Says]) -> Callable[[tuple[list[str], bytes]], None]:
    return lambda said: asyncio.run(reader(says(*said), "alice"))


SAID = st.tuples(st.lists(TEXT, max_size=40), BYTES)
PBS_SAID = st.tuples(
    st.just([]),
    BYTES
    | st.tuples(st.sampled_from(["Jobs", "nodes", "Queue", "Server"]), JSON).map(lambda it: repr(dict([it])).encode()),
)
SHOWN = JobInfo(job_id="12_3", name="n", nodes="n[1-2]", status=JobStatus(state="RUNNING"), time=JobTime())

READERS: dict[str, tuple[st.SearchStrategy[Any], Callable[[Any], Any]]] = {
    "squeue": (
        rows(queue._LAYOUT.fields),
        lambda found: [queue._entry(list(row.values()), {}) for row in found],
    ),
    "sacct": (rows(accounting._FIELDS), accounting.jobs_of),
    "sinfo, nodes": (SAID, read_with(slurm_resources.read_nodes, Says)),
    "scontrol show config": (SAID, read_with(slurm_resources.read_site, Says)),
    "scontrol show reservation": (SAID, read_with(slurm_resources.read_reservations, Says)),
    "sacctmgr": (SAID, read_with(slurm_resources.read_accounts, Says)),
    "slurmrestd": (
        BYTES | st.dictionaries(st.just("jobs"), JSON).map(lambda it: repr(it).replace("'", '"').encode()),
        lambda content: restd_jobs.entries_of(restd._decode(content, restd_jobs.JobsDocument).jobs),
    ),
    "sbatch's answer": (
        st.builds(Completed, st.integers(0, 255), BYTES, BYTES),
        slurm_submission.job_id_of,
    ),
    "qsub's answer": (st.builds(Completed, st.integers(0, 255), BYTES, BYTES), pbs_submission.job_id_of),
    "qstat": (PBS_JOBS, pbs_jobs.entries_of),
    "qstat, printed": (BYTES, lambda output: pbs_jobs.entries_of(read_objects(output, "Jobs"))),
    "qstat, one job": (PBS_JOBS, lambda jobs: [pbs_jobs.job_metadata(*job) for job in jobs.items()]),
    "qstat -Q": (PBS_SAID, read_with(pbs_resources.read_partitions, PbsSays)),
    "pbsnodes": (VNODES, lambda values: pbs_resources._node("n", values)),
    "pbs_rstat": (PBS_SAID, read_with(pbs_resources.read_reservations, PbsSays)),
    "a job for sbatch": (
        JOBS,
        submit_to(lambda job: slurm_submission.prepare(job, "crestline:t", sbatch="sbatch", timeout=1)),
    ),
    "a job for qsub": (JOBS, submit_to(lambda job: pbs_submission.prepare(job, "crestline:t", qsub="qsub", timeout=1))),
    "streams of a job": (
        st.tuples(SBATCH, TEXT, TEXT, TEXT),
        lambda it: (asked_for(options_of(it[0]), it[1]), job_metadata(SHOWN, it[0], Streams("9", it[1], it[2], it[3]))),
    ),
    "outcomes of several commands": (
        st.tuples(BYTES, BYTES),
        lambda it: outcomes(Completed(0, *it), "crestline-mark", 2),
    ),
}


@pytest.mark.parametrize("examples", SIZES)
@pytest.mark.parametrize("what", READERS)
def test_anything_is_read_or_refused(what: str, examples: int) -> None:
    strategy, read = READERS[what]

    @settings(
        max_examples=examples, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(strategy)
    def check(value: Any) -> None:
        with suppress(CrestlineError):
            read(value)

    check()


OPTION = st.from_regex(r"[a-z]{2,10}-x", fullmatch=True)
VALUE = st.text(st.characters(blacklist_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=20)


@pytest.mark.parametrize("examples", SIZES)
def test_directives_come_back_as_they_were_written(examples: int) -> None:
    @settings(max_examples=examples, derandomize=True, database=None, deadline=None)
    @given(st.dictionaries(OPTION, VALUE, max_size=4))
    def check(options: dict[str, str]) -> None:
        lines = [f"#SBATCH --comment={shlex.quote(value)}" for value in options.values()]
        found = parse_directives("\n".join(["#!/bin/sh", *lines, "true"])).options
        assert found.get("comment") == (list(options.values()) or [None])[-1]

    check()
