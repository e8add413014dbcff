"""Files of several directories in one stream, on a gateway of ours, before real Slurm's SSH host, and on plain ones."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from crestline.client import Capability, Site, System, connect, map_link, measure_traffic
from crestline.client.files import BundleFile, BundleFilter
from crestline.model import InvalidRequestError
from crestline.testing.firecrest import PlainFirecrest, running
from harness.sites import BRISK, gateway_site, plain_site

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["local", "slurm", "plain"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    if request.param == "plain":
        with running() as plain:
            yield plain_site(plain)
    elif request.param == "local":
        yield gateway_site(request.getfixturevalue("gateway"))
    else:
        gateway = request.getfixturevalue("slurm_gateway")
        client_id, secret = gateway.client_of("alice")
        yield gateway_site(gateway, client_id=client_id, client_secret=secret)


@pytest.fixture
async def system(site: Site) -> AsyncIterator[System]:
    async with connect(site, policy=BRISK) as system:
        yield system


@pytest.fixture
async def place(system: System) -> AsyncIterator[str]:
    """A new directory on the system."""
    path = f"{await system.default_workdir()}/bundle-{time.time_ns()}"
    await system.mkdir(path, parents=True)
    yield path
    await system.remove(path)


def _files(directory: Path, **content: str) -> Path:
    directory.mkdir(parents=True)
    for name, text in content.items():
        (directory / name.replace("__", ".")).write_text(text)
    return directory


async def test_there_and_back(system: System, place: str, tmp_path: Path) -> None:
    here = _files(tmp_path / "here", a="same\n" * 1000, b="same\n" * 1000, c="other\n")
    (here / "c").chmod(0o755)
    members = [
        BundleFile(path="one"),
        BundleFile(path="one/a", source=here / "a", is_shared=True),
        BundleFile(path="two/b", source=here / "b", is_shared=True),
        BundleFile(path="two/sub/c.sh", source=here / "c"),
        BundleFile(path="two/link", link_target="b"),
        BundleFile(path="empty"),
    ]
    with measure_traffic() as traffic:
        sent = await system.upload_bundle(place, members, cleanup=False)
    assert sent == 5000 + 6  # what is shared once
    assert traffic.requests == (1 if system.backend.capabilities else 2)
    assert {file.name for file in await system.ls(place)} == {"one", "two", "empty"}
    assert (await system.stat(f"{place}/two/sub/c.sh"))["mode"] & 0o111

    selections = [
        BundleFilter(directory="one", target=tmp_path / "back" / "x", patterns=("*",)),
        BundleFilter(directory="two", target=tmp_path / "back" / "y", patterns=("sub/*.sh", "b")),
        BundleFilter(directory="absent", target=tmp_path / "back" / "z", patterns=("*",)),
    ]
    with measure_traffic() as traffic:
        came = await system.download_bundle(place, selections, cleanup=False)
    assert came == {"one": ["a"], "two": ["b", "sub/c.sh"], "absent": []}
    assert traffic.requests == (1 if system.backend.capabilities else 4)  # a list has the links
    assert (tmp_path / "back/x/a").read_text() == (here / "a").read_text()
    assert os.access(tmp_path / "back/y/sub/c.sh", os.X_OK)


async def test_what_is_new_since_a_file(system: System, place: str, tmp_path: Path) -> None:
    here = _files(tmp_path / "here", old="old\n", mark="", new="new\n", log="log\n")
    for age, name in ((300, "old"), (300, "log"), (200, "mark"), (100, "new")):
        os.utime(here / name, (time.time() - age,) * 2)
    await system.upload_bundle(place, [BundleFile(path=f"d/{each.name}", source=each) for each in here.iterdir()])
    selection = BundleFilter(directory="d", target=tmp_path / "back", since="mark", patterns=("lo?",))
    came = await system.download_bundle(place, [selection])
    by_age = Capability.TAR_SELECT in system.backend.capabilities
    assert sorted(came["d"]) == (["log", "new"] if by_age else ["log", "new", "old"])
    assert not (tmp_path / "back/mark").exists()


async def test_nothing_to_fetch(system: System, place: str, tmp_path: Path) -> None:
    selection = BundleFilter(directory="nowhere", target=tmp_path / "back", since="mark", patterns=("*.out",))
    assert await system.download_bundle(place, [selection]) == {"nowhere": []}


async def test_nothing_leaves_the_directory(system: System, place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(Exception, match=r"leaves|below|outside"):
        await system.upload_bundle(place, [BundleFile(path="../file", source=tmp_path / "file")])
    if system.backend.capabilities:
        selection = BundleFilter(directory="../..", target=tmp_path / "back", patterns=("*",))
        with pytest.raises(InvalidRequestError):
            await system.download_bundle(place, [selection])


@pytest.mark.usefixtures("brief_pauses")
async def test_passing_failures_only_delay(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content\n")
    with running() as plain:
        await _through_failures(plain, tmp_path)


async def _through_failures(plain: PlainFirecrest, tmp_path: Path) -> None:
    async with connect(plain_site(plain), policy=BRISK) as system:
        place = str(plain.home)
        plain.faults.fail(503, path="upload", count=2)
        plain.faults.drop(path="extract", method="POST")
        await system.upload_bundle(place, [BundleFile(path="d/file", source=tmp_path / "file")])
        plain.faults.fail(500, path="compress", count=3)
        plain.faults.garble(path="download", body="no archive")
        came = await system.download_bundle(
            place, [BundleFilter(directory="d", target=tmp_path / "back", patterns=("*",))]
        )
    assert came == {"d": ["file"]}
    assert (tmp_path / "back/file").read_text() == "content\n"


async def test_a_link_in_the_way_is_replaced_not_followed(system: System, place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("new\n")
    (tmp_path / "elsewhere").write_text("untouched\n")
    await system.upload_bundle(place, [BundleFile(path="d/file", source=tmp_path / "file")])
    (tmp_path / "back").mkdir()
    (tmp_path / "back" / "file").symlink_to(tmp_path / "elsewhere")
    selection = BundleFilter(directory="d", target=tmp_path / "back", patterns=("*",))
    await system.download_bundle(place, [selection])
    assert (tmp_path / "back" / "file").read_text() == "new\n"
    assert (tmp_path / "elsewhere").read_text() == "untouched\n"


async def test_links_of_a_bundle(system: System, place: str, tmp_path: Path) -> None:
    """What stays in its directory comes; another rule may be given for the rest."""
    here = _files(tmp_path / "here", file="content\n")
    members = [BundleFile(path=f"{name}/file", source=here / "file") for name in ("d", "e")]
    await system.upload_bundle(place, [*members, BundleFile(path="d/circle", link_target="circle")])
    for name, target in {"abs": f"{place}/d/file", "other": f"{place}/e/file"}.items():
        await system.backend.files.symlink(target, f"{place}/d/{name}")
    selection = BundleFilter(directory="d", target=tmp_path / "back", patterns=("*",))
    asked = []

    def rule(path: str, target: str, root: str) -> str | None:
        asked.append((path, target, root))
        return map_link(path, target, root)

    came = await system.download_bundle(place, [selection], map_link=rule)
    assert sorted(came["d"]) == ["abs", "circle", "file"]
    assert os.readlink(tmp_path / "back/abs") == "file"
    assert os.readlink(tmp_path / "back/circle") == "circle"
    assert ("other", f"{place}/e/file", f"{place}/d") in asked
    assert not (tmp_path / "back/other").is_symlink()


async def test_links_are_selected_as_files_are(system: System, place: str, tmp_path: Path) -> None:
    here = _files(tmp_path / "here", file="content\n")
    members = [BundleFile(path=f"{name}/{file}", source=here / "file") for name in "de" for file in ("mark", "r1.txt")]
    links = [BundleFile(path=f"{name}/{link}", link_target="r1.txt") for name in "de" for link in ("last.txt", "other")]
    await system.upload_bundle(
        place, [*members, *links, BundleFile(path="e/sub"), BundleFile(path="e/sub/up", link_target="../r1.txt")]
    )
    selections = [
        BundleFilter(directory="d", target=tmp_path / "d", patterns=("*.txt",)),
        BundleFilter(
            directory="e", target=tmp_path / "e", since="mark", patterns=("r1.txt", "last.txt", "other", "sub/up")
        ),
        BundleFilter(directory="absent", target=tmp_path / "absent", patterns=("*",)),
    ]
    came = {name: sorted(paths) for name, paths in (await system.download_bundle(place, selections)).items()}
    assert came == {"d": ["last.txt", "r1.txt"], "e": ["last.txt", "other", "r1.txt", "sub/up"], "absent": []}
    assert os.readlink(tmp_path / "d/last.txt") == "r1.txt"
    assert os.readlink(tmp_path / "e/sub/up") == "../r1.txt"


async def test_links_that_cannot_be_listed_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("content\n")
    with running() as plain:
        async with connect(plain_site(plain), policy=BRISK) as system:
            place = str(plain.home)
            await system.upload_bundle(place, [BundleFile(path="d/file", source=tmp_path / "file")])
            by_name = BundleFilter(directory="d", target=tmp_path / "back", patterns=("file",))
            with measure_traffic() as traffic:
                await system.download_bundle(place, [by_name], cleanup=False)
            assert traffic.requests == 3  # all that was named came: no link can be missing
            plain.faults.fail(403, path="ops/ls", count=50)
            selection = BundleFilter(directory="d", target=tmp_path / "back", patterns=("*",))
            assert await system.download_bundle(place, [selection]) == {"d": ["file"]}
    assert f"Symbolic links below {place} were left out" in caplog.text
