"""The subject `copying`: programs that transfer files in both directions, and are killed and restarted."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

from crestline.client.system import System
from crestline.model import CrestlineError, TransferError
from crestline.testing.simulation.answers import HOME
from crestline.testing.simulation.process import Process
from crestline.testing.simulation.scenario import PASSING, Scenario
from crestline.testing.simulation.world import World

CALL_BOUND = 1500.0
"""Maximum seconds of one call: several requests with timeouts of 45 s, and their retries."""
NAMES = ("a.txt", "sub/b.bin", "sub/deep/c", "empty", "with space", ".hidden", "d.dat")


class Copying(Scenario):
    """A program that uploads its files and downloads them to another directory."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        random = self.random
        names = random.sample(NAMES, random.randint(1, len(NAMES)))
        self._content = {name: self._bytes(random, name) for name in names}
        self._is_tree = random.random() < 0.7
        self._lives = 0
        self._here = Path("/nowhere")

    @staticmethod
    def _bytes(random: Random, name: str) -> bytes:
        return b"" if name == "empty" else random.randbytes(random.choice((1, 100, 5000)))

    async def play(self) -> None:
        memory = "/dev/shm"  # noqa: S108 - a disk takes ten times as long to remove what is in it
        self._here = Path(
            tempfile.mkdtemp(prefix="crestline-simulation-", dir=memory if os.path.isdir(memory) else None)
        )
        try:
            for name, content in self._content.items():
                path = self._here / "from" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            await self.program("p1", self._client)
        finally:
            shutil.rmtree(self._here)

    def check_end(self) -> None:
        if self._lives == 1 and not self.world.adversary.faults:
            left = [path for path in self.cluster.files.inside(HOME) if not path.startswith("data")]
            self.world.check(not left, f"Left on the system: {left}.")

    async def _client(self, process: Process) -> None:
        self._lives += 1
        async with self.connect(process) as system:
            if self._is_tree:
                await self._copy_tree(system, process)
            else:
                for name in self._content:
                    await self._copy_file(system, process, name)

    async def _copy_tree(self, system: System, process: Process) -> None:
        await self._repeat(process, "upload", lambda: system.upload(self._here / "from", f"{HOME}/data"))
        paths = {f"{HOME}/data/{name}": content for name, content in self._content.items()}
        self._check_remote(process, paths)
        back = self._here / "back"
        await self._repeat(process, "download", lambda: system.download(f"{HOME}/data", back), back)
        if self.cluster.files.spoilt & paths.keys():
            return
        found = {path.relative_to(back).as_posix(): path.read_bytes() for path in back.rglob("*") if path.is_file()}
        self.world.check(found == self._content, f"{process.name} has other files than were sent: {sorted(found)}.")

    async def _copy_file(self, system: System, process: Process, name: str) -> None:
        path = f"{HOME}/data-{Path(name).name}"
        await self._repeat(process, "upload", lambda: system.upload(self._here / "from" / name, path))
        self._check_remote(process, {path: self._content[name]})
        back = self._here / "back" / name
        back.parent.mkdir(parents=True, exist_ok=True)
        await self._repeat(process, "download", lambda: system.download(path, back), self._here / "back")
        is_same = back.read_bytes() == self._content[name] or path in self.cluster.files.spoilt
        self.world.check(is_same, f"{process.name} has another {name} than was sent.")

    async def _repeat(
        self, process: Process, what: str, call: Callable[[], Awaitable[object]], back: Path | None = None
    ) -> None:
        """Call until it succeeds. Checks after each call that no file is incomplete."""
        while True:
            began = self.world.now
            try:
                await call()
            except CrestlineError as error:
                self.world.note(process.name, f"{what}: {type(error).__name__}: {error}")
                self.world.check(isinstance(error, (*PASSING, TransferError)), f"{what} of {process.name}: {error}")
                is_late = self.world.now > self.calm_at + CALL_BOUND
                self.world.check(not is_late, f"{what} of {process.name} fails long after the last fault: {error}")
            else:
                return
            finally:
                self.bounds.check(what, process, began, CALL_BOUND)
                if back is not None and back.exists():
                    self._check_whole(process, back)
            await asyncio.sleep(10)

    def _check_whole(self, process: Process, back: Path) -> None:
        for path in back.rglob("*"):
            name = path.relative_to(back).as_posix()
            if path.is_file() and name in self._content:
                spoilt = self.cluster.files.spoilt & {f"{HOME}/data/{name}", f"{HOME}/data-{path.name}"}
                is_whole = path.read_bytes() == self._content[name]
                self.world.check(is_whole or bool(spoilt), f"{process.name} has half of {name}.")

    def _check_remote(self, process: Process, expected: dict[str, bytes]) -> None:
        for path, content in expected.items():
            node = self.cluster.files.nodes.get(path)
            is_there = node is not None and (node.content == content or path in self.cluster.files.spoilt)
            self.world.check(is_there, f"{process.name} was told that {path} is there, and it is not, or half.")
