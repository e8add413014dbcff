"""Names of files on plain FirecREST: none runs as a command, and all travel. Its jobs quote as a real server's do."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from crestline.client.backends.messages import BundleFilter
from crestline.client.connection import Connection
from crestline.client.files import download, upload
from crestline.client.files.bundle import BundleFile, download_bundle, upload_bundle
from crestline.model import InvalidRequestError
from crestline.testing.firecrest import PlainFirecrest, running

pytestmark = pytest.mark.anyio

LIMIT = 40_000
SIZE = LIMIT + 10

NAMES = (
    "data;touch PWNED;x",
    "$(touch PWNED)",
    "`touch PWNED`",
    "a|touch PWNED",
    "x&touch PWNED&y",
    ">PWNED",
    "a\ttouch PWNED",
    'q"; touch PWNED; "',
    "*",
    "sp ace20.bin",
    "c(1).bin",
    "b&g 20.bin",
    "{a,b}~!#=[x]?^",
    "back\\slash",
    "名前 ü.bin",
)
LONG = "n" * 255
UNASKABLE = ("it's; touch PWNED; '", "new\ntouch PWNED\nline")
"""what FirecREST cannot be asked for, because its commands would end at these quotes"""


@pytest.fixture(scope="module", params=["s3"])
def plain_server(request: pytest.FixtureRequest) -> Iterator[PlainFirecrest]:
    options = {"max_ops_file_size": LIMIT, "upload_poll": 0.02, "data_transfer": request.param}
    with running(**options) as plain:
        yield plain


with_and_without_s3 = pytest.mark.parametrize("plain_server", ["s3", "streamer"], indirect=True)


@pytest.fixture
def plain(plain_server: PlainFirecrest) -> Iterator[PlainFirecrest]:
    plain_server.requests.clear()
    yield plain_server
    plain_server.faults.reset()
    assert not [path for path in plain_server.settings.root.rglob("*PWNED*") if path.name == "PWNED"]
    left = [path for mount in plain_server.settings.mounts for path in mount.rglob(".crestline-*")]
    assert not left, "temporary files were left behind"


def content(size: int = SIZE) -> bytes:
    return random.Random(size).randbytes(size)


@with_and_without_s3
@pytest.mark.parametrize("name", [*NAMES[:8], *NAMES[9:], *UNASKABLE, LONG])  # without the one that is a pattern
async def test_a_large_file_comes(connection: Connection, remote: Path, tmp_path: Path, name: str) -> None:
    (remote / name).write_bytes(content())
    await download(connection.files, f"{remote}/{name}", tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == content()


@pytest.mark.parametrize("name", [*NAMES[:8], *NAMES[9:]])
async def test_a_small_file_comes(connection: Connection, remote: Path, tmp_path: Path, name: str) -> None:
    """Its checksum is compared, which FirecREST reads from a line that has the name beside it."""
    (remote / name).write_bytes(b"small")
    assert await connection.files.checksum(f"{remote}/{name}", 5) == hashlib.sha256(b"small").hexdigest()
    await download(connection.files, f"{remote}/{name}", tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == b"small"


@with_and_without_s3
@pytest.mark.parametrize("name", [*NAMES, LONG])
async def test_a_large_file_goes(connection: Connection, remote: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(content())
    await upload(connection.files, tmp_path / name, f"{remote}/{name}")
    assert (remote / name).read_bytes() == content()


@with_and_without_s3
@pytest.mark.parametrize("name", [*NAMES[:8], *NAMES[9:]])
async def test_a_directory_of_that_name(connection: Connection, remote: Path, tmp_path: Path, name: str) -> None:
    (remote / name).mkdir()
    (tmp_path / "f").write_bytes(content())
    await upload(connection.files, tmp_path / "f", f"{remote}/{name}/")
    assert (remote / name / "f").read_bytes() == content()
    await download(connection.files, f"{remote}/{name}/f", tmp_path / "g")
    assert (tmp_path / "g").read_bytes() == content()


@with_and_without_s3
@pytest.mark.parametrize("name", UNASKABLE)
async def test_what_cannot_be_asked_for_comes_under_its_own_name(
    connection: Connection, remote: Path, tmp_path: Path, name: str
) -> None:
    (remote / name).mkdir()
    (remote / name / "small").write_text("small")
    (remote / name / name).write_bytes(content())
    for count in range(12):
        (remote / name / f"f{count}").write_text(str(count))
    await download(connection.files, f"{remote}/{name}", tmp_path / "tree")
    assert (tmp_path / "tree" / "small").read_text() == "small"
    assert (tmp_path / "tree" / name).read_bytes() == content()
    assert len(os.listdir(tmp_path / "tree")) == 14
    await download(connection.files, f"{remote}/{name}/small", f"{tmp_path}/into/")
    assert (tmp_path / "into/small").read_text() == "small"


@with_and_without_s3
@pytest.mark.parametrize("others", [0, 20])
async def test_a_tree_with_all_of_them_both_ways(
    connection: Connection, remote: Path, tmp_path: Path, others: int
) -> None:
    source, back = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for number, name in enumerate([*NAMES, *UNASKABLE] if others else NAMES[:5]):
        (source / name).write_bytes(content(SIZE + number))
    for number in range(others):
        (source / f"f{number}").write_text(str(number))
    await upload(connection.files, source, f"{remote}/tree")
    await download(connection.files, f"{remote}/tree", back)
    for tree in (remote / "tree", back):
        there = {name: (tree / name).read_bytes() for name in os.listdir(tree) if name[:10] != ".crestline"}
        assert there == {name: (source / name).read_bytes() for name in os.listdir(source)}
    (remote / "tree" / ".crestline-manifest.json").unlink()


@pytest.mark.parametrize("name", [*NAMES, *UNASKABLE])
async def test_copy_move_and_remove(plain: PlainFirecrest, connection: Connection, remote: Path, name: str) -> None:
    (remote / "a").write_text("a")
    await connection.files.finish(await connection.backend.files.copy(f"{remote}/a", f"{remote}/{name}"))
    assert (remote / name).read_text() == "a"
    await connection.files.finish(await connection.backend.files.move(f"{remote}/{name}", f"{remote}/{name}2"))
    assert (remote / f"{name}2").read_text() == "a"
    if name in NAMES:
        plain.faults.fail(408, "/ops/rm")
        await connection.files.finish(await connection.backend.files.remove(f"{remote}/{name}2"))
        assert os.listdir(remote) == ["a"]


@pytest.mark.parametrize("name", NAMES)
async def test_jobs_that_pack_and_unpack(
    plain: PlainFirecrest, connection: Connection, remote: Path, name: str
) -> None:
    (remote / name).mkdir()
    (remote / name / "f").write_text("f")
    (remote / f"to {name}").mkdir()
    plain.faults.fail(408, "/ops/compress")
    plain.faults.fail(408, "/ops/extract")
    await connection.files.finish(
        await connection.backend.files.compress(f"{remote}/{name}", f"{remote}/{name}.tar.gz")
    )
    await connection.files.finish(
        await connection.backend.files.extract(f"{remote}/{name}.tar.gz", f"{remote}/to {name}")
    )
    assert (remote / f"to {name}" / name / "f").read_text() == "f"


@pytest.mark.parametrize("is_slow", [False, True])
@pytest.mark.parametrize("name", NAMES)
async def test_bundles_below_and_of_that_name(
    plain: PlainFirecrest, connection: Connection, remote: Path, tmp_path: Path, name: str, is_slow: bool
) -> None:
    stage = remote / name / name
    stage.mkdir(parents=True)
    (tmp_path / "f").write_text("f")
    await upload_bundle(
        connection.files, str(stage), [BundleFile(path=name), BundleFile(path=f"{name}/{name}", source=tmp_path / "f")]
    )
    assert (stage / name / name).read_text() == "f"
    if is_slow:
        plain.faults.fail(408, "/ops/compress")
    selection = BundleFilter(directory=name, target=tmp_path / "out", patterns=(name.replace("[", "?"),))
    assert await download_bundle(connection.files, str(stage), [selection]) == {name: [name]}
    assert (tmp_path / "out" / name).read_text() == "f"


@with_and_without_s3
async def test_a_link_brings_the_file_that_it_leads_to(connection: Connection, remote: Path, tmp_path: Path) -> None:
    (remote / "sub").mkdir()
    (remote / "sub" / "b&g ü.bin").write_bytes(content())
    (remote / "sub" / "second").symlink_to("b&g ü.bin")
    (remote / "link").symlink_to("sub/second")
    (remote / "odd link").symlink_to("sub/second")
    for name in ("link", "odd link"):
        await download(connection.files, f"{remote}/{name}", tmp_path / name)
        assert (tmp_path / name).read_bytes() == content()


async def test_listings_have_names_as_they_are(connection: Connection, remote: Path) -> None:
    names = {"ü", "名前.txt", "plain", "sp ace"}
    for name in names:
        (remote / name).touch()
    (remote / "link").symlink_to("ü")
    (remote / os.fsdecode(b"\xff\xfe")).touch()
    found = {file.name: file for file in await connection.backend.files.list(str(remote), recursive=True)}
    assert found.keys() == names | {"link", "\\377\\376"}
    assert found["link"].link_target == "ü"


async def test_an_account_is_no_line_of_a_script(plain: PlainFirecrest, connection: Connection, remote: Path) -> None:
    connection.backend.account = "proj1\ntouch PWNED"
    (remote / "f").write_bytes(content())
    with pytest.raises(InvalidRequestError, match="account"):
        await connection.files.finish(await connection.backend.files.copy(f"{remote}/f", f"{remote}/g"))
    with pytest.raises(InvalidRequestError, match="account"):
        await connection.backend.transfers.split(f"{remote}/f", f"{remote}/pieces", LIMIT)
    assert not [seen for seen in plain.requests if seen.method == "POST"]
