"""What a user's login on a system answers in a program's place is refused in a typed way, and deceives no other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import pytest

from crestline.gateway.hosts import MAX_ANSWER, Commands, Completed
from crestline.gateway.hosts.ssh import archives, content, listing, uploads
from crestline.gateway.hosts.ssh.archives import Archives
from crestline.gateway.hosts.ssh.commands import SshCommands
from crestline.gateway.hosts.ssh.listing import Listing
from crestline.gateway.hosts.ssh.names import Names
from crestline.gateway.hosts.threads import ThreadShares
from crestline.gateway.schedulers.base import JobQuery, Scheduler
from crestline.gateway.schedulers.pbs import PbsOptions, PbsScheduler
from crestline.gateway.schedulers.pbs.output import read_objects
from crestline.gateway.schedulers.slurm import SlurmOptions, SlurmScheduler, queue
from crestline.model import CrestlineError
from crestline.wire.compute import JobDescription
from crestline.wire.extensions import TarSelection
from crestline.wire.tar import ArchiveLimits

pytestmark = pytest.mark.anyio

KIB = 1024
LIMIT = 64 * KIB


class Login(SshCommands):
    """Every program of every user answers what is drawn; `getent` what the user says."""

    def __init__(self, answer: bytes = b"", times: int = 1) -> None:
        super().__init__("s", None)  # type: ignore[arg-type]
        self._answer = answer
        self._times = times
        self.taken = 0
        self.by_user: dict[str, bytes] = {}

    async def run(self, user: str, argv: Sequence[str], **_: Any) -> Completed:
        return Completed(0, self.by_user.get(user, self._answer), b"")

    async def stream(self, user: str, argv: Sequence[str], **_: Any) -> AsyncIterator[bytes]:
        for _time in range(self._times):
            self.taken += len(self._answer)
            yield self._answer


ANSWERS = {
    "nothing": b"",
    "no fields": b"\0" * 21,
    "bytes": bytes(range(256)),
    "not UTF-8": b"\xff\xfe" * 40,
    "digits": b"9" * 5000,
    "digits in fields": (b"9" * 5000 + b"\0") * 21,
    "unicode digits": "²³ ٣ ૮".encode() * 3,
    "ten words": b"x " * 10,
    "signs": b"-1 -1 -1.-1\0-\0-.-\0",
}
CALLS: dict[str, Callable[[Login], Awaitable[Any]]] = {
    "list": lambda login: _listing(login).entries("/a", hidden=True, recursive=True, dereference=False, numeric=False),
    "entry": lambda login: _listing(login).entry("/a"),
    "stat": lambda login: _listing(login).stat("/a", dereference=False),
    "mark": lambda login: content._mark("alice", "/a", login, 5),
    "checksum": lambda login: uploads.sha256(login, "alice", "/a"),
    "select": lambda login: _archives(login).select("/a", [TarSelection(directory="b", patterns=("*",))]),
    "changed": lambda login: _archives(login).changed("/a", {"x": "0" * 64}),
    "names": lambda login: Names(login, 5).lookup("alice", {"1"}, {"2"}),
}


def _listing(login: Login) -> Listing:
    return Listing("alice", login, Names(login, 5), 5)


def _archives(login: Login) -> Archives:
    return Archives("alice", login, None, ThreadShares(2, 2), ArchiveLimits())  # type: ignore[arg-type]


@pytest.mark.parametrize("call", CALLS)
async def test_any_answer_of_a_login_is_read_or_refused(call: str) -> None:
    for what, answer in ANSWERS.items():
        try:
            await CALLS[call](Login(answer))
        except CrestlineError:
            continue
        except Exception as error:
            pytest.fail(f"{what}: {error!r}")


@pytest.mark.parametrize("answer", [b"x" * KIB, b"x\0" * (KIB // 2)], ids=["one name", "many"])
async def test_a_listing_without_end_is_left(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MAX_OUTPUT", LIMIT)
    monkeypatch.setattr(archives, "MAX_OUTPUT", LIMIT)
    for call in ("list", "entry", "select"):
        login = Login(answer, times=10_000)
        with pytest.raises(CrestlineError):
            await CALLS[call](login)
        assert login.taken <= LIMIT + KIB


async def test_no_user_names_the_owners_that_another_sees() -> None:
    """Their own `getent` may print anything, for numbers that were not asked for too."""
    login = Login()
    login.by_user = {"mallory": b"root:x:1001:\nroot:x:1002:\nm\x1b[2J" + b"y" * 5000 + b":x:1003:\n"}
    login.by_user["alice"] = b"ann:x:1001:\n"
    names = Names(login, 5)
    shown, _ = await names.lookup("mallory", {"1001", "1003"}, set())
    assert shown["1001"] == "root"
    assert "\x1b" not in shown["1003"]
    assert len(shown["1003"]) < 1000
    shown, _ = await names.lookup("alice", {"1001", "1002"}, set())
    assert shown == {"1001": "ann", "1002": "1002"}


async def test_no_user_says_what_the_batch_system_is_for_another() -> None:
    """Without an observer the programs that answer are those of the user's own login."""
    login = Login()
    login.by_user = {"mallory": b"MinJobAge = 1 sec\nSLURM_VERSION = 9\n", "alice": b"MinJobAge = 300 sec\n"}
    slurm = SlurmScheduler("s", login, SlurmOptions())
    assert (await slurm._site("mallory")).retention == 1
    assert (await slurm._site("alice")).retention == 300
    login.by_user["mallory"] = b""
    assert (await slurm._site("mallory")).retention == 1  # asked once an hour
    assert slurm.version == "unknown"  # anybody reads it, so no user's login says it
    await slurm.stop()
    login.by_user["watcher"] = b"SLURM_VERSION = 24\x1b[2J" + b"9" * 5000
    slurm = SlurmScheduler("s", login, SlurmOptions(observer="watcher"))
    await slurm._site("mallory")
    assert slurm.version.startswith("24")
    assert "\x1b" not in slurm.version
    assert len(slurm.version) < 100
    await slurm.stop()


class Answers(Commands):
    """Every program prints the same; what each may print at most is kept by its words."""

    def __init__(self) -> None:
        self.limits: dict[str, int] = {}

    async def run(self, user: str, argv: Sequence[str], *, max_output: int = MAX_ANSWER, **_: Any) -> Completed:
        start = next(number for number, word in enumerate(argv) if word in PROGRAMS)
        self.limits[" ".join(argv[start : start + 2])] = max_output
        return Completed(1, b"", b"refused")


PROGRAMS = {"squeue", "sacct", "sinfo", "scontrol", "scancel", "sbatch", "srun", "sacctmgr", "sshare", "sstat"} | {
    *("qstat", "qsub", "qdel", "pbsnodes", "pbs_rstat")
}
LISTS = ("squeue ", "sacct --noheader", "sinfo ", "qstat -t", "qstat -x", "pbsnodes")
"""of all jobs or nodes"""


SCHEDULERS: dict[str, Callable[[Commands], Scheduler]] = {
    "slurm": lambda commands: SlurmScheduler("s", commands, SlurmOptions()),
    "pbs": lambda commands: PbsScheduler("s", commands, PbsOptions()),
}


@pytest.mark.parametrize("kind", SCHEDULERS)
async def test_only_lists_may_be_long(kind: str) -> None:
    """The gateway needs a few words of what changes a job, and megabytes of what names one thing."""
    answers = Answers()
    scheduler = SCHEDULERS[kind](answers)
    job = JobDescription(working_directory="/w", script="#!/bin/sh\ntrue\n")
    calls: list[Awaitable[Any]] = [
        *(scheduler.nodes("alice"), scheduler.partitions("alice"), scheduler.reservations("alice")),
        *(scheduler.accounts("alice"), scheduler.submit("alice", job), scheduler.jobs("alice", JobQuery())),
        *(scheduler.metadata("alice", "1"), scheduler.cancel("alice", "1")),
    ]
    for call in calls:
        with suppress(CrestlineError):
            await call
    await scheduler.stop()
    assert {words for words, most in answers.limits.items() if most > 8 * KIB * KIB} == {
        words for words in answers.limits if words.startswith(LISTS)
    }
    assert len(answers.limits) > 4


@pytest.mark.parametrize(
    "text",
    [
        "\n" * 300_000,
        '"' + '\\"' * 300_000,
        '{"Jobs":\n' + "\n" * 300_000,
        "[" * 300_000,
        '{"Jobs":{"1.s":' + '{"a":' * 100_000,
    ],
    ids=["line breaks", "a string without end", "line breaks within", "lists", "objects"],
)
def test_what_pbs_prints_is_read_in_time_in_proportion_to_it(text: str) -> None:
    """Each of these took minutes, or ended in an error of the gateway's own."""
    assert read_objects(text.encode(), "Jobs") == {}


async def test_words_of_a_queue_are_not_kept_without_end() -> None:
    """Each of these once stayed in memory for the gateway's life."""
    for number in range(3000):
        queue._limit(f"{number}:00")
        queue._waits_or_has_ended(f"STATE{number}")
    for kept in (queue._limit, queue._waits_or_has_ended):
        assert kept.cache_info().currsize <= 1024
