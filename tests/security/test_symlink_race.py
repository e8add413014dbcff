"""A directory that is exchanged for a link at any moment leads nowhere: paths are resolved and opened in one step."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from crestline.gateway.hosts import Files
from crestline.gateway.hosts.base import Uploads
from crestline.gateway.hosts.local import LocalHost, beneath
from crestline.gateway.paths import PathGuard
from crestline.model import CrestlineError, InvalidRequestError, PermissionDeniedError
from crestline.wire.extensions import TarSelection

pytestmark = pytest.mark.anyio

SECRET = b"the signing key"
ROUNDS = 120

# Exchanges two names, each time in one system call, until its input ends.
_SWAPPER = """
import ctypes, os, select, sys
libc = ctypes.CDLL(None, use_errno=True)
first, second = map(os.fsencode, sys.argv[1:])
print("ready", flush=True)
while not select.select([0], [], [], 0)[0]:
    for _ in range(100):
        if libc.renameat2(-100, first, -100, second, 2):
            raise OSError(ctypes.get_errno(), "renameat2")
"""

Attack = Callable[[Files, str], Awaitable[bytes]]


async def collected(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


async def once(content: bytes) -> AsyncIterator[bytes]:
    yield content


def tar_of(*names: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in names:
            tar.addfile(info := tarfile.TarInfo(name), io.BytesIO(b""))
            assert info.isreg()
    return buffer.getvalue()


async def read(files: Files, root: str) -> bytes:
    return await collected(files.read(f"{root}/way/x"))


async def checksum(files: Files, root: str) -> bytes:
    return (await files.checksum(f"{root}/way/x")).checksum.encode()


async def changed(files: Files, root: str) -> bytes:
    # Only a file with this checksum is left out of the answer.
    names = await files.changed(f"{root}/way", {"x": hashlib.sha256(SECRET).hexdigest()})
    return b"" if names else SECRET


async def stat(files: Files, root: str) -> bytes:
    return SECRET if (await files.stat(f"{root}/way/x", dereference=True)).size == len(SECRET) else b""


async def listing(files: Files, root: str) -> bytes:
    entries = await files.list(f"{root}/way/", hidden=True)
    entries = [*entries, *await files.list(root, recursive=True, dereference=True)]
    return SECRET if any(entry.name.endswith("only-outside") for entry in entries) else b""


async def tar(files: Files, root: str) -> bytes:
    shown = await collected(files.tar(f"{root}/way"))
    return SECRET if b"only-outside" in shown else shown


async def tar_of_names(files: Files, root: str) -> bytes:
    return await collected(files.tar(root, ["way/x"]))


async def select(files: Files, root: str) -> bytes:
    found = await files.select(root, [TarSelection(directory="way", patterns=("*",))])
    return SECRET if any(name.endswith("only-outside") for name in found) else b""


async def copy(files: Files, root: str) -> bytes:
    await files.copy(f"{root}/way/x", f"{root}/copy")
    return await collected(files.read(f"{root}/copy"))


async def copy_tree(files: Files, root: str) -> bytes:
    await files.copy(root, f"{root}/../copies/tree", dereference=True)
    return b""


async def compress(files: Files, root: str) -> bytes:
    await files.compress(f"{root}/way", f"{root}/packed", "none", pattern=None, dereference=True)
    return await collected(files.read(f"{root}/packed"))


async def move_out(files: Files, root: str) -> bytes:
    await files.move(f"{root}/way/x", f"{root}/moved")
    return await collected(files.read(f"{root}/moved"))


async def move_in(files: Files, root: str) -> bytes:
    await files.write(f"{root}/mine", once(b"mine"))
    await files.move(f"{root}/mine", f"{root}/way/x")
    return b""


async def write(files: Files, root: str) -> bytes:
    await files.write(f"{root}/way/x", once(b"mine"))
    return b""


async def append(files: Files, root: str) -> bytes:
    await files.uploads.append(f"{root}/way/x", "upload", 0, once(b"mine"))
    await files.uploads.finish(f"{root}/way/x", "upload")
    return b""


async def untar(files: Files, root: str) -> bytes:
    await files.untar(f"{root}/way", once(tar_of("x", "new", "deep/new")))
    return b""


async def make_directory(files: Files, root: str) -> bytes:
    await files.make_directory(f"{root}/way/a/b", parents=True)
    return b""


async def symlink(files: Files, root: str) -> bytes:
    await files.symlink(root, f"{root}/way/new")
    return b""


async def chmod(files: Files, root: str) -> bytes:
    await files.chmod(f"{root}/way/x", "777")
    return b""


async def chown(files: Files, root: str) -> bytes:
    await files.chown(f"{root}/way/x", str(os.getuid()), str(os.getgid() + 1 if os.getuid() == 0 else os.getgid()))
    return b""


async def copy_in(files: Files, root: str) -> bytes:
    await files.copy(f"{root}/own", f"{root}/way/x")
    return b""


async def copy_tree_in(files: Files, root: str) -> bytes:
    await files.copy(f"{root}/mine", f"{root}/way")
    return b""


async def copy_links(files: Files, root: str) -> bytes:
    await files.copy(root, f"{root}/../copies/links")
    return b""


async def move_tree_in(files: Files, root: str) -> bytes:
    await files.make_directory(f"{root}/brought/deep", parents=True)
    await files.move(f"{root}/brought", f"{root}/way/brought")
    return b""


async def move_tree_out(files: Files, root: str) -> bytes:
    await files.move(f"{root}/way/tree", f"{root}/gone")
    return b""


async def move_back(files: Files, root: str) -> bytes:
    await files.move(f"{root}/gone", f"{root}/way/tree")
    return b""


async def compress_in(files: Files, root: str) -> bytes:
    await files.compress(f"{root}/mine", f"{root}/way/x", "gzip", pattern=None, dereference=False)
    return b""


async def extract_from(files: Files, root: str) -> bytes:
    # Outside lies an archive, and unpacked it would show what it holds.
    await files.extract(f"{root}/way/archive", f"{root}/mine", "none")
    return SECRET if "only-in-archive" in [each.name for each in await files.list(f"{root}/mine")] else b""


async def extract_in(files: Files, root: str) -> bytes:
    await files.extract(f"{root}/packed.tar", f"{root}/way", "none")
    return b""


async def file_type(files: Files, root: str) -> bytes:
    return SECRET if "tar archive" in await files.file_type(f"{root}/way/archive") else b""


async def pieces(files: Files, root: str) -> bytes:
    await files.uploads.reserve(f"{root}/way/x", "pieces", 4)
    await files.uploads.piece(f"{root}/way/x", "pieces", 0, 4, once(b"mine"))
    await files.uploads.finish(f"{root}/way/x", "pieces")
    return b""


async def discard(files: Files, root: str) -> bytes:
    await files.uploads.discard(f"{root}/way/x", "pieces")
    return b""


async def remove_tree(files: Files, root: str) -> bytes:
    await files.remove(f"{root}/way/tree")
    return b""


async def remove(files: Files, root: str) -> bytes:
    await files.remove(f"{root}/way/x")
    return b""


ATTACKS: list[Attack] = [
    *(read, checksum, changed, stat, listing, tar, tar_of_names, select, copy, copy_tree, compress, move_out),
    *(move_in, write, append, untar, make_directory, symlink, chmod, chown, remove),
    *(copy_in, copy_tree_in, copy_links, move_tree_in, move_tree_out, move_back, compress_in, extract_from),
    *(extract_in, file_type, pieces, discard, remove_tree),
]


@contextlib.contextmanager
def exchanged(first: Path, second: Path) -> Iterator[None]:
    command = [sys.executable, "-c", _SWAPPER, str(first), str(second)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        try:
            yield
        finally:
            process.stdin.close()
            assert process.wait(60) == 0


def state_of(outside: Path) -> list[tuple[str, int, int, bytes]]:
    found = sorted(outside.rglob("*"))
    kept = [(each, each.read_bytes() if each.is_file() else b"") for each in found]
    return [(str(each), each.stat().st_mode, each.stat().st_gid, content) for each, content in kept]


@pytest.mark.parametrize("way", ["openat2", "walk"])
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
async def test_a_directory_exchanged_for_a_link_leads_nowhere(
    tmp_path: Path, attack: Attack, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "walk":
        monkeypatch.setattr(beneath, "_libc", None)
    outside, served = tmp_path / "outside", tmp_path / "served"
    outside.mkdir()
    (outside / "x").write_bytes(SECRET)
    (outside / "only-outside").touch()
    (outside / "tree" / "deep").mkdir(parents=True)
    (outside / "archive").write_bytes(tar_of("only-in-archive"))
    (served / "root" / "way").mkdir(parents=True)
    (served / "copies").mkdir()
    (served / "root" / "mine").mkdir()
    (served / "root" / "own").touch()
    (served / "root" / "packed.tar").write_bytes(tar_of("x", "new", "deep/new"))
    (served / "root" / "link").symlink_to(outside)
    root = f"{served}/root"
    before = state_of(outside)
    files = LocalHost("here", PathGuard("here", [str(served)])).files("alice")
    secret_sum = hashlib.sha256(SECRET).hexdigest().encode()
    own = os.open(served / "root" / "way", os.O_RDONLY)
    with exchanged(served / "root" / "way", served / "root" / "link"):
        for _ in range(ROUNDS):
            os.close(os.open("x", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=own))  # some attacks take it away
            with contextlib.suppress(FileExistsError):
                os.mkdir("tree", dir_fd=own)
            with contextlib.suppress(CrestlineError):
                shown = await attack(files, root)
                assert SECRET not in shown
                assert secret_sum not in shown
    os.close(own)
    assert state_of(outside) == before
    stolen = [each for each in served.rglob("*") if each.is_file() and not each.is_symlink()]
    assert [each for each in stolen if each.read_bytes() == SECRET] == []


@pytest.mark.parametrize("way", ["openat2", "walk"])
async def test_links_are_followed_where_they_stay_inside(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "walk":
        monkeypatch.setattr(beneath, "_libc", None)
    for name in ("home", "scratch", "outside", "home/deep/er"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    (tmp_path / "alias").symlink_to("scratch")
    (tmp_path / "scratch" / "x").write_text("inside")
    (tmp_path / "outside" / "x").write_bytes(SECRET)
    links = {
        "absolute": f"{tmp_path}/scratch",
        "relative": "../scratch",
        "by-another-name": f"{tmp_path}/alias",
        "up-and-down": "deep/er/../../../scratch/.//../scratch/",
        "by-a-link": "absolute",
        "out": "../outside",
        "out-absolute": f"{tmp_path}/outside",
        "out-through-a-link": "absolute/../outside",
        "far-out": "../" * 60 + "etc",
    }
    for name, target in links.items():
        (tmp_path / "home" / name).symlink_to(target)
    (tmp_path / "home" / "loop").symlink_to("loop")
    roots = [str(tmp_path / "home"), str(tmp_path / "alias")]
    files = LocalHost("here", PathGuard("here", roots)).files("alice")
    for name in links:
        path = f"{tmp_path}/home/{name}/x"
        if name.startswith(("out", "far-out")):
            with pytest.raises(InvalidRequestError, match="does not match any of the defined filesystem paths"):
                await read_at(files, path)
        else:
            assert await read_at(files, path) == b"inside"
    with pytest.raises(InvalidRequestError, match="Too many levels of symbolic links"):
        await read_at(files, f"{tmp_path}/home/loop/x")


async def read_at(files: Files, path: str) -> bytes:
    return await collected(files.read(path))


async def test_a_moved_or_copied_link_that_leads_out_now_is_not_followed(tmp_path: Path) -> None:
    served = tmp_path / "served"
    (served / "a" / "b").mkdir(parents=True)
    (tmp_path / "x").write_bytes(SECRET)
    (served / "x").write_text("inside")
    (served / "a" / "b" / "link").symlink_to("../../x")  # inside as long as it is here
    (served / "up").mkdir()
    files = LocalHost("here", PathGuard("here", [str(served)])).files("alice")
    assert await read_at(files, f"{served}/a/b/link") == b"inside"
    await files.copy(f"{served}/a/b", f"{served}/copied")
    await files.move(f"{served}/a/b", f"{served}/moved")
    for name in ("copied", "moved"):
        for attack in (
            read_at(files, f"{served}/{name}/link"),
            files.copy(f"{served}/{name}", f"{served}/up", dereference=True),
            files.compress(f"{served}/{name}", f"{served}/packed", "none", pattern=None, dereference=True),
            files.chmod(f"{served}/{name}/link", "777"),
            files.write(f"{served}/{name}/link", once(b"mine")),
        ):
            with pytest.raises(InvalidRequestError, match="does not match any"):
                await attack
    assert (tmp_path / "x").read_bytes() == SECRET
    assert not any(
        each.read_bytes() == SECRET for each in served.rglob("*") if each.is_file() and not each.is_symlink()
    )


async def test_a_tree_inside_another_is_reached_by_way_of_the_outer_one(tmp_path: Path) -> None:
    outer, outside = tmp_path / "outer", tmp_path / "outside"
    (outer / "way" / "inner").mkdir(parents=True)
    (outside / "inner").mkdir(parents=True)
    (outside / "inner" / "x").write_bytes(SECRET)
    files = LocalHost("here", PathGuard("here", [str(outer), str(outer / "way" / "inner")])).files("alice")
    with pytest.raises(PermissionDeniedError, match="Operation not permitted"):
        await files.remove(f"{outer}/way")  # the inner one would go along
    (outer / "way").rename(outer / "away")
    (outer / "way").symlink_to(outside)
    with pytest.raises(InvalidRequestError, match="does not match any"):
        await read_at(files, f"{outer}/way/inner/x")


async def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    (tmp_path / "way").mkdir()
    (tmp_path / "link").symlink_to("way")
    files = LocalHost("here", PathGuard("here", [str(tmp_path)])).files("alice")
    before = set(os.listdir("/proc/self/fd"))
    for attack in ATTACKS:
        for name in ("way", "link", "nowhere"):
            (tmp_path / "way" / "x").touch()
            (tmp_path / "link" / "x").touch()
            with contextlib.suppress(CrestlineError):
                await attack(_Renamed(files, name), str(tmp_path))  # type: ignore[arg-type]
    assert set(os.listdir("/proc/self/fd")) == before


class _Renamed:
    """The same files, where each path that leads through `way` leads through another name."""

    def __init__(self, files: Files | Uploads, name: str) -> None:
        self._files = files
        self._name = name

    @property
    def uploads(self) -> _Renamed:
        assert isinstance(self._files, Files)
        return _Renamed(self._files.uploads, self._name)

    def __getattr__(self, method: str) -> Callable[..., object]:
        call = getattr(self._files, method)
        return lambda path, *rest, **options: call(path.replace("/way", f"/{self._name}"), *rest, **options)
