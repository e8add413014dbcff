"""The questions that the page of measurements answers, each by a chart of HTML in the colours of the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Bar:
    """One value: of the row `what` ours, or what it is compared with."""

    label: str
    what: str
    baseline: bool = False


@dataclass(frozen=True)
class Chart:
    """One question, in one unit."""

    question: str
    unit: str
    bars: Sequence[Bar]
    lower_is_better: bool = True
    limit: float | None = None
    """what we want at most, or at least"""


def _pair(ours: str, other: str, what: str) -> tuple[Bar, Bar]:
    return Bar(ours, what), Bar(other, what, baseline=True)


_SLOW_GATEWAY = "a CI job beyond queue and run, 50 ms more for each request"
_POLLERS = "500 pollers, 30 users"
_LONG_QUEUE = "100000 jobs, 200 clients"
_MANY = "50000 jobs"
_LASTS = ("long", "take", "s", "")
_APIS = (
    "plain FirecREST, stand-in",
    "IRI, stand-in",
    "IRI, Crestline gateway with Slurm",
    "Crestline gateway with Slurm",
)
_WAITING = "shared, with output, 10000 tasks"

TITLES = {
    "gateway": "Gateway",
    "queues": "Long queues",
    "client": "Client: waiting for many jobs",
    "far-away": "Files, far away",
    "airflow-waiting": "Airflow: waiting tasks",
    "airflow-ending": "Airflow: ends of tasks",
    "airflow-styles": "Airflow: ways to run a task",
    "jupyterhub": "JupyterHub",
    "reframe": "ReFrame",
    "ci": "GitLab CI",
    "slurm-commands": "Slurm's commands",
    "engines": "Workflow engines",
    "apis": "The same work on each API",
}
"""file in `docs/measurements` -> heading, in the order of the page"""

CHARTS: Mapping[str, Sequence[Chart]] = {
    "gateway": (
        Chart(
            "How long does a look at one job take?", "ms", _pair("Crestline", "ssh sacct", "GET job, one client, p50")
        ),
        Chart(
            "How many commands does Slurm get while 500 clients poll once a second?",
            "commands per second",
            _pair("Crestline", "one per poll", f"{_POLLERS}: scheduler commands"),
            limit=2,
        ),
        Chart(
            "How long do 99 of 100 of these clients wait at most?",
            "ms",
            (Bar("Crestline", f"{_POLLERS}: p99"),),
            limit=250,
        ),
        Chart(
            "After what time do 5,000 watching clients know of a change?",
            "s",
            (Bar("Crestline", "5000 watchers: a change reaches the last"),),
            limit=1,
        ),
        Chart("How long does a submission take?", "ms", _pair("Crestline", "ssh sbatch", "POST job, one client, p50")),
        Chart("How long do 100 submissions take?", "s", _pair("one batch", "100 requests", "100 jobs in a batch")),
        Chart("How fast is the upload of 1 GiB?", "MiB/s", _pair("Crestline", "scp", "upload of 1024 MiB"), False),
        Chart("How fast is the download of 1 GiB?", "MiB/s", _pair("Crestline", "scp", "download of 1024 MiB"), False),
    ),
    "queues": (
        Chart(
            "How much of a core does the gateway spend on a queue of 100,000 jobs?",
            "% of a core",
            (Bar("Crestline", f"{_LONG_QUEUE}: processor time for looking"),),
            limit=10,
        ),
        Chart(
            "How long do 99 of 100 answers take at most, with such a queue?",
            "ms",
            _pair("100,000 jobs", "100 jobs", f"{_LONG_QUEUE}: answers by id, p99"),
            limit=250,
        ),
        Chart(
            "How long does the gateway answer nothing at most?",
            "ms",
            _pair("100,000 jobs", "100 jobs", f"{_LONG_QUEUE}: longest stall"),
            limit=50,
        ),
        Chart(
            "How much memory does the gateway need at most?",
            "MiB",
            _pair("100,000 jobs", "100 jobs", f"{_LONG_QUEUE}: peak memory"),
            limit=300,
        ),
        Chart(
            "How old is an answer at most?",
            "s",
            (Bar("100,000 jobs", f"{_LONG_QUEUE}: oldest answer"),),
            limit=30,
        ),
    ),
    "client": tuple(
        Chart(
            question,
            unit,
            (Bar("Crestline", f"crestline, {_MANY}: {what}"), Bar("plain FirecREST", f"plain, {_MANY}: {what}")),
        )
        for question, unit, what in (
            (
                "How much of a core does it take to wait for 50,000 jobs?",
                "% of a core",
                "processor time while all wait",
            ),
            ("How much processor time until the ends of all are known?", "s", "processor seconds for the ends"),
            ("How much memory do 50,000 waits take?", "MiB", "memory"),
        )
    ),
    "far-away": tuple(
        Chart(
            f"How {amount} does the {what} {verb}, {delay} ms away?",
            unit,
            _pair("Crestline", other, f"{what}, {delay} ms each way{figure}"),
        )
        for delay in (50, 100)
        for what, other, (amount, verb, unit, figure) in (
            ("upload of 1024 MiB", "scp", _LASTS),
            ("download of 1024 MiB", "scp", _LASTS),
            ("upload of 10000 files of 4 KiB", "tar | ssh tar", _LASTS),
            ("upload of the same files with 1 % changed", "rsync", _LASTS),
            ("upload of the same files with 1 % changed", "rsync", ("much", "carry", "KiB", ": carried")),
        )
    ),
    "airflow-waiting": (
        Chart(
            "How many requests do 10,000 waiting tasks send?",
            "requests per second",
            _pair("Crestline", "one poller per task", f"{_WAITING}: requests per s"),
            limit=1,
        ),
        Chart(
            "How much of a core do they take?",
            "% of a core",
            (
                *_pair("Crestline", "one poller per task", f"{_WAITING}: % of a core"),
                Bar("triggers that do nothing", f"{_WAITING}: % of a core, Airflow's included", baseline=True),
            ),
            limit=10,
        ),
        Chart(
            "After what time are all ends known?",
            "s",
            _pair("Crestline", "one poller per task", f"{_WAITING}: all known after"),
        ),
    ),
    "airflow-ending": tuple(
        Chart(
            f"How long after its job does a task end, {mode}?",
            "s",
            _pair("Crestline", "a trigger that sees a file", f"{mode}: from job's to task's end"),
            limit=limit,
        )
        for mode, limit in (
            ("deferred, ended by the triggerer", 1.0),
            ("no worker", 1.0),
            ("deferred, ended by a worker", None),
        )
    ),
    "airflow-styles": tuple(
        Chart(
            question,
            unit,
            (
                *(Bar(f"Crestline, {way}", f"ours, {way}: {what}") for way in ("no worker", "deferred", "on a worker")),
                *(
                    Bar(label, f"ours, no worker: {what}", baseline=True)
                    for label in ("the talk's operator", "UNICORE's style", "SSH's style")
                ),
            ),
        )
        for question, unit, what in (
            ("How long does a task of a minute keep a worker busy?", "s", "worker-s per job"),
            ("How many requests do 200 waiting tasks send?", "requests per minute", "requests/min, 200 tasks"),
            ("How long after its job does a task end?", "s", "s from job's to task's end"),
            ("How much memory does a waiting task take?", "MB", "MB per waiting task"),
        )
    ),
    "jupyterhub": (
        Chart(
            "How long until a server is ready?",
            "s",
            _pair("Crestline", "LocalProcessSpawner", "spawn to ready, median"),
        ),
        Chart(
            "How many requests keep track of 200 servers?",
            "requests per minute",
            _pair("Crestline", "batchspawner", "requests for 200 running servers"),
            limit=13,
        ),
        Chart("How fast is a download through the relay?", "MiB/s", _pair("relay", "direct", "relay, download"), False),
        Chart("How fast is an upload through the relay?", "MiB/s", _pair("relay", "direct", "relay, upload"), False),
    ),
    "reframe": tuple(
        Chart(
            f"How long do {count} short tests take?",
            "s",
            (
                Bar("Crestline, Slurm over SSH", f"crestline, Slurm over SSH: {count} tests"),
                *_pair("Crestline, local jobs", "ReFrame, local jobs", f"crestline, local scheduler: {count} tests"),
            ),
        )
        for count in (20, 100)
    ),
    "ci": (
        Chart(
            "How long does a CI job take beyond queue and run, 50 ms away?",
            "s",
            _pair("Crestline", "ssh host 'sbatch -W'", _SLOW_GATEWAY),
            limit=3,
        ),
        Chart("How late is a line of the log at most?", "s", (Bar("Crestline", "delay of the log, longest"),), limit=2),
    ),
    "slurm-commands": tuple(
        Chart(f"How long does {name} take?", "s", _pair(f"crestline-{name}", f"ssh host {name}", what))
        for name, what in (
            ("squeue", "squeue --me"),
            ("sacct", "sacct -X"),
            ("sinfo", "sinfo"),
            ("sbatch", "sbatch -D /home/alice --wrap=true"),
        )
    ),
    "engines": tuple(
        Chart(
            f"How long does the example of {name} take?", "s", _pair("Crestline", "Slurm's own", f"{name}: whole time")
        )
        for name in ("simple-slurm", "submitit", "PSI/J")
    ),
    "apis": tuple(
        Chart(
            f"How many requests does {text} take?",
            "requests",
            tuple(Bar(api, f"{work}, {api}: requests") for api in _APIS),
        )
        for text, work in (
            ("the talk's DAG in Airflow", "Airflow DAG"),
            ("a session of a hub", "JupyterHub session"),
            ("a suite of 20 ReFrame tests", "20 ReFrame tests"),
            ("a CI job", "CI job"),
        )
    ),
}


def draw(chart: Chart, rows: Sequence[Row]) -> Iterator[str]:
    """The chart as lines of HTML; none if nothing of it was measured."""
    bars = [(bar, value) for bar in chart.bars if (value := _value(bar, rows)) is not None]
    if not bars:
        return
    most = max(*(value for _, value in bars), chart.limit or 0) * 1.02 or 1
    better = "lower" if chart.lower_is_better else "higher"
    yield '<figure class="chart">'
    yield f"<figcaption>{escape(chart.question)} <small>{escape(chart.unit)}, {better} is better</small></figcaption>"
    for bar, value in bars:
        kind = "baseline" if bar.baseline else "ours"
        yield f'<div class="bar {kind}"><span class="label">{escape(bar.label)}</span><span class="track">'
        yield f'<i style="width:{100 * value / most:.2f}%"></i>'
        if chart.limit is not None:
            yield f'<b style="left:{100 * chart.limit / most:.2f}%"></b>'
        yield f'</span><span class="value">{_shown(value)}</span></div>'
    if chart.limit is not None:
        word = "at most" if chart.lower_is_better else "at least"
        yield f'<small class="limit">line: {word} {chart.limit:g} {escape(chart.unit)}</small>'
    yield "</figure>"


def _value(bar: Bar, rows: Sequence[Row]) -> float | None:
    """The measured value; of several comparisons with one row, the one whose command is the bar's label."""
    found = [row for row in rows if row["what"] == bar.what]
    if not bar.baseline:
        return float(found[0]["ours"]) if found else None
    named = [row for row in found if row["raw_command"] == bar.label]
    raw = [row["raw"] for row in named or found if row["raw"] is not None]
    return float(raw[0]) if raw else None


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
