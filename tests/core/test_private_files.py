"""Private files are replaced whole; their locks survive the removal of the file and the death of the holder."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from crestline.private_files import locked, write_private


def test_only_the_owner_reads(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(b"old")
    file.chmod(0o644)
    umask = os.umask(0)
    try:
        write_private(file, b"new")
    finally:
        os.umask(umask)
    assert file.read_bytes() == b"new"
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_symbolic_link_is_replaced_and_its_target_kept(tmp_path: Path) -> None:
    target, file = tmp_path / "target", tmp_path / "secret"
    target.write_bytes(b"other")
    file.symlink_to(target)
    write_private(file, b"new")
    assert (target.read_bytes(), file.read_bytes(), file.is_symlink()) == (b"other", b"new", False)


def test_failed_write_keeps_the_earlier_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    file = tmp_path / "secret"
    write_private(file, b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_private(file, b"new")
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_one_holder_at_a_time_also_when_the_file_is_removed(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    inside, most = [], []

    def work() -> None:
        for _ in range(50):
            with locked(file):
                inside.append(1)
                most.append(len(inside))
                inside.pop()
                file.unlink()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(most) == 200
    assert max(most) == 1


def test_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    code = (
        "import sys, pathlib; from crestline.private_files import locked\n"
        "with locked(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        holder.kill()
    with locked(file):
        pass
