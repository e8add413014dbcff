"""When a dependency lets a job start."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crestline.gateway.schedulers.local.dependencies import (
    Clause,
    Dependency,
    Predecessor,
    Verdict,
    judge,
    parse_dependency,
)
from crestline.model import InvalidRequestError

PENDING = Predecessor(start=None, ended=False, succeeded=False)
RUNNING = Predecessor(start=100.0, ended=False, succeeded=False)
GOOD = Predecessor(start=100.0, ended=True, succeeded=True)
BAD = Predecessor(start=100.0, ended=True, succeeded=False)
CANCELLED = Predecessor(start=None, ended=True, succeeded=False)
YES, WAIT, NEVER = Verdict.SATISFIED, Verdict.WAITING, Verdict.NEVER


@pytest.mark.parametrize(
    ("text", "dependency"),
    [
        ("afterok:12", Dependency((Clause("afterok", 12),))),
        ("afterok:12:13_4", Dependency((Clause("afterok", 12), Clause("afterok", 13, 4)))),
        ("afterany:1,singleton", Dependency((Clause("afterany", 1), Clause("singleton")))),
        ("afterok:1?afternotok:2", Dependency((Clause("afterok", 1), Clause("afternotok", 2)), any_of=True)),
        ("after:1+5", Dependency((Clause("after", 1, delay=300),))),
        ("aftercorr:7_*", Dependency((Clause("aftercorr", 7),))),
    ],
)
def test_notation(text: str, dependency: Dependency) -> None:
    assert parse_dependency(text) == dependency


@pytest.mark.parametrize(
    "text", ["", "12", "afterok", "afterok:", "afterok:x", "before:1", "afterok:1,after:2?afterok:3"]
)
def test_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        parse_dependency(text)


@given(st.one_of(st.text(), st.from_regex(r"(after(ok|any)?|singleton)?[:,?_+0-9]{0,9}")))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(InvalidRequestError):
        parse_dependency(text)


@pytest.mark.parametrize(
    ("kind", "jobs", "verdict"),
    [
        ("after", [PENDING], WAIT),
        ("after", [RUNNING], YES),
        ("after", [RUNNING, PENDING], WAIT),
        ("after", [CANCELLED], YES),
        ("afterany", [RUNNING], WAIT),
        ("afterany", [GOOD, BAD], YES),
        ("afterok", [RUNNING], WAIT),
        ("afterok", [GOOD, GOOD], YES),
        ("afterok", [GOOD, RUNNING], WAIT),
        ("afterok", [BAD, RUNNING], NEVER),
        ("afterok", [CANCELLED], NEVER),
        ("afternotok", [BAD], YES),
        ("afternotok", [GOOD], NEVER),
        ("afternotok", [GOOD, BAD], YES),
        ("afternotok", [BAD, RUNNING], WAIT),
        ("afternotok", [CANCELLED], YES),
        ("afterany", [], YES),
    ],
)
def test_verdicts(kind: str, jobs: list[Predecessor], verdict: Verdict) -> None:
    dependency = parse_dependency(f"{kind}:1")
    assert judge(dependency, lambda number, task: jobs, task=None, has_twin=False, now=200.0) is verdict


def test_delay_after_the_start() -> None:
    dependency = parse_dependency("after:1+2")
    for now, verdict in ((219.0, WAIT), (220.0, YES)):
        assert judge(dependency, lambda number, task: [RUNNING], task=None, has_twin=False, now=now) is verdict


def test_singleton() -> None:
    dependency = parse_dependency("singleton")
    assert judge(dependency, lambda *_: [], task=None, has_twin=True, now=0) is WAIT
    assert judge(dependency, lambda *_: [], task=None, has_twin=False, now=0) is YES


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("afterok:1,afterok:2", NEVER),
        ("afterok:1,afterok:3", WAIT),
        ("afterok:1?afterok:2", YES),
        ("afterok:2?afterok:3", WAIT),
        ("afterok:2?afternotok:1", NEVER),
    ],
)
def test_combinations(text: str, verdict: Verdict) -> None:
    jobs = {1: [GOOD], 2: [BAD], 3: [RUNNING]}
    assert judge(parse_dependency(text), lambda number, task: jobs[number], task=None, has_twin=False, now=0) is verdict


def test_corresponding_task() -> None:
    asked: list[tuple[int, int | None]] = []

    def lookup(number: int, task: int | None) -> list[Predecessor]:
        asked.append((number, task))
        return [GOOD]

    assert judge(parse_dependency("aftercorr:5"), lookup, task=3, has_twin=False, now=0) is YES
    assert asked == [(5, 3)]
