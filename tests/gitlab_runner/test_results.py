"""Unpacking what a hostile job may have packed."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from crestline_gitlab_runner.results import Wanted, literal_paths, pack_script, unpack, wanted


def _archive(place: Path, members: list[tuple[str, bytes, str]]) -> Path:
    file = place / "a.tgz"
    with tarfile.open(file, "w:gz") as archive:
        for name, kind, content in members:
            member = tarfile.TarInfo(name)
            member.type = kind
            if kind == tarfile.REGTYPE:
                member.size = len(content)
            else:
                member.linkname = content
            archive.addfile(member, io.BytesIO(content.encode()) if kind == tarfile.REGTYPE else None)
    return file


def test_nothing_leaves_the_folder(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    archive = _archive(
        tmp_path,
        [
            ("./fine", tarfile.REGTYPE, "fine"),
            ("./link", tarfile.SYMTYPE, "fine"),
            ("./absolute", tarfile.SYMTYPE, "/etc/passwd"),
            ("././absolute2", tarfile.LNKTYPE, "./absolute"),
            ("./door", tarfile.SYMTYPE, str(outside)),
            ("./door/written", tarfile.REGTYPE, "evil"),
            ("../up", tarfile.REGTYPE, "evil"),
            ("/tmp/absolute", tarfile.REGTYPE, "evil"),
            ("./a/b/back", tarfile.SYMTYPE, "../../x"),
            ("./x/y", tarfile.REGTYPE, "y"),
            ("./a/b/far", tarfile.SYMTYPE, "back/../.."),
            ("./circle", tarfile.SYMTYPE, "circle"),
            ("./.git/config", tarfile.REGTYPE, "evil"),
            ("./sub/.git/config", tarfile.REGTYPE, "evil"),
            ("./pipe", tarfile.FIFOTYPE, ""),
        ],
    )
    folder = tmp_path / "group" / "project"
    unpack(archive, folder)
    assert not list(outside.iterdir())
    assert not (tmp_path / "group" / "up").exists()
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()}
    assert found == {"fine", "link", "door/written", "a/b/back", "x/y"}
    assert (folder / "link").read_text() == "fine"


def test_what_the_helper_was_asked_for() -> None:
    calls = [
        ["artifacts-uploader", "--path", "/here/p/with space", "--path", "b/**/*.xml", "--exclude", "x", "--untracked"],
        ["cache-archiver", "--path", "b/{c,d}/../e"],
        ["artifacts-downloader", "--path", "other"],
    ]
    asked = wanted(calls, Path("/here/p"))
    assert asked == Wanted(("with space", "b/**/*.xml", "b/{c,d}/../e"), untracked=True)
    script = pack_script("/p", asked, "/w/out/1.part.", 100, tracked="/w/in/t").decode()
    assert "matching 'with space'" in script
    assert "../e" not in script
    assert literal_paths(Wanted(("b/**/*.xml", "b/c.log", "d.txt"), untracked=False), "/p") == ["b", "d.txt"]
