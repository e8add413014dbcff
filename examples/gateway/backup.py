#!/usr/bin/env python3
"""Back up a gateway's state directory while it serves: keys, secrets and databases, without the files of users.

    backup.py /var/lib/crestline /srv/backup/crestline-2026-11-30.tar

Restore into an empty home: tar -xpf crestline-2026-11-30.tar -C /var/lib/crestline
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import tarfile
import tempfile
from pathlib import Path


def main(home: Path, archive: Path) -> None:
    """Write `archive`, which must not exist, readable to its owner alone."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        os.fdopen(os.open(archive, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream,
        tarfile.open(fileobj=stream, mode="w") as tar,
    ):
        for path in sorted([home / "client.json", home / "private", *(home / "private").rglob("*")]):
            name = path.relative_to(home)
            if path.suffix == ".db":
                copy = Path(scratch, "copy.db")
                copy.unlink(missing_ok=True)
                with (
                    contextlib.closing(sqlite3.connect(path.as_uri() + "?mode=ro", uri=True)) as source,
                    contextlib.closing(sqlite3.connect(copy)) as target,
                ):
                    source.backup(target)  # consistent, whatever the gateway writes meanwhile
                copy.chmod(0o600)
                tar.add(copy, name)
            elif not path.name.endswith((".db-wal", ".db-shm", ".db-journal")):
                with contextlib.suppress(FileNotFoundError):  # a job's file that was removed meanwhile
                    tar.add(path, name, recursive=False)
        stream.flush()
        os.fsync(stream.fileno())


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]))
