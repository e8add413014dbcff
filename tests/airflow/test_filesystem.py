"""`ObjectStoragePath("firecrest://connection@system/path")` on all kinds of systems."""

from __future__ import annotations

import csv
import os
import random
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, ObjectStoragePath, task
from airflow.sdk.io import store

from crestline.client import System
from crestline.model import SystemNotFoundError
from crestline_airflow.filesystem import ConnectionFileSystem
from harness.airflow_backends import Place, anywhere
from harness.airflow_dags import run

__all__ = ["anywhere"]


@pytest.fixture
def root(anywhere: Place) -> ObjectStoragePath:
    """A new directory on the system."""
    store._STORE_CACHE.clear()  # an earlier test meant another gateway by the same connection
    ConnectionFileSystem.clear_instance_cache()
    return ObjectStoragePath(f"firecrest://firecrest_default@{anywhere.system}{anywhere.workdir}")


def test_read_write_list_walk_copy_move_and_delete(root: ObjectStoragePath, anywhere: Place, tmp_path: Path) -> None:
    file = root / "a/deep/in ∆.txt"
    assert not file.exists()
    with pytest.raises(FileNotFoundError):
        file.read_text()
    file.parent.mkdir(parents=True)
    assert file.write_text("3 5\n8 ∆\n") == 8
    assert file.exists()
    assert file.is_file()
    assert file.parent.is_dir()
    assert file.read_text() == "3 5\n8 ∆\n"
    assert file.stat().st_size == file.size() == 10
    with file.open() as lines:
        assert list(lines) == ["3 5\n", "8 ∆\n"]
    with (root / "b.bin").open("wb") as binary:
        binary.write(b"\x00\xff")
        binary.write(b"end")
    assert (root / "b.bin").read_bytes() == b"\x00\xffend"
    assert sorted(each.name for each in root.iterdir()) == ["a", "b.bin"]
    assert {each.name: (dirs, files) for each, dirs, files in root.walk()} == {
        root.name: (["a"], ["b.bin"]),
        "a": (["deep"], []),
        "deep": ([], ["in ∆.txt"]),
    }
    assert [each.name for each in root.glob("**/*.txt")] == ["in ∆.txt"]

    file.copy(root / "copy.txt")
    assert (root / "copy.txt").read_text() == "3 5\n8 ∆\n"
    (root / "copy.txt").move(root / "moved.txt")
    assert not (root / "copy.txt").exists()
    local = ObjectStoragePath(f"file://{tmp_path}/local.txt")
    (root / "moved.txt").copy(local)
    assert (tmp_path / "local.txt").read_text() == "3 5\n8 ∆\n"
    local.copy(root / "back.txt")
    assert (root / "back.txt").checksum() == (root / "moved.txt").checksum()

    (root / "moved.txt").unlink()
    assert not (root / "moved.txt").exists()
    with pytest.raises(FileNotFoundError):
        (root / "moved.txt").unlink()
    (root / "a").rmdir(recursive=True)
    assert sorted(each.name for each in root.iterdir()) == ["b.bin", "back.txt"]


def test_a_big_file_is_read_where_it_is_asked_for(
    root: ObjectStoragePath, anywhere: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above what one answer holds; on a gateway of ours only the blocks that are read travel."""
    content = random.Random(7).randbytes(12 * 1024 * 1024)
    (root / "big.bin").write_bytes(content)
    asked: list[tuple[int, int]] = []
    whole = System.read_range

    async def watched(self: System, path: str, offset: int, length: int) -> bytes:
        asked.append((offset, length))
        return await whole(self, path, offset, length)

    monkeypatch.setattr(System, "read_range", watched)
    with (root / "big.bin").open("rb", block_size=256 * 1024) as file:
        file.seek(9_000_000)
        assert file.read(1000) == content[9_000_000:9_001_000]
        file.seek(-10, os.SEEK_END)
        assert file.read() == content[-10:]
    if anywhere.kind == "plain":
        assert not asked
    else:
        assert 0 < sum(length for _, length in asked) < 2 * 1024 * 1024
    with (root / "big.bin").open("rb") as file, (root / "other.bin").open("wb") as other:
        while block := file.read(1024 * 1024):
            other.write(block)
    assert (root / "other.bin").checksum() == (root / "big.bin").checksum()


@pytest.mark.parametrize("anywhere", ["local"], indirect=True)
class TestDetails:
    @pytest.mark.parametrize(("mode", "half"), [("w", "half"), ("wb", b"half")])
    def test_what_an_error_interrupts_is_not_written(self, root: ObjectStoragePath, mode: str, half: Any) -> None:
        def interrupted() -> None:
            with (root / "file").open(mode) as file:
                file.write(half)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            interrupted()
        assert list(root.iterdir()) == []

    def test_appending(self, root: ObjectStoragePath) -> None:
        for line in ("one\n", "two\n"):
            with (root / "log").open("a") as file:
                file.write(line)
        assert (root / "log").read_text() == "one\ntwo\n"

    def test_links(self, root: ObjectStoragePath, anywhere: Place) -> None:
        (root / "real").mkdir()
        (root / "real/file").write_text("x")
        Path(anywhere.workdir, "link").symlink_to("real")
        Path(anywhere.workdir, "broken").symlink_to("nowhere")
        assert [each.name for each in (root / "link").iterdir()] == ["file"]
        assert (root / "link").is_dir()
        assert sorted(each.name for each in root.iterdir()) == ["broken", "link", "real"]
        assert not (root / "broken").exists()

    def test_directories(self, root: ObjectStoragePath) -> None:
        (root / "d").mkdir()
        with pytest.raises(FileExistsError):
            (root / "d").mkdir()
        (root / "d").mkdir(exist_ok=True)
        (root / "d/f").touch()
        with pytest.raises(IsADirectoryError):
            (root / "d").unlink()
        with pytest.raises(OSError, match="not empty"):
            (root / "d").fs.rmdir((root / "d").path)
        with pytest.raises(IsADirectoryError):
            (root / "d").open("rb")

    def test_pandas_like_readers_take_it(self, root: ObjectStoragePath) -> None:
        """What reads through a file object: here the csv module, line by line."""
        (root / "t.csv").write_text("a,b\n1,2\n")
        with (root / "t.csv").open() as file:
            assert list(csv.DictReader(file)) == [{"a": "1", "b": "2"}]

    def test_a_system_that_is_not_there(self, anywhere: Place, root: ObjectStoragePath) -> None:
        with pytest.raises(SystemNotFoundError, match="nosuch"):
            ObjectStoragePath("firecrest://firecrest_default@nosuch/tmp/x").read_text()

    def test_a_path_travels_between_tasks(self, root: ObjectStoragePath, anywhere: Place, task_log: Any) -> None:
        where = str(root)
        with DAG("paths", schedule=None) as dag:

            @task
            def write() -> ObjectStoragePath:
                path = ObjectStoragePath(where) / "result.txt"
                path.write_text("all of it")
                return path

            @task
            def read(path: ObjectStoragePath) -> str:
                return path.read_text()

            read(write())
        done = run(dag)
        assert done.xcom("read") == "all of it", task_log.errors
