"""Files to and from plain FirecREST, as the stand-in is one."""

from __future__ import annotations

import os
import random
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import msgspec
import pytest

from crestline.client.connection import Connection
from crestline.client.files import download, upload
from crestline.client.system_files import SystemFiles
from crestline.model import (
    File,
    FileMissingError,
    FileType,
    InvalidRequestError,
    PermissionDeniedError,
    TransferError,
)
from crestline.testing.firecrest import PlainFirecrest, running
from harness.cutting import relay_to
from harness.trees import make_tree, tree_of

pytestmark = pytest.mark.anyio

LIMIT = 40_000
"""of one operation, small so that the tests need not move much"""
DIRECT = (LIMIT - 1) // 4 * 3
SIZES = (0, 1, DIRECT - 1, DIRECT, DIRECT + 1, LIMIT - 1, LIMIT, LIMIT + 1, 20 * 1024 * 1024)


@pytest.fixture(scope="module")
def plain_server() -> Iterator[PlainFirecrest]:
    with running(max_ops_file_size=LIMIT, max_part_size=3 * 1024 * 1024, upload_poll=0.02) as plain:
        yield plain


def content(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def paths(plain: PlainFirecrest, method: str = "") -> list[str]:
    return [seen.path for seen in plain.requests if seen.method.startswith(method)]


@pytest.mark.parametrize("size", SIZES)
async def test_every_size_arrives_both_ways(connection: Connection, remote: Path, tmp_path: Path, size: int) -> None:
    source, target = tmp_path / "in.bin", tmp_path / "out.bin"
    source.write_bytes(content(size))
    told: list[tuple[int, int, str]] = []

    sent = await upload(connection.files, source, f"{remote}/f.bin", progress=lambda *news: told.append(news))
    assert (remote / "f.bin").read_bytes() == content(size)
    assert (sent.files, sent.unchanged, sent.bytes) == (1, 0, size)
    if size:
        assert told[-1] == (size, size, "in.bin")

    told.clear()
    got = await download(connection.files, f"{remote}/f.bin", target, progress=lambda *news: told.append(news))
    assert target.read_bytes() == content(size)
    assert (got.files, got.bytes) == (1, size)
    if size:
        assert told[-1] == (size, size, "out.bin")
    assert sorted(os.listdir(tmp_path)) == ["in.bin", "out.bin"]
    assert os.listdir(remote) == ["f.bin"]


async def test_the_cheapest_way_is_taken(
    connection: Connection, plain: PlainFirecrest, remote: Path, tmp_path: Path
) -> None:
    source = tmp_path / "f"
    source.write_bytes(content(LIMIT - 100))
    await upload(connection.files, source, f"{remote}/f")
    assert plain.count("POST", "/ops/upload") == 1
    assert plain.count("POST", "/transfer/upload") == 0
    source.write_bytes(content(LIMIT + 1))
    await upload(connection.files, source, f"{remote}/f")
    assert plain.count("POST", "/transfer/upload") == 1


async def test_a_file_goes_into_a_directory_as_cp_does(connection: Connection, remote: Path, tmp_path: Path) -> None:
    source = tmp_path / "run.sh"
    source.write_text("#!/bin/sh\n")
    source.chmod(0o750)
    (remote / "there").mkdir()
    await upload(connection.files, source, f"{remote}/there")
    await upload(connection.files, source, f"{remote}/new/deep/")
    await upload(connection.files, source, f"{remote}/plain-name")
    for path in ("there/run.sh", "new/deep/run.sh", "plain-name"):
        assert (remote / path).read_text() == "#!/bin/sh\n"
        assert (remote / path).stat().st_mode & 0o777 == 0o750

    (tmp_path / "here").mkdir()
    await download(connection.files, f"{remote}/plain-name", tmp_path / "here")
    await download(connection.files, f"{remote}/plain-name", f"{tmp_path}/made/")
    for place in ("here", "made"):
        assert os.access(tmp_path / place / "plain-name", os.X_OK)


async def test_a_directory_arrives_and_only_changes_travel_again(
    connection: Connection, plain: PlainFirecrest, remote: Path, tmp_path: Path
) -> None:
    source = tmp_path / "tree"
    make_tree(source, odd_names=True)
    first = await upload(connection.files, source, f"{remote}/copy/")
    assert tree_of(remote / "copy", without=(".crestline-manifest.json",)) == tree_of(source)
    assert first.files == sum(1 for path in source.rglob("*") if path.is_file() and not path.is_symlink())
    assert first.unchanged == 0

    plain.requests.clear()
    again = await upload(connection.files, source, f"{remote}/copy")
    assert (again.files, again.unchanged, again.bytes) == (0, first.files, 0)
    assert not [path for path in paths(plain, "POST") if not path.endswith("/token")]

    (source / "a.txt").write_text("changed")
    third = await upload(connection.files, source, f"{remote}/copy")
    assert (third.files, third.unchanged, third.bytes) == (1, first.files - 1, 7)
    assert tree_of(remote / "copy", without=(".crestline-manifest.json",)) == tree_of(source)


async def test_what_a_job_changed_is_sent_again(connection: Connection, remote: Path, tmp_path: Path) -> None:
    source = tmp_path / "tree"
    make_tree(source)
    await upload(connection.files, source, f"{remote}/copy")
    (remote / "copy/a.txt").write_text("ALPHA")  # the same size
    (remote / "copy/sub/b.txt").unlink()
    (remote / "copy/sub/tool").chmod(0o644)
    report = await upload(connection.files, source, f"{remote}/copy")
    assert report.files == 3
    assert tree_of(remote / "copy", without=(".crestline-manifest.json",)) == tree_of(source)


async def test_a_change_in_the_second_of_the_upload_is_found(
    connection: Connection, remote: Path, tmp_path: Path
) -> None:
    source = tmp_path / "tree"
    make_tree(source)
    young = time.time() + 3600
    os.utime(source / "a.txt", (young, young))
    await upload(connection.files, source, f"{remote}/copy")
    (remote / "copy/a.txt").write_text("ALPHA")
    os.utime(remote / "copy/a.txt", (young, young))
    report = await upload(connection.files, source, f"{remote}/copy")
    assert report.files == 1
    assert (remote / "copy/a.txt").read_text() == "alpha"


async def test_a_directory_comes_and_only_changes_travel_again(
    connection: Connection, plain: PlainFirecrest, remote: Path, tmp_path: Path
) -> None:
    make_tree(remote / "tree", odd_names=True, files=20)
    target = tmp_path / "copy"
    first = await download(connection.files, f"{remote}/tree", target)
    assert tree_of(target) == tree_of(remote / "tree")
    assert plain.count("POST", "/ops/compress") == 1

    plain.requests.clear()
    (remote / "tree/a.txt").write_text("changed")
    # Names that plain FirecREST cannot be asked for by themselves come again.
    again = await download(connection.files, f"{remote}/tree", target)
    assert again.files < first.files
    assert again.files + again.unchanged == first.files
    assert tree_of(target) == tree_of(remote / "tree")


async def test_a_server_that_lists_names_with_escapes(
    connection: Connection, remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As FirecREST does where the login shell has no UTF-8 locale: ls escapes, and nothing takes the escapes out.
    honest = connection.backend.files.list

    async def escaping(path: str, **options: bool) -> list[File]:
        return [
            msgspec.structs.replace(
                file, name=escaped(file.name), link_target=file.link_target and escaped(file.link_target)
            )
            for file in await honest(path, **options)
        ]

    monkeypatch.setattr(connection.backend.files, "list", escaping)
    source = tmp_path / "tree"
    make_tree(source, odd_names=True)
    (source / "leer ä").mkdir()
    (source / "zu ä").symlink_to("leer ä")
    sent = await upload(connection.files, source, f"{remote}/copy")
    assert tree_of(remote / "copy", without=(".crestline-manifest.json",)) == tree_of(source)
    assert (await upload(connection.files, source, f"{remote}/copy")).unchanged == sent.files
    await download(connection.files, f"{remote}/copy", tmp_path / "back")
    assert tree_of(tmp_path / "back") == tree_of(source)
    await download(connection.files, f"{remote}/copy", tmp_path / "back")
    assert tree_of(tmp_path / "back") == tree_of(source)


def escaped(name: str) -> str:
    """As ls --quoting-style=c in the C locale, less the quotes and what shlex takes out."""
    named = {"\n": "\\n", "\t": "\\t"}
    return "".join(
        named.get(char) or (char if char.isascii() else "".join(f"\\{byte:03o}" for byte in char.encode()))
        for char in name
    )


async def test_few_changed_files_come_one_by_one(
    connection: Connection, plain: PlainFirecrest, remote: Path, tmp_path: Path
) -> None:
    source = tmp_path / "tree"
    make_tree(source, files=30)
    await upload(connection.files, source, f"{remote}/tree")
    (remote / "tree/sub/b.txt").write_text("result")
    plain.requests.clear()
    report = await download(connection.files, f"{remote}/tree", source)
    assert (report.files, report.bytes) == (1, 6)
    assert (source / "sub/b.txt").read_text() == "result"
    assert plain.count("POST", "/ops/compress") == 0
    assert plain.count("GET", "/ops/download") == 2  # the manifest and the file
    assert plain.count("GET", "/ops/checksum") == 2  # no checksum is asked of what the manifest knows


async def test_odd_names_survive(connection: Connection, plain: PlainFirecrest, remote: Path, tmp_path: Path) -> None:
    names = ["with space", "am&p <x>.bin", 'quo"te', "new\nline", "apo'strophe", "back\\slash", "名前", "$HOME `id`"]
    for size in (10, LIMIT + 10):
        async with anyio.create_task_group() as group:
            for name in names:
                (tmp_path / name).write_bytes(content(size))
                group.start_soon(upload, connection.files, tmp_path / name, f"{remote}/")
        assert sorted(os.listdir(remote)) == sorted(names)
        back = tmp_path / "back" / str(size)
        back.mkdir(parents=True)
        async with anyio.create_task_group() as group:
            for number, name in enumerate(names):
                assert (remote / name).read_bytes() == content(size)
                group.start_soon(download, connection.files, f"{remote}/{name}", back / str(number))
        assert {file.read_bytes() for file in back.iterdir()} == {content(size)}
        assert len(list(back.iterdir())) == len(names)
        for name in names:
            (remote / name).unlink()
    assert not [name for name in os.listdir(plain.home) if name.startswith(".crestline-")]
    with pytest.raises(InvalidRequestError, match="annot handle"):
        await upload(connection.files, tmp_path / "名前", f"{remote}/it's/")


async def test_large_files_reach_directories_with_odd_names(
    connection: Connection, plain: PlainFirecrest, remote: Path, tmp_path: Path
) -> None:
    (tmp_path / "f").write_bytes(content(LIMIT + 1))
    await upload(connection.files, tmp_path / "f", f"{remote}/R&D <1>/")
    assert (remote / "R&D <1>" / "f").read_bytes() == content(LIMIT + 1)
    await download(connection.files, f"{remote}/R&D <1>/f", tmp_path / "g")
    assert (tmp_path / "g").read_bytes() == content(LIMIT + 1)
    assert not [name for name in os.listdir(plain.home) if name.startswith(".crestline-")]


async def test_patterns(connection: Connection, remote: Path, tmp_path: Path) -> None:
    for name in ("a1.out", "a2.out", "b.err", ".hidden.out", "[x].out"):
        (remote / name).write_text(name)
    (remote / "sub").mkdir()
    (remote / "sub/c1.out").write_text("c1")
    report = await download(connection.files, f"{remote}/*.out", tmp_path / "got")
    assert report.files == 3
    assert sorted(os.listdir(tmp_path / "got")) == ["[x].out", "a1.out", "a2.out"]
    await download(connection.files, f"{remote}/s*/c[0-9].out", tmp_path / "deep")
    assert os.listdir(tmp_path / "deep") == ["c1.out"]
    await download(
        connection.files, f"{remote}/[x].out", tmp_path / "literal"
    )  # the pattern matches nothing, the name does
    assert (tmp_path / "literal").read_text() == "[x].out"
    with pytest.raises(FileMissingError, match="Nothing matches"):
        await download(connection.files, f"{remote}/*.none", tmp_path / "none")


async def test_a_cut_download_goes_on_where_it_stood(
    connection: Connection, plain: PlainFirecrest, remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 12 * 1024 * 1024
    (remote / "f").write_bytes(content(size))
    with relay_to(plain.neighbours_url) as relay:
        monkeypatch.setattr(plain._facility.store, "base_url", relay.url)
        relay.cuts_down += [5 * 1024 * 1024, 3 * 1024 * 1024]
        await download(connection.files, f"{remote}/f", tmp_path / "f")
        assert not relay.cuts_down
        assert relay.down < size + 1024 * 1024  # nothing came twice
    assert (tmp_path / "f").read_bytes() == content(size)


async def test_a_later_call_goes_on_with_the_part_that_is_there(
    connection: Connection, plain: PlainFirecrest, remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 12 * 1024 * 1024
    (remote / "f").write_bytes(content(size))
    with relay_to(plain.neighbours_url) as relay:
        monkeypatch.setattr(plain._facility.store, "base_url", relay.url)
        relay.cuts_down += [9 * 1024 * 1024]
        plain.faults.fail(403, path="/s3/", method="GET", skip=1, count=3)  # as when the URL expires meanwhile
        with pytest.raises(TransferError):
            await download(connection.files, f"{remote}/f", tmp_path / "f")
        assert [path.suffix for path in tmp_path.iterdir()] == [".part"]
        before = relay.down
        await download(connection.files, f"{remote}/f", tmp_path / "f")
        assert relay.down - before < 4 * 1024 * 1024
    assert (tmp_path / "f").read_bytes() == content(size)
    assert os.listdir(tmp_path) == ["f"]


async def test_parts_are_sent_again(
    connection: Connection, plain: PlainFirecrest, remote: Path, tmp_path: Path
) -> None:
    (tmp_path / "f").write_bytes(content(10 * 1024 * 1024))
    plain.faults.fail(503, path="/s3/", method="PUT", count=2)
    plain.faults.drop(path="/s3/", method="PUT", when="after")
    plain.faults.fail(500, path="/s3/", method="POST")
    told: list[tuple[int, int, str]] = []
    await upload(connection.files, tmp_path / "f", f"{remote}/f", progress=lambda *news: told.append(news))
    assert (remote / "f").read_bytes() == content(10 * 1024 * 1024)
    assert told[-1][:2] == (10 * 1024 * 1024, 10 * 1024 * 1024)


async def test_a_refused_url_is_no_secret_spilt_and_no_job_left(
    connection: Connection, plain: PlainFirecrest, remote: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "f").write_bytes(content(LIMIT + 1))
    plain.faults.fail(403, path="/s3/", method="PUT", count=None)
    with caplog.at_level("DEBUG"), pytest.raises(TransferError, match="403") as caught:
        await upload(connection.files, tmp_path / "f", f"{remote}/f")
    errors: list[BaseException | None] = [caught.value]
    for error in errors:
        if error is not None:
            errors += [error.__cause__, error.__context__]
            assert not hasattr(error, "request")
    told = caplog.text + "".join(traceback.format_exception(caught.value)) + repr(vars(caught.value))
    assert "PUT" in caplog.text
    assert "ignature" not in told
    assert all(job.state not in ("PENDING", "RUNNING") for job in plain.jobs())


async def test_no_credentials_reach_the_store(
    connection: Connection, plain: PlainFirecrest, remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "f").write_bytes(bytes(LIMIT + 1))
    with relay_to(plain.neighbours_url) as relay:
        monkeypatch.setattr(plain._facility.store, "base_url", relay.url)
        await upload(connection.files, tmp_path / "f", f"{remote}/f")
        await download(connection.files, f"{remote}/f", tmp_path / "g")
        for verb in (b"PUT", b"POST", b"GET"):
            assert verb + b" /s3/" in relay.heard
        assert b"authorization" not in relay.heard.lower()


async def test_a_corrupted_answer_is_found(
    connection: Connection, plain: PlainFirecrest, remote: Path, tmp_path: Path
) -> None:
    (remote / "f").write_text("the truth")
    plain.faults.garble("/ops/download", body="the trash")
    await download(connection.files, f"{remote}/f", tmp_path / "f")
    assert (tmp_path / "f").read_text() == "the truth"
    plain.faults.garble("/ops/download", body="the trash", count=None)
    with pytest.raises(TransferError, match="did not arrive"):
        await download(connection.files, f"{remote}/f", tmp_path / "g")
    assert not (tmp_path / "g").exists()


async def test_a_wrong_upload_is_sent_again(
    connection: Connection, plain: PlainFirecrest, remote: Path, tmp_path: Path
) -> None:
    (tmp_path / "f").write_text("the truth")
    plain.faults.fail(204, "/ops/upload")  # confirmed, and not done
    await upload(connection.files, tmp_path / "f", f"{remote}/f")
    assert (remote / "f").read_text() == "the truth"
    plain.faults.fail(204, "/ops/upload", count=None)
    (tmp_path / "f").write_text("another truth")
    with pytest.raises(TransferError, match="did not arrive"):
        await upload(connection.files, tmp_path / "f", f"{remote}/f")


async def test_errors_are_typed(connection: Connection, remote: Path, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    with pytest.raises(FileMissingError, match="on this machine"):
        await upload(connection.files, tmp_path / "none", f"{remote}/f")
    with pytest.raises(FileMissingError):
        await upload(connection.files, tmp_path / "f", f"{remote}/no/such/f")
    with pytest.raises(FileMissingError):
        await download(connection.files, f"{remote}/none", tmp_path / "g")
    with pytest.raises(InvalidRequestError, match="absolute"):
        await upload(connection.files, tmp_path / "f", "relative/f")
    (remote / "f").write_text("x")
    with pytest.raises(FileMissingError, match="on this machine"):
        await download(connection.files, f"{remote}/f", tmp_path / "no" / "g")


async def test_another_users_file_is_refused(connection: Connection, plain: PlainFirecrest, tmp_path: Path) -> None:
    secret = plain.settings.home_of(plain.second_user.name) / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    with pytest.raises(PermissionDeniedError):
        await download(connection.files, str(secret), tmp_path / "f")
    assert not (tmp_path / "f").exists()


LARGE = 3 * 1024 * 1024


async def test_an_upload_that_is_left_to_its_job(
    plain: PlainFirecrest, connection: Connection, remote: Path, tmp_path: Path
) -> None:
    source = tmp_path / "in.bin"
    source.write_bytes(content(LARGE))
    source.chmod(0o755)
    sent = await upload(connection.files, source, f"{remote}/f.bin", wait=False)
    [job_id] = sent.pending
    await connection.monitor.wait(job_id)
    plain.requests.clear()
    again = await upload(connection.files, source, f"{remote}/f.bin")
    assert (again.files, again.unchanged, again.pending) == (0, 1, ())
    assert not [path for path in paths(plain) if "/transfer/" in path]
    assert (remote / "f.bin").read_bytes() == content(LARGE)
    assert os.access(remote / "f.bin", os.X_OK)


async def test_a_download_that_is_left_to_its_job(
    plain: PlainFirecrest, connection: Connection, remote: Path, tmp_path: Path
) -> None:
    (remote / "f.bin").write_bytes(content(LARGE))
    target = tmp_path / "out.bin"
    slots, plain.settings.transfer_slots = plain.settings.transfer_slots, 0
    begun = await download(connection.files, f"{remote}/f.bin", target, wait=False)
    assert begun.files == 0
    assert not target.exists()
    assert (await download(connection.files, f"{remote}/f.bin", target, wait=False)).pending == begun.pending
    plain.settings.transfer_slots = slots
    assert [path.stat().st_mode & 0o777 for path in tmp_path.glob("*.transfer")] == [0o600]
    await connection.monitor.wait(begun.pending[0])
    got = await download(connection.files, f"{remote}/f.bin", target, wait=False)
    assert (got.files, got.pending) == (1, ())
    assert target.read_bytes() == content(LARGE)
    assert sum("/transfer/download" in path for path in paths(plain)) == 1
    assert os.listdir(tmp_path) == ["out.bin"]


async def test_large_files_of_a_directory_are_left_to_their_jobs(
    plain: PlainFirecrest, connection: Connection, remote: Path, tmp_path: Path
) -> None:
    source, back = tmp_path / "in", tmp_path / "out"
    (source / "deep").mkdir(parents=True)
    large = {"a.bin": content(LARGE), "deep/b.bin": content(LARGE + 1)}
    for name, data in large.items():
        (source / name).write_bytes(data)
    (source / "deep/run").write_text("#!/bin/sh\n")
    (source / "deep/run").chmod(0o755)
    (remote / "tree").mkdir()
    (remote / "elsewhere").write_text("theirs")
    (remote / "tree/a.bin").symlink_to("../elsewhere")
    sent = await upload(connection.files, source, f"{remote}/tree", wait=False)
    assert len(sent.pending) == 2  # one of an archive, since a link is not written through
    assert (sent.files, sent.bytes) == (3, 2 * LARGE + 1 + len("#!/bin/sh\n"))
    for job_id in sent.pending:
        await connection.monitor.wait(job_id)
    plain.requests.clear()
    again = await upload(connection.files, source, f"{remote}/tree")
    assert (again.files, again.unchanged, again.pending) == (0, 3, ())
    assert (remote / "elsewhere").read_text() == "theirs"

    begun = await download(connection.files, f"{remote}/tree", back, wait=False)
    assert (begun.files, len(begun.pending)) == (1, 2)
    for job_id in begun.pending:
        await connection.monitor.wait(job_id)
    got = await download(connection.files, f"{remote}/tree", back)
    assert (got.files, got.unchanged, got.pending) == (2, 1, ())
    assert sum("/transfer/download" in path for path in paths(plain)) == 2
    for tree in (remote / "tree", back):
        assert {name: (tree / name).read_bytes() for name in large} == large
        assert os.access(tree / "deep/run", os.X_OK)
    assert sorted(os.listdir(back)) == ["a.bin", "deep"]


async def test_a_large_file_of_a_directory_that_did_not_arrive_is_sent_again(
    plain: PlainFirecrest, connection: Connection, remote: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.bin").write_bytes(content(LARGE))
    sent = await upload(connection.files, tmp_path / "in", f"{remote}/tree", wait=False)
    await connection.monitor.wait(sent.pending[0])
    (remote / "tree/a.bin").write_bytes(content(LARGE)[1:] + b"!")
    again = await upload(connection.files, tmp_path / "in", f"{remote}/tree")
    assert (again.files, again.pending) == (1, ())
    assert (remote / "tree/a.bin").read_bytes() == content(LARGE)


async def test_a_begun_download_that_leads_nowhere_is_begun_anew(
    plain: PlainFirecrest, connection: Connection, remote: Path, tmp_path: Path
) -> None:
    (remote / "f.bin").write_bytes(content(LARGE))
    begun = await download(connection.files, f"{remote}/f.bin", tmp_path / "out.bin", wait=False)
    await connection.monitor.wait(begun.pending[0])
    [known] = tmp_path.glob("*.transfer")
    known.write_text(known.read_text().replace("f.bin", "g.bin"))
    await download(connection.files, f"{remote}/f.bin", tmp_path / "out.bin")
    assert (tmp_path / "out.bin").read_bytes() == content(LARGE)
    assert sum("/transfer/download" in path for path in paths(plain)) == 2
    assert os.listdir(tmp_path) == ["out.bin"]


async def test_small_files_do_not_wait_for_jobs(connection: Connection, remote: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.bin"
    source.write_bytes(content(DIRECT))
    assert not (await upload(connection.files, source, f"{remote}/f.bin", wait=False)).pending
    got = await download(connection.files, f"{remote}/f.bin", tmp_path / "out.bin", wait=False)
    assert (got.files, got.pending) == (1, ())


async def test_force_removes_read_only_directories() -> None:
    modes = {"/w": "r-x", "/w/go": "r-x", "/w/go/mod": "---", "/w/out": "rwx"}

    class Strict(SystemFiles):
        @property
        def connection(self) -> Any:
            return SimpleNamespace(files=SimpleNamespace(remove=self._try))

        async def _try(self, path: str) -> None:
            if any(mode != "rwx" for mode in modes.values()):
                raise PermissionDeniedError("rm: cannot remove")
            modes.clear()

        async def ls(self, path: str, *, hidden: bool = False, recursive: bool = False) -> list[File]:
            assert hidden
            assert "r" in modes[path]
            below = [each for each in modes if each.rpartition("/")[0] == path]
            return [
                File(name=each.rpartition("/")[2], type=FileType.DIRECTORY, size=0, permissions=modes[each])
                for each in below
            ]

        async def chmod(self, path: str, mode: str) -> None:
            assert mode == "700"
            modes[path] = "rwx"

    with pytest.raises(PermissionDeniedError):
        await Strict().remove("/w")
    await Strict().remove("/w", force=True)
    assert modes == {}
