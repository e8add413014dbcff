"""The columns of squeue.

Fields that the API does not report contain Slurm's text for an option that the job did not set.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from crestline.cli.slurm.layout import Field
from crestline.cli.slurm.states import short, state_of
from crestline.cli.slurm.times import moment, short_duration
from crestline.model import Job
from crestline.model.hostlist import expand
from crestline.model.job_ids import parent

_UNTOLD = "N/A"
_NULL = "(null)"
_TAG = re.compile(r"-c[0-9a-f]{20}$")


def job_name(job: Job) -> str:
    """Return the job's name without the tag that submissions to plain FirecREST append."""
    return _TAG.sub("", job.name)


def array_task(job: Job) -> str:
    """Return the task indices: `3` for `12_3`, `1-3,7` for `12_[1-3,7]`."""
    return job.job_id.partition("_")[2].strip("[]") or _UNTOLD


def array_elements(job_id: str) -> list[str]:
    """Expand `12_[1-3,7%2]` to `12_1`, `12_2`, `12_3` and `12_7`. Any other id is returned alone."""
    array, bracket, inside = job_id.partition("_[")
    if not bracket or "..." in inside:
        return [job_id]
    elements = []
    for part in re.sub(r"%\d+", "", inside).rstrip("]").split(","):
        span, _, step = part.partition(":")
        low, _, high = span.partition("-")
        elements += [f"{array}_{number}" for number in range(int(low), int(high or low) + 1, int(step or 1))]
    return elements


def reason(job: Job) -> str:
    """Return the reason as one word, since programs split lines at blanks, or `None` as in squeue."""
    return "_".join(job.reason.split()) or "None"


def _nodes_or_reason(job: Job) -> str:
    if state_of(job) in ("PENDING", "FAILED", "TIMEOUT"):  # as squeue does
        return f"({reason(job)})"
    return job.nodes


def _used(job: Job) -> int:
    return 0 if job.state.is_waiting else job.times.elapsed or 0


def _limit(job: Job) -> str:
    return short_duration(job.times.limit) if job.times.limit else "UNLIMITED"


def _left(job: Job) -> str:
    if not job.times.limit:
        return "UNLIMITED"
    left = job.times.limit - _used(job)
    return short_duration(left) if left >= 0 else f"-{short_duration(-left)}"


def _end(job: Job) -> str:
    if job.times.end:
        return moment(job.times.end, _UNTOLD)
    begin = begin_of(job)
    return moment(begin + job.times.limit, _UNTOLD) if begin and job.times.limit else _UNTOLD


def begin_of(job: Job) -> int | None:
    """Return the start time, or the expected one."""
    return job.times.start or job.times.expected_start


def raw_id(job: Job) -> str:
    """Return the scheduler's own job number. For array tasks it differs from the id of the array."""
    return job.raw_id or parent(job.job_id)


def _number(value: int | None) -> str:
    return _UNTOLD if value is None else str(value)


def _always(text: str) -> Callable[[Job], str]:
    return lambda _: text


_ID = Field[Job]("JOBID", lambda job: job.job_id)
_NODES = Field[Job]("NODES", lambda job: str(job.node_count or 1))
_REASONS = Field("NODELIST(REASON)", _nodes_or_reason)
_USED = Field[Job]("TIME", lambda job: short_duration(_used(job)), whole=True)
_HOST = Field[Job]("EXEC_HOST", lambda job: next(expand(job.nodes), "n/a"))
_CPUS = Field[Job]("CPUS", lambda job: _number(job.cpus))
_PRIORITY = Field[Job]("PRIORITY", lambda job: _number(job.priority))
_TRES = Field[Job]("TRES_PER_NODE", _always(_UNTOLD), is_reported=False)
_START = Field[Job]("START_TIME", lambda job: moment(begin_of(job), _UNTOLD))
_SUBMIT = Field[Job]("SUBMIT_TIME", lambda job: moment(job.times.submit, _UNTOLD))

SHORT: dict[str, Field[Job]] = {
    "a": Field("ACCOUNT", lambda job: job.account),
    "A": Field("JOBID", raw_id),
    "b": _TRES,
    "B": _HOST,
    "c": Field("MIN_CPUS", _always(_UNTOLD), is_reported=False),
    "C": _CPUS,
    "d": Field("MIN_TMP_DISK", _always("0"), is_reported=False),
    "D": _NODES,
    "e": Field("END_TIME", _end),
    "E": Field("DEPENDENCY", _always(_NULL), is_reported=False),
    "f": Field("FEATURES", _always(_NULL), is_reported=False),
    "F": Field("ARRAY_JOB_ID", lambda job: parent(job.job_id)),
    "g": Field("GROUP", lambda job: job.group or _UNTOLD),
    "G": Field("GROUP", _always(_UNTOLD), is_reported=False),
    "h": Field("OVER_SUBSCRIBE", _always("OK"), is_reported=False),
    "H": Field("SOCKETS_PER_NODE", _always("*"), is_reported=False),
    "i": _ID,
    "I": Field("CORES_PER_SOCKET", _always("*"), is_reported=False),
    "j": Field("NAME", job_name),
    "J": Field("THREADS_PER_CORE", _always("*"), is_reported=False),
    "k": Field("COMMENT", _always(_NULL), is_reported=False),
    "K": Field("ARRAY_TASK_ID", array_task),
    "l": Field("TIME_LIMIT", _limit, whole=True),
    "L": Field("TIME_LEFT", _left, whole=True),
    "m": Field("MIN_MEMORY", _always(_UNTOLD), is_reported=False),
    "M": _USED,
    "n": Field("REQ_NODES", _always(""), is_reported=False),
    "N": Field("NODELIST", lambda job: job.nodes),
    "o": Field("COMMAND", _always(_NULL), is_reported=False),
    "O": Field("CONTIGUOUS", _always("0"), is_reported=False),
    "p": Field("PRIORITY", lambda job: f"{(job.priority or 0) / (2**32 - 1):.14f}"),
    "P": Field("PARTITION", lambda job: job.partition),
    "q": Field("QOS", _always(_UNTOLD), is_reported=False),
    "Q": _PRIORITY,
    "r": Field("REASON", reason),
    "R": _REASONS,
    "S": _START,
    "t": Field("ST", lambda job: short(state_of(job))),
    "T": Field("STATE", state_of),
    "u": Field("USER", lambda job: job.user),
    "U": Field("UID", _always(_UNTOLD), is_reported=False),
    "v": Field("RESERVATION", _always(_NULL), is_reported=False),
    "V": _SUBMIT,
    "w": Field("WCKEY", _always(_NULL), is_reported=False),
    "W": Field("LICENSES", _always(_NULL), is_reported=False),
    "x": Field("EXC_NODES", _always(""), is_reported=False),
    "X": Field("CORE_SPEC", _always(_UNTOLD), is_reported=False),
    "y": Field("NICE", _always("0"), is_reported=False),
    "Y": Field("SCHEDNODES", _always(_NULL), is_reported=False),
    "z": Field("S:C:T", _always("*:*:*"), is_reported=False),
    "Z": Field("WORK_DIR", lambda job: job.workdir),
}
"""Fields by their letters in `--format`."""

LONG: dict[str, Field[Job]] = {
    "Account": SHORT["a"],
    "ArrayJobID": SHORT["F"],
    "ArrayTaskID": SHORT["K"],
    "BatchHost": _HOST,
    "Cluster": Field("CLUSTER", lambda job: job.cluster or _UNTOLD),
    "Command": SHORT["o"],
    "Comment": SHORT["k"],
    "Dependency": SHORT["E"],
    "EndTime": SHORT["e"],
    "exit_code": Field("EXIT_CODE", lambda job: str((job.exit_code or 0) * 256 + (job.signal or 0))),
    "Feature": SHORT["f"],
    "Gres": _TRES,
    "GroupName": SHORT["g"],
    "JobArrayID": _ID,
    "JobID": SHORT["A"],
    "Licenses": SHORT["W"],
    "Name": SHORT["j"],
    "Nice": SHORT["y"],
    "NodeList": SHORT["N"],
    "NumCPUs": _CPUS,
    "NumNodes": _NODES,
    "Partition": SHORT["P"],
    "Priority": SHORT["p"],
    "PriorityLong": _PRIORITY,
    "QOS": SHORT["q"],
    "Reason": SHORT["r"],
    "ReasonList": _REASONS,
    "ReqNodes": SHORT["n"],
    "Reservation": SHORT["v"],
    "SchedNodes": SHORT["Y"],
    "StartTime": _START,
    "State": SHORT["T"],
    "StateCompact": SHORT["t"],
    "SubmitTime": _SUBMIT,
    "TimeLeft": SHORT["L"],
    "TimeLimit": SHORT["l"],
    "TimeUsed": _USED,
    "tres-per-node": _TRES,
    "UserName": SHORT["u"],
    "WCKey": SHORT["w"],
    "WorkDir": SHORT["Z"],
}
"""Fields by their names in `--Format`."""

ORDER: dict[str, Callable[[Job], object]] = {
    "i": lambda job: [int(each) for each in re.findall(r"\d+", job.job_id)],
    "j": job_name,
    "M": _used,
    "P": lambda job: job.partition,
    "p": lambda job: job.priority or 0,
    "S": lambda job: job.times.start or 0,
    "t": state_of,
    "T": state_of,
    "a": lambda job: job.account,
    "C": lambda job: job.cpus or 0,
    "D": lambda job: job.node_count or 1,
    "l": lambda job: job.times.limit or 2**40,
    "N": lambda job: job.nodes,
    "Q": lambda job: job.priority or 0,
    "r": reason,
    "u": lambda job: job.user,
    "V": lambda job: job.times.submit or 0,
}
"""Sort keys by their letters in `--sort`."""
