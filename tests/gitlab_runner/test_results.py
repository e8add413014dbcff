"""What is packed in a job, and what of a hostile archive passes on."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from crestline_gitlab_runner import repack
from crestline_gitlab_runner.cache_store import CacheStore, remove_old
from crestline_gitlab_runner.gitlab_api import is_of_project
from crestline_gitlab_runner.patterns import PatternError, compile_pattern, fill_in
from crestline_gitlab_runner.results import Bundle, pack_script
from crestline_gitlab_runner.runner_script import HelperCall
from harness.parts import require

OPTIONS = {"project": "/remote/group/project", "archive": 1 << 30, "members": 1000, "unpacked": 1 << 30, "ratio": 250}


def _repack(source_kind: str, source: Path, target_kind: str, target: Path, **options: object) -> tuple[int, str]:
    arguments = [source_kind, str(source), target_kind, str(target), json.dumps({**OPTIONS, **options})]
    program = [sys.executable, "-I", "-S", repack.__file__, *arguments]
    done = subprocess.run(program, capture_output=True, text=True, check=False, env={})
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout


def _tar(file: Path, members: list[tuple[str, bytes, str]]) -> Path:
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


HOSTILE = [
    ("./fine", tarfile.REGTYPE, "fine"),
    ("./link", tarfile.SYMTYPE, "fine"),
    ("./absolute", tarfile.SYMTYPE, "/etc/passwd"),
    ("./inside", tarfile.SYMTYPE, "/remote/group/project/x/y"),
    ("././absolute2", tarfile.LNKTYPE, "./absolute"),
    ("./door", tarfile.SYMTYPE, "/tmp"),
    ("./door/written", tarfile.REGTYPE, "evil"),
    ("./x/y", tarfile.REGTYPE, "y"),
    ("./x/up", tarfile.SYMTYPE, ".."),
    ("./x/far", tarfile.SYMTYPE, "up/.."),
    ("./x/up/z", tarfile.REGTYPE, "through a link"),
    ("./x", tarfile.SYMTYPE, "elsewhere"),
    ("../up", tarfile.REGTYPE, "evil"),
    ("a/../../up", tarfile.REGTYPE, "evil"),
    ("/tmp/absolute", tarfile.REGTYPE, "evil"),
    ("./.git/config", tarfile.REGTYPE, "evil"),
    ("./sub/.git/config", tarfile.REGTYPE, "evil"),
    ("./pipe", tarfile.FIFOTYPE, ""),
    ("./device", tarfile.CHRTYPE, ""),
]


def test_what_of_a_hostile_archive_passes_on(tmp_path: Path) -> None:
    code, said = _repack("tar", _tar(tmp_path / "a.tgz", HOSTILE), "zip", tmp_path / "a.zip")
    assert code == 0, said
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
        links = {entry.filename for entry in archive.infolist() if stat.S_ISLNK(entry.external_attr >> 16)}
    assert content == {
        "fine": b"fine",
        "link": b"fine",
        "inside": b"x/y",
        "door/written": b"evil",
        "x/y": b"y",
        "x/up": b"..",
    }
    assert links == {"link", "inside", "x/up"}
    for name in ("absolute", "door", "x/far", "x/up/z", "../up", "/tmp/absolute", "pipe"):
        assert f"{name}'" in said


def test_a_hostile_zip_on_its_way_to_the_job(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, kind, content in HOSTILE:
            if kind in (tarfile.REGTYPE, tarfile.SYMTYPE):
                entry = zipfile.ZipInfo(name)
                entry.create_system = 3
                entry.external_attr = ((stat.S_IFLNK if kind == tarfile.SYMTYPE else stat.S_IFREG) | 0o4777) << 16
                archive.writestr(entry, content)
    code, said = _repack("zip", tmp_path / "a.zip", "tar", tmp_path / "a.tgz")
    assert code == 0, said
    with tarfile.open(tmp_path / "a.tgz") as archive:
        members = archive.getmembers()
    names = {member.name for member in members}
    assert {"fine", "link", "inside", "door/written", "x/y"} <= names
    assert not [name for name in names if name.startswith(("/", "..")) or name in ("door", "absolute", "x/up/z")]
    assert not [member.name for member in members if member.mode & 0o7000]


def _zip_of(file: Path, members: dict[str, int]) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, size in members.items():
            with archive.open(name, "w") as stream:
                for _ in range(size >> 20):
                    stream.write(bytes(1 << 20))
    return file


@pytest.mark.parametrize(
    ("members", "options", "said"),
    [
        ({"zeros": 512 << 20}, {}, "limits.ratio"),
        ({"zeros": 512 << 20}, {"ratio": 10_000, "unpacked": 100 << 20}, "limits.unpacked"),
        ({f"{number}": 0 for number in range(11)}, {"members": 10}, "limits.members"),
    ],
)
def test_limits(tmp_path: Path, members: dict[str, int], options: dict[str, int], said: str) -> None:
    archive = _zip_of(tmp_path / "a.zip", members)
    code, text = _repack("zip", archive, "tar", tmp_path / "out", **options)
    assert (code, said in text) == (repack.TOO_LARGE, True), text
    assert (tmp_path / "out").stat().st_size < 1 << 20


@pytest.mark.parametrize("what", [".git/zeros", "../zeros", "/zeros", "device", "unknown"])
def test_limits_count_what_is_left_out(tmp_path: Path, what: str) -> None:
    kinds = {"device": tarfile.CHRTYPE, "unknown": b"Z"}
    with gzip.open(tmp_path / "a.tgz", "wb", 1) as archive:
        member = tarfile.TarInfo(what)
        member.type, member.size = kinds.get(what, tarfile.REGTYPE), 512 << 20
        archive.write(member.tobuf(tarfile.GNU_FORMAT))
        for _ in range(80):
            archive.write(bytes(1 << 20))
    code, text = _repack("tar", tmp_path / "a.tgz", "zip", tmp_path / "out")
    assert (code, "limits.ratio" in text) == (repack.TOO_LARGE, True), text


def test_caches_of_a_project_have_one_limit(tmp_path: Path) -> None:
    """Each branch has caches of its own where the runner does not say which are protected."""
    for number in range(20):
        archive = tmp_path / "a.zip"
        archive.write_bytes(bytes(1000))
        store = CacheStore(tmp_path / "caches", f"project {number % 2}", f"branch {number}", most=3500)
        store.publish("key", archive)
        kept = store.find("key")
        assert kept is not None
        os.utime(kept, (number, number))
    assert len(list((tmp_path / "caches").rglob("*.zip"))) == 6
    assert CacheStore(tmp_path / "caches", "project 1", "branch 19", most=1).find("key") is not None
    remove_old(tmp_path / "caches", seconds=1)
    assert not list((tmp_path / "caches").rglob("*.zip"))


def test_a_cache_address_is_of_the_project_that_it_names_first() -> None:
    assert is_of_project("https://s/cache/runner/t/project/8/k?signature=x", 8)
    for path in ("project/7/k", "project/7/x/project/8/k", "project/7%2Fx%2Fproject%2F8%2Fk", "project/8/../7/k", "k"):
        assert not is_of_project(f"https://s/cache/runner/t/{path}", 8)


def test_a_header_that_would_fill_the_memory(tmp_path: Path) -> None:
    """A long name of 2 GiB in 2 MiB of gzip."""
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 2 << 30
    with gzip.open(tmp_path / "a.tgz", "wb", compresslevel=1) as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        for _ in range(2 << 10):
            file.write(b"a" * (1 << 20))
    code, text = _repack("tar", tmp_path / "a.tgz", "zip", tmp_path / "out")
    assert (code, "do not fit into memory" in text) == (repack.TOO_LARGE, True), text


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x05\x06" + bytes(18), gzip.compress(b"x" * 700, mtime=0)])
def test_invalid_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    for kind, target in (("zip", "tar"), ("tar", "zip")):
        code, _ = _repack(kind, tmp_path / "a", target, tmp_path / f"out-{kind}")
        assert code in (repack.UNREADABLE, repack.NOTHING)


def test_formats_of_reports(tmp_path: Path) -> None:
    one = _tar(tmp_path / "one.tgz", [("./r/a.xml", tarfile.REGTYPE, "<a/>")])
    two = _tar(tmp_path / "two.tgz", [("./a.xml", tarfile.REGTYPE, "<a/>"), ("./b.xml", tarfile.REGTYPE, "<b/>")])
    assert _repack("tar", two, "gzip", tmp_path / "two.gz")[0] == 0
    assert gzip.decompress((tmp_path / "two.gz").read_bytes()) == b"<a/><b/>"
    assert _repack("tar", one, "raw", tmp_path / "one")[0] == 0
    assert (tmp_path / "one").read_bytes() == b"<a/>"
    assert _repack("tar", two, "raw", tmp_path / "two")[0] == repack.UNREADABLE


# what is packed


@pytest.mark.parametrize("pattern", ["", "..", "../x", "a/../../x", "/etc/*.toml", "/", "*/../../x", "a/{b,../..}/c"])
def test_patterns_that_lead_out(pattern: str) -> None:
    with pytest.raises(PatternError):
        compile_pattern(pattern, "/remote/group/project")


def test_variables_are_text() -> None:
    variables = {"OUT": "build dir", "EVIL": "$(id)`id`"}
    assert fill_in("$OUT/${OUT}x/$EVIL/$NONE/$(id)/$$", variables) == "build dir/build dirx/$(id)`id`//$(id)/$$"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    place = tmp_path / "it's a project"
    for name in (
        *(
            "top.txt",
            "build/a.xml",
            "build/deep/er/b.xml",
            "build/.hidden.xml",
            "build/c.log",
            "lit[1].txt",
            "lit1.txt",
        ),
        *("with space/d d.txt", "new\nline.txt", "-dash", "Ü.txt", "q'uote.txt", ".git/config", "build/.git/x"),
    ):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(name)
    (place / "link").symlink_to("build")
    return place


def _names(archive: io.BytesIO) -> list[str]:
    with tarfile.open(fileobj=archive) as content:
        return content.getnames()


def _packed(project: Path, place: Path, *calls: list[str], tracked: bytes = b"") -> tuple[list[set[str]], str]:
    place.mkdir()
    (place / "tracked").write_bytes(tracked)
    bundles = [
        (Bundle.of(HelperCall("artifacts-uploader", tuple(call), 1), {}, str(project)), f"{place}/{number}.part.")
        for number, call in enumerate(calls)
    ]
    script = pack_script(str(project), bundles, 64, tracked=f"{place}/tracked", scratch=f"{place}/list")
    (place / "script").write_bytes(script)
    done = subprocess.run(["bash", str(place / "script")], capture_output=True, text=True, check=False, cwd=place)
    assert done.returncode == 0, done.stderr
    found = []
    for number in range(len(calls)):
        content = b"".join(file.read_bytes() for file in sorted(place.glob(f"{number}.part.*")))
        names = _names(io.BytesIO(content)) if content else []
        found.append(
            {
                name.removeprefix("./")
                for name in names
                if not (project / name).is_dir() or (project / name).is_symlink()
            }
        )
    return found, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["build/**/*.xml"], {"build/a.xml", "build/deep/er/b.xml", "build/.hidden.xml"}),
        (["build/"], {"build/a.xml", "build/deep/er/b.xml", "build/.hidden.xml", "build/c.log"}),
        (["build/*.{xml,log}"], {"build/a.xml", "build/.hidden.xml", "build/c.log"}),
        ([r"lit\[1\].txt"], {"lit[1].txt"}),
        (["lit[1].txt"], {"lit1.txt"}),
        (["lit[!2]*"], {"lit1.txt", "lit[1].txt"}),
        (["build/[!.]*"], {"build/a.xml", "build/deep/er/b.xml", "build/c.log"}),
        (["build/[^a-z]*", "[!a-z]op.txt", "[^Ü].txt"], {"build/.hidden.xml"}),
        (["?.txt"], {"Ü.txt"}),
        (["new*", "-d*", "q'*", "with space/*"], {"new\nline.txt", "-dash", "q'uote.txt", "with space/d d.txt"}),
        (["link"], {"link"}),
        (["junit.xml", "top.txt", "nothing*", "/etc", "../*"], {"top.txt"}),
        (["{", "["], set()),
        (["$(touch canary)", "`touch canary`", "top.txt; touch canary"], set()),
    ],
)
def test_patterns(project: Path, tmp_path: Path, paths: list[str], expected: set[str]) -> None:
    """As the runner's helper reads them; what is not there is named, and the rest arrives."""
    (found,), said = _packed(project, tmp_path / "w", [word for path in paths for word in ("--path", path)])
    assert found == expected
    for missing in {"junit.xml", "nothing*"} & set(paths):
        assert f"WARNING: {missing}: no matching files\n" in said
    assert not list(tmp_path.rglob("canary*"))


def test_every_bundle_has_its_own_files(project: Path, tmp_path: Path) -> None:
    tracked = b"\0".join([b"./build/a.xml", b"./top.txt", b""])
    calls = [
        ["--path", "build", "--exclude", "build/**/*.xml", "--exclude", "build/deep"],
        ["--path", "missing"],
        ["--untracked", "--exclude", "lit*"],
    ]
    found, _ = _packed(project, tmp_path / "w", *calls, tracked=tracked)
    assert found[:2] == [{"build/c.log"}, set()]
    assert {"build/c.log", "-dash", "link", "new\nline.txt"} <= found[2]
    assert not {"build/a.xml", "top.txt", "lit1.txt", ".git/config"} & found[2]


def test_a_project_that_is_gone(tmp_path: Path) -> None:
    found, said = _packed(tmp_path / "gone", tmp_path / "w", ["--path", "x"])
    assert (found, "the project directory is gone" in said) == ([set()], True)


def test_files_that_cannot_be_read(project: Path, tmp_path: Path) -> None:
    require(os.geteuid() == 0, "only root can become another user, who cannot read everything")
    (project / "build/c.log").chmod(0)
    (project / "build/deep").chmod(0)
    shutil.chown(project, 65534)
    place = Path("/tmp", f"crestline-unreadable-{os.getpid()}")
    shutil.copytree(project, place, symlinks=True)
    try:
        bundle = Bundle.of(
            HelperCall("artifacts-uploader", ("--path", "build", "--path", "top.txt"), 1), {}, str(place)
        )
        (place / "out").mkdir()
        (place / "out").chmod(0o777)
        script = pack_script(
            str(place), [(bundle, f"{place}/out/p.")], 1 << 20, tracked="/dev/null", scratch=f"{place}/out/l"
        )
        done = subprocess.run(
            ["bash", "-s"], input=script, capture_output=True, check=False, user=65534, group=65534, extra_groups=[]
        )
        assert done.returncode == 0, done.stderr
        names = _names(io.BytesIO((place / "out" / "p.0000").read_bytes()))
        assert {"./build/a.xml", "./top.txt"} <= set(names)
        assert b"c.log" in done.stderr + done.stdout
    finally:
        shutil.rmtree(place)
