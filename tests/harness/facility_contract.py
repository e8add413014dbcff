"""What the client does on every facility API; a test module inherits it with its own `system` and `place`."""

from __future__ import annotations

from pathlib import Path

import pytest

from crestline.client import System
from crestline.client.files import BundleFile, BundleFilter
from crestline.model import FileMissingError, JobNotFoundError, JobSpec, JobState


class FacilityContract:
    """Needs the fixtures `system`, open, and `place`, the user's directory at the facility."""

    async def test_output_is_followed_while_the_job_runs(self, system: System, place: Path) -> None:
        job = await system.submit(
            JobSpec(script="#!/bin/bash\necho größe\nuntil [ -e go ]; do sleep 0.05; done\necho end >&2\n")
        )
        log = system.follow(await system.metadata(job))
        assert await anext(log) == "größe\n"
        (place / "go").touch()
        assert "".join([text async for text in log]) == "end\n"
        assert (await system.wait(job)).state is JobState.COMPLETED

    async def test_cancel_is_idempotent(self, system: System) -> None:
        job = await system.submit(JobSpec(script="#!/bin/bash\nsleep 1000\n"))
        await system.cancel(job)
        await system.cancel(job)
        assert (await system.wait(job)).state is JobState.CANCELLED
        with pytest.raises(JobNotFoundError):
            await system.cancel("4711")

    async def test_directories_travel_both_ways_and_only_once(
        self, system: System, place: Path, tmp_path: Path
    ) -> None:
        source = tmp_path / "in"
        (source / "deep").mkdir(parents=True)
        for number in range(12):
            (source / f"deep/{number}").write_bytes(bytes([number]) * 1000 * number)
        (source / "deep/run").write_text("#!/bin/sh\n")
        (source / "deep/run").chmod(0o755)
        (source / "link").symlink_to("deep/3")
        assert (await system.upload(source, f"{place}/tree")).files == 13
        assert (await system.upload(source, f"{place}/tree")).unchanged == 13
        assert (await system.download(f"{place}/tree", tmp_path / "out")).files == 13
        assert (await system.download(f"{place}/tree", tmp_path / "out")).unchanged == 13
        assert (tmp_path / "out/deep/7").read_bytes() == bytes([7]) * 7000
        assert (tmp_path / "out/link").readlink() == Path("deep/3")
        assert (tmp_path / "out/deep/run").stat().st_mode & 0o100

    async def test_bundles(self, system: System, place: Path, tmp_path: Path) -> None:
        (tmp_path / "f").write_text("f")
        await system.upload_bundle(str(place), [BundleFile(path="a"), BundleFile(path="a/f", source=tmp_path / "f")])
        assert (place / "a/f").read_text() == "f"
        (place / "a/result.out").write_text("42")
        selection = BundleFilter(directory="a", target=tmp_path / "came", patterns=("*.out",))
        assert await system.download_bundle(str(place), [selection]) == {"a": ["result.out"]}
        assert (tmp_path / "came/result.out").read_text() == "42"

    async def test_file_operations(self, system: System, place: Path) -> None:
        await system.write_text(f"{place}/f", "content")
        await system.copy(f"{place}/f", f"{place}/g")
        await system.move(f"{place}/g", f"{place}/h")
        assert await system.read_text(f"{place}/h") == "content"
        assert await system.glob(f"{place}/[f-h]") == [f"{place}/f", f"{place}/h"]
        await system.chmod(f"{place}/h", "600")
        assert [file.permissions for file in await system.ls(str(place)) if file.name == "h"] == ["rw-------"]
        await system.remove(f"{place}/h")
        with pytest.raises(FileMissingError):
            await system.stat(f"{place}/h")
        with pytest.raises(FileMissingError):
            await system.remove(f"{place}/h")
