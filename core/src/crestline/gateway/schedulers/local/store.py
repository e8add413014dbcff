"""Persists submissions and jobs in one SQLite file."""

from __future__ import annotations

import asyncio
import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from crestline.gateway.schedulers.base import JobQuery
from crestline.gateway.schedulers.local.dependencies import Predecessor
from crestline.gateway.schedulers.local.jobs import Job, StepInfo
from crestline.gateway.schedulers.local.queue import Allocation
from crestline.gateway.schedulers.local.request import Request
from crestline.model import GatewayUnavailableError

T = TypeVar("T")

_PATIENCE = 5.0
"""Seconds for which the lock is tried."""
_AGAIN = 0.05
"""Seconds between two attempts to acquire the lock."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS home (id TEXT NOT NULL, next_job INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS submissions (
    id INTEGER PRIMARY KEY,  -- of its first job
    user TEXT NOT NULL,
    key TEXT,
    time REAL NOT NULL,
    script BLOB NOT NULL,
    request BLOB NOT NULL,
    UNIQUE (user, key)
);
CREATE TABLE IF NOT EXISTS jobs (
    id INTEGER PRIMARY KEY,
    submission INTEGER NOT NULL REFERENCES submissions,
    task INTEGER,
    user TEXT NOT NULL,
    name TEXT NOT NULL,
    account TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    held INTEGER NOT NULL,
    start REAL,
    "end" REAL,
    exit_code INTEGER,
    signal INTEGER,
    suspended REAL NOT NULL DEFAULT 0,
    suspended_since REAL,
    allocation BLOB NOT NULL DEFAULT '{}',
    cancelled_by TEXT,
    steps BLOB NOT NULL DEFAULT '[]'
);
CREATE INDEX IF NOT EXISTS jobs_by_submission ON jobs (submission, task);
CREATE INDEX IF NOT EXISTS jobs_active ON jobs (id) WHERE "end" IS NULL;
CREATE INDEX IF NOT EXISTS jobs_by_end ON jobs ("end");
CREATE INDEX IF NOT EXISTS jobs_by_user ON jobs (user, "end");
"""
_COLUMNS = "jobs.*, submissions.time, submissions.request FROM jobs JOIN submissions ON submissions.id = submission"
_CHANGING = (
    "state", "reason", "held", "start", "end", "exit_code", "signal", "suspended", "suspended_since", "allocation",
    "cancelled_by", "steps",
)  # fmt: skip
_SETTINGS = ", ".join(f'"{name}" = :{name}' for name in _CHANGING)
_UPDATE = f"UPDATE jobs SET {_SETTINGS} WHERE id = :id"  # noqa: S608


class StoreLockedError(GatewayUnavailableError):
    """Another program holds the file's lock."""


class Store:
    """The database file. Changes of a method survive the death of the process.

    Methods do not wait for the file's lock, because most are called in the event loop: see `when_unlocked`.
    """

    def __init__(self, path: Path) -> None:
        """Open the file, in a thread. Only this method waits for the lock, up to ten seconds."""
        self._path = path
        self._reading = threading.local()
        self._readers: list[sqlite3.Connection] = []
        self._connection = self._connect()
        with self._outages():
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.executescript(_SCHEMA)
        with self._transaction() as connection:
            if connection.execute("SELECT 1 FROM home").fetchone() is None:
                connection.execute("INSERT INTO home VALUES (?, 1)", (secrets.token_hex(8),))
        self.home_id: str = self._connection.execute("SELECT id FROM home").fetchone()[0]
        self._connection.execute("PRAGMA busy_timeout = 0")

    def close(self) -> None:
        """Close the database file."""
        for connection in (*self._readers, self._connection):
            connection.close()

    def submit(
        self, user: str, key: str | None, *, time: float, script: bytes, request: Request, tasks: Iterable[int | None]
    ) -> list[Job]:
        """Store one job for each of `tasks`. Ids ascend and are never reused."""
        with self._transaction() as connection:
            (first,) = connection.execute("SELECT next_job FROM home").fetchone()
            jobs = [
                Job(
                    id=first + offset,
                    submission=first,
                    task=task,
                    user=user,
                    request=request,
                    submit=time,
                    held=request.hold,
                )
                for offset, task in enumerate(tasks)
            ]
            connection.execute("UPDATE home SET next_job = ?", (first + len(jobs),))
            connection.execute(
                "INSERT INTO submissions VALUES (?, ?, ?, ?, ?, ?)",
                (first, user, key, time, script, msgspec.json.encode(request)),
            )
            connection.executemany(
                "INSERT INTO jobs (id, submission, task, user, name, account, state, reason, held)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(j.id, first, j.task, user, request.name, request.account, j.state, j.reason, j.held) for j in jobs],
            )
        return jobs

    def find(self, user: str, key: str) -> int | None:
        """Return the first job of the submission with this key, or None."""
        row = self._read("SELECT id FROM submissions WHERE user = ? AND key = ?", (user, key)).fetchone()
        return None if row is None else int(row["id"])

    def script(self, submission: int) -> bytes:
        row = self._read("SELECT script FROM submissions WHERE id = ?", (submission,)).fetchone()
        return bytes(row["script"])

    def update(self, jobs: Iterable[Job]) -> None:
        """Store the changes of `jobs` in one transaction."""
        with self._transaction() as connection:
            connection.executemany(
                _UPDATE,
                [
                    {name: getattr(job, name) for name in _CHANGING}
                    | {
                        "id": job.id,
                        "allocation": msgspec.json.encode(job.allocation),
                        "steps": msgspec.json.encode(job.steps),
                    }
                    for job in jobs
                ],
            )

    def active(self) -> list[Job]:
        """Return all jobs that have not ended, oldest first."""
        return _jobs(self._read(f'SELECT {_COLUMNS} WHERE jobs."end" IS NULL ORDER BY jobs.id'))

    def matching(self, number: int, task: int | None) -> list[Job]:
        """Return the jobs of submission `number` (its task `task`), or the job with that number."""
        with self._outages():
            return _meant(self._connection, number, task)

    def progress(self, number: int, task: int | None) -> list[Predecessor]:
        """Return what a dependency needs to know about these jobs."""
        select = 'SELECT start, "end", state FROM jobs WHERE '
        rows = self._read(f"{select} submission = ?1 AND (?2 IS NULL OR task = ?2)", (number, task)).fetchall()
        if not rows and task is None:
            rows = self._read(f"{select} id = ?", (number,)).fetchall()
        return [
            Predecessor(start=row["start"], ended=row["end"] is not None, succeeded=row["state"] == "COMPLETED")
            for row in rows
        ]

    def ended(self, user: str, query: JobQuery, now: float) -> list[Job]:
        """Return the jobs that match `query`, those that have not ended only by id. Can be called from any thread."""
        filters: list[tuple[str, object]] = [
            ("jobs.user = ?", None if query.all_users else user),
            ("jobs.account IN (SELECT value FROM json_each(?))", _json(query.accounts)),
            ("jobs.name IN (SELECT value FROM json_each(?))", _json(query.names)),
            ('jobs."end" >= ?', now - query.window if query.window is not None else None),
        ]
        conditions = ['jobs."end" IS NOT NULL', *(text for text, value in filters if value is not None)]
        values = [value for _, value in filters if value is not None]
        with self._outages():
            query_text = f"SELECT {_COLUMNS} WHERE {' AND '.join(conditions)} ORDER BY jobs.id"
            return _jobs(self._reader().execute(query_text, values))

    def named(self, ids: Iterable[tuple[int, int | None]]) -> list[Job]:
        """Return the jobs of these (number, task) pairs, each once. Can be called from any thread."""
        with self._outages():
            connection = self._reader()
            found = {job.id: job for number, task in ids for job in _meant(connection, number, task)}
        return [found[number] for number in sorted(found)]

    def older_than(self, moment: float) -> list[int]:
        """Return up to 200 jobs that ended before `moment`."""
        rows = self._read('SELECT id FROM jobs WHERE "end" < ? LIMIT 200', (moment,))
        return [row["id"] for row in rows]

    def forget(self, jobs: Iterable[int]) -> None:
        """Delete jobs, and submissions without a remaining job."""
        with self._transaction() as connection:
            for job in jobs:
                (submission,) = connection.execute(
                    "DELETE FROM jobs WHERE id = ? RETURNING submission", (job,)
                ).fetchone()
                connection.execute(
                    "DELETE FROM submissions WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM jobs WHERE submission = ?1)",
                    (submission,),
                )

    def _reader(self) -> sqlite3.Connection:
        """This thread's connection, so that queries neither wait for each other nor open the file each time."""
        connection: sqlite3.Connection | None = getattr(self._reading, "connection", None)
        if connection is None:
            connection = self._reading.connection = self._connect(timeout=0)
            self._readers.append(connection)
        return connection

    def _read(self, query: str, values: tuple[object, ...] = ()) -> sqlite3.Cursor:
        with self._outages():
            return self._connection.execute(query, values)

    def _connect(self, timeout: float = 10) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, timeout=timeout, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._outages(), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            yield self._connection

    @contextmanager
    def _outages(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise StoreLockedError(
                    f"Another program holds the lock of {self._path}.", hint="Try again soon.", retry_after=5
                ) from error
            raise GatewayUnavailableError(
                f"The scheduler cannot use {self._path}: {error}.", hint="Look at the disk's free space."
            ) from error


async def when_unlocked(work: Callable[[], T], *, in_thread: bool = False) -> T:
    """Call `work` again while another program holds the file's lock, without blocking a thread, and return its result.

    Raises:
        StoreLockedError: the lock was held for `_PATIENCE` seconds.
    """
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return await asyncio.to_thread(work) if in_thread else work()
        except StoreLockedError:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(_AGAIN)


def _meant(connection: sqlite3.Connection, number: int, task: int | None) -> list[Job]:
    found = _jobs(
        connection.execute(
            f"SELECT {_COLUMNS} WHERE submission = ?1 AND (?2 IS NULL OR task = ?2) ORDER BY jobs.id",
            (number, task),
        )
    )
    if found or task is not None:
        return found
    return _jobs(connection.execute(f"SELECT {_COLUMNS} WHERE jobs.id = ?", (number,)))


def _jobs(rows: Iterable[sqlite3.Row]) -> list[Job]:
    requests: dict[int, Request] = {}  # tasks of an array share one request
    found = []
    for row in rows:
        submission = row["submission"]
        if submission not in requests:
            requests[submission] = msgspec.json.decode(row["request"], type=Request)
        values = {name: row[name] for name in _CHANGING} | {
            "held": bool(row["held"]),
            "allocation": msgspec.json.decode(row["allocation"], type=Allocation),
            "steps": msgspec.json.decode(row["steps"], type=tuple[StepInfo, ...]),
        }
        same = {name: row[name] for name in ("id", "submission", "task", "user")}
        found.append(Job(**same, request=requests[submission], submit=row["time"], **values))
    return found


def _json(values: frozenset[str] | None) -> str | None:
    return None if values is None else json.dumps(sorted(values))
