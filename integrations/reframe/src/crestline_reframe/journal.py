"""Records a run's actions on the system, so that the next run can resume an interrupted one.

One file per run below ReFrame's prefix, locked as long as its process lives. It is removed after a complete run.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from crestline import clock

FOLDER = ".crestline-reframe"


@dataclass
class JournalEntry:
    """One job of an interrupted run."""

    key: str
    test: str
    phase: str
    fingerprint: str
    remote: str
    """Its directory below the run's."""
    job_id: str | None = None
    is_collected: bool = False
    """Whether its results had been fetched."""
    is_abandoned: bool = False
    """Whether its run cancelled it, or ended by itself, so that no later run continues with it."""
    is_packed: bool = False
    """Whether it was submitted together with others."""


class Journal:
    """The file of one run.

    Attributes:
        run: id of the run.
        directories: its directories on the system. The last one is in use; the others may still be being removed.
        entries: jobs of an earlier process, by test and phase.
    """

    def __init__(
        self, path: Path, file: TextIO, run: str, entries: dict[tuple[str, str], JournalEntry], farewells: int = 0
    ) -> None:
        self._path = path
        self._file = file
        self.run = run
        self.directories = [run, *(f"{run}.{number}" for number in range(1, farewells + 1))]
        self.entries = entries

    @classmethod
    def open(cls, prefix: Path, where: str) -> Journal:
        """Resume a run on `where` whose process has ended, or start a new one."""
        folder = prefix / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(folder.glob("*.jsonl"), reverse=True):
            file = path.open("r+")
            if _locked(file):
                lines = _lines(file)
                if lines and lines[0].get("where") == where:
                    farewells = sum("is_abandoned" in line and "key" not in line for line in lines)
                    return cls(path, file, path.stem, _entries(lines), farewells)
            file.close()
        run = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(clock.time()))}-{secrets.token_hex(4)}"
        path = folder / f"{run}.jsonl"
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w")
        _locked(file)
        journal = cls(path, file, run, {})
        journal._write(where=where)
        return journal

    def begins(self, key: str, test: str, phase: str, fingerprint: str, remote: str) -> None:
        """Record a job that is about to be submitted."""
        self._write(key=key, test=test, phase=phase, fingerprint=fingerprint, remote=remote)

    def submitted(self, key: str, job_id: str) -> None:
        """Record the id of a submitted job."""
        self._write(key=key, job_id=job_id)

    def collected(self, key: str) -> None:
        """Record that the results of a job have been fetched."""
        self._write(key=key, is_collected=True)

    def packed(self, key: str) -> None:
        """Record that a job is about to be submitted together with others, under another key."""
        self._write(key=key, is_packed=True)

    def abandoned(self, key: str | None = None) -> None:
        """Prevent later runs from continuing with this job; without a key, with any job or the directory of the run."""
        self._write(is_abandoned=True, **({"key": key} if key else {}))

    def close(self) -> None:
        """End the run. Nothing remains on the system."""
        if not self._file.closed:
            self._path.unlink(missing_ok=True)
            self._file.close()

    def release(self) -> None:
        """End the run. Jobs or files remain on the system."""
        self._file.close()

    def _write(self, **fields: Any) -> None:
        self._file.write(json.dumps(fields) + "\n")
        self._file.flush()


def age(run: str, now: float) -> float:
    """Return the days since the run began; 0 if the name is not the name of a run."""
    try:
        begun = time.strptime(run.partition("-")[0], "%Y%m%dT%H%M%S")
    except ValueError:
        return 0.0
    return (now - (time.mktime(begun) - time.timezone)) / 86400


def _locked(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lines(file: TextIO) -> list[dict[str, Any]]:
    found = []
    for line in file:
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:  # the last line, truncated
            break
    file.seek(0, os.SEEK_END)
    return found


def _entries(lines: list[dict[str, Any]]) -> dict[tuple[str, str], JournalEntry]:
    by_key: dict[str, JournalEntry] = {}
    for line in lines[1:]:
        key = line.pop("key", None)
        if "test" in line:
            by_key[key] = JournalEntry(key, **line)
        else:
            for entry in by_key.values() if key is None else filter(None, [by_key.get(key)]):
                for name, value in line.items():
                    setattr(entry, name, value)
    return {(entry.test, entry.phase): entry for entry in by_key.values()}
