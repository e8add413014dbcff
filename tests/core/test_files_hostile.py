"""What a hostile or broken gateway may send: nothing of it leaves the target."""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crestline.client.backends.firecrest.content_calls import ContentCalls
from crestline.client.files import download
from crestline.client.files.archive import unpack
from crestline.client.files.links import map_link
from crestline.client.remote_names import is_safe_link, safe_relative, spellings, stays_inside
from crestline.model import File, FileType, TransferError
from harness.backends import gateway_connection
from harness.gateway import RunningGateway

pytestmark = pytest.mark.anyio


def archive(*members: tuple[str, dict[str, Any]], content: bytes = b"evil") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, fields in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in fields.items():
                setattr(info, key, value)
            if not info.isreg():
                info.size = 0
            tar.addfile(info, io.BytesIO(content) if info.isreg() else None)
    return out.getvalue()


def nothing(count: int, name: str) -> None:
    """No progress is told."""


@pytest.mark.parametrize(
    "members",
    [
        [("../escaped", {})],
        [("sub/../../escaped", {})],
        [("/tmp/escaped-crestline", {})],
        [("link", {"type": tarfile.SYMTYPE, "linkname": ".."}), ("link/escaped", {})],
        [("link", {"type": tarfile.SYMTYPE, "linkname": "/etc"}), ("link/escaped", {})],
        [("hard", {"type": tarfile.LNKTYPE, "linkname": "../secret"})],
        [("device", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3})],
        [("pipe", {"type": tarfile.FIFOTYPE})],
    ],
)
def test_an_archive_stays_in_its_target(tmp_path: Path, members: list[tuple[str, dict[str, Any]]]) -> None:
    root = tmp_path / "target"
    root.mkdir()
    (tmp_path / "secret").write_text("secret")
    try:
        written = list(unpack(io.BytesIO(archive(*members)), root, lambda path: True, nothing))
    except TransferError:
        written = []
    assert written in ([], ["link/escaped"])  # made in a directory of its own: the link is passed over
    assert sorted(os.listdir(tmp_path)) == ["secret", "target"]
    assert not Path("/tmp/escaped-crestline").exists()
    assert not Path("/etc/escaped").exists()
    for path in root.rglob("*"):
        assert not path.is_symlink()
        assert path.is_dir() or path.read_bytes() == b"evil"


@pytest.mark.parametrize("linkname", ["out", "up/secret", "pipe", "absent"])
def test_a_hard_link_copies_no_file_from_elsewhere(tmp_path: Path, linkname: str) -> None:
    root = tmp_path / "target"
    root.mkdir()
    (tmp_path / "secret").write_text("secret")
    (root / "out").symlink_to(tmp_path / "secret")  # the user's own links
    (root / "up").symlink_to(tmp_path)
    os.mkfifo(root / "pipe")
    packed = archive(("hard", {"type": tarfile.LNKTYPE, "linkname": linkname}))
    with contextlib.suppress(TransferError, OSError):
        list(unpack(io.BytesIO(packed), root, lambda path: True, nothing))
    assert not (root / "hard").exists() or (root / "hard").read_bytes() == b""


def test_a_member_that_was_not_asked_for_is_not_written(tmp_path: Path) -> None:
    packed = archive(("wanted", {}), ("extra", {}))
    assert list(unpack(io.BytesIO(packed), tmp_path, lambda path: path == "wanted", nothing)) == ["wanted"]
    assert os.listdir(tmp_path) == ["wanted"]


@pytest.mark.parametrize("kept", [0, 100, 512, 700, 5000])
def test_a_cut_archive_is_an_error_and_leaves_no_half_file(tmp_path: Path, kept: int) -> None:
    packed = archive(("file", {}), content=b"x" * 6000)
    (tmp_path / "file").write_text("old")
    with pytest.raises(TransferError, match="damaged"):
        list(unpack(io.BytesIO(packed[:kept]), tmp_path, lambda path: True, nothing))
    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def test_special_bits_do_not_survive(tmp_path: Path) -> None:
    packed = archive(("tool", {"mode": 0o6777}), ("data", {"mode": 0o4644}))
    assert list(unpack(io.BytesIO(packed), tmp_path, lambda path: True, nothing)) == ["tool", "data"]
    assert not (tmp_path / "tool").stat().st_mode & 0o6002
    assert (tmp_path / "tool").stat().st_mode & 0o100
    assert not (tmp_path / "data").stat().st_mode & 0o111


@pytest.mark.parametrize("name", ["", "/", "/etc/passwd", "..", "../x", "a/../b", "a//b", "a/./b", ".", "a\0b", "a/"])
def test_names_that_leave_the_directory_are_refused(name: str) -> None:
    with pytest.raises(TransferError, match="leaves"):
        safe_relative(name)


@given(st.text(alphabet=st.characters(codec="utf-8"), min_size=1))
def test_names_that_stay_are_accepted_and_stay(name: str) -> None:
    try:
        safe_relative(name)
    except TransferError:
        return
    path = os.path.normpath(os.path.join("/root/dir", name))
    assert path.startswith("/root/dir/")
    assert name in spellings(name)


@pytest.mark.parametrize(
    ("path", "target", "inside"),
    [
        ("link", "file", True),
        ("a/link", "../file", True),
        ("a/link", "../../file", False),
        ("link", "..", False),
        ("link", "../..a", False),
        ("link", "..a", True),
        ("link", "a/../../b", False),
        ("link", "/file", False),
    ],
)
def test_where_links_lead(path: str, target: str, inside: bool) -> None:
    assert stays_inside(path, target) is inside
    assert is_safe_link(path, target) is inside


def test_a_link_that_another_link_could_turn_is_not_safe() -> None:
    assert stays_inside("link", "a/../b")
    assert not is_safe_link("link", "a/../b")
    assert is_safe_link("a/b/link", "../.././c")


@pytest.mark.parametrize(
    ("path", "target", "here"),
    [
        ("a/link", "/root/dir/b/file", "../b/file"),
        ("link", "/root/dir", "."),
        ("link", "/root//dir/./a/", "a"),
        ("a/self", "self", "self"),  # a circle does no harm
        ("link", "nowhere", "nowhere"),
        ("link", "/root/directory/file", None),
        ("link", "/root/dir/../secret", None),
        ("link", "/root/dir/a/../b", None),
        ("link", "//root/dir/a", None),
        ("link", "/etc/passwd", None),
        ("link", "../dir/file", None),
        ("link", "a/../b", None),
    ],
)
def test_links_in_the_directory_are_kept(path: str, target: str, here: str | None) -> None:
    assert map_link(path, target, "/root/dir") == here
    assert map_link(path, target, "/root/dir/") == here
    assert target.startswith("/") is False or map_link(path, target, "") is None


@given(st.text("ab./", max_size=12), st.text("ab./", max_size=12), st.sampled_from(["/", "/a", "/a/b/"]))
def test_no_link_leads_out(path: str, target: str, root: str) -> None:
    try:
        safe_relative(path)
    except TransferError:
        return
    if (here := map_link(path, target, root)) is not None:
        assert is_safe_link(path, here)


@pytest.mark.parametrize(
    ("name", "spelled"),
    [("a\nb", "a\\nb"), ("ä", "\\303\\244"), ("名", "名"), ('q"q', 'q"q'), ("\x01", "\\001"), ("b\\s", "b\\s")],
)
def test_spellings_of_a_listing(name: str, spelled: str) -> None:
    assert spelled in spellings(name)


@pytest.mark.parametrize("name", ["../escaped", "/etc/escaped", "a/../../escaped"])
async def test_a_listing_that_leaves_the_directory_is_refused(
    gateway: RunningGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    async with gateway_connection(gateway) as connection:
        remote = Path(await connection.backend.system.default_workdir()) / tmp_path.name
        (remote / "tree").mkdir(parents=True)
        answer = [File(name=name, type=FileType.FILE, size=4)]
        monkeypatch.setattr(connection.backend.files, "list", _returning(answer))
        with pytest.raises(TransferError, match="leaves"):
            await download(connection.files, f"{remote}/tree", tmp_path / "target")
        with pytest.raises(TransferError, match="leaves"):
            await download(connection.files, f"{remote}/tree/*", tmp_path / "target")
    assert not (tmp_path / "escaped").exists()


@pytest.mark.usefixtures("brief_pauses")
async def test_a_stream_with_other_files_than_listed(
    gateway: RunningGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway_connection(gateway) as connection:
        remote = Path(await connection.backend.system.default_workdir()) / tmp_path.name
        (remote / "tree").mkdir(parents=True)
        (remote / "tree/file").write_text("good")
        packed = archive(("../escaped", {}), ("extra", {}), ("file", {}))
        monkeypatch.setattr(ContentCalls, "get_tar", _streaming(packed))
        with pytest.raises(TransferError, match="leaves"):
            await download(connection.files, f"{remote}/tree", tmp_path / "target")
        monkeypatch.setattr(ContentCalls, "get_tar", _streaming(archive(("extra", {}))))
        with pytest.raises(TransferError, match="did not come"):
            await download(connection.files, f"{remote}/tree", tmp_path / "target")
    assert sorted(os.listdir(tmp_path)) == ["target"]
    assert os.listdir(tmp_path / "target") == []


def _returning(answer: list[File]) -> Callable[..., Any]:
    async def listing(path: str, **_: object) -> list[File]:
        return answer

    return listing


def _streaming(content: bytes) -> Callable[..., AsyncIterator[bytes]]:
    async def stream(self: object, path: str, files: Sequence[str] | None = None) -> AsyncIterator[bytes]:
        yield content

    return stream
