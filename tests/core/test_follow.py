"""Following logs: every character once, while the file grows, is replaced, and the gateway fails."""

from __future__ import annotations

import codecs
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crestline.client.files.strategy import FileStrategy
from crestline.client.logs import Follower, follow
from crestline.client.logs.sources import ByteSource, LineSource, Source
from crestline.model import InvalidRequestError, PermissionDeniedError
from crestline.testing.firecrest import PlainFirecrest, running
from harness.backends import gateway_connection, plain_connection
from harness.cutting import relay_to
from harness.gateway import RunningGateway

pytestmark = pytest.mark.anyio

LIMIT = 8000
TEXT = "begin\r\n10%\r20%\r100%\nnaïve 名前 🚀\n\n  tail \x0b\x0c\u2028 of it\n"


@pytest.fixture(scope="module")
def plain() -> Iterator[PlainFirecrest]:
    with running(max_ops_file_size=LIMIT) as plain:
        yield plain


@pytest.fixture(params=["plain", "crestline"])
async def files(
    request: pytest.FixtureRequest, plain: PlainFirecrest, gateway: RunningGateway
) -> AsyncIterator[FileStrategy]:
    async with plain_connection(plain) if request.param == "plain" else gateway_connection(gateway) as connection:
        yield connection.files
    plain.faults.reset()


@pytest.fixture
async def file(files: FileStrategy, tmp_path: Path) -> Path:
    place = Path(await files.backend.system.default_workdir()) / tmp_path.name
    place.mkdir(parents=True)
    return place / "job.out"


class Job:
    """Something that writes to a file until it has ended."""

    def __init__(self) -> None:
        self.ended = False

    def finished(self) -> bool:
        return self.ended


def start(files: FileStrategy, file: Path, job: Job, position: str | None = None) -> Follower:
    return follow(
        files.log_source(str(file)), finished=job.finished, position=position, interval=0.01, max_interval=0.05
    )


def append(file: Path, data: bytes) -> None:
    with file.open("ab") as out:
        out.write(data)


async def read_until(texts: Follower, end: str) -> str:
    """The text up to and with `end`."""
    found = ""
    with anyio.fail_after(60):
        while not found.endswith(end):
            found += await anext(texts)
    return found


async def all_of(texts: Follower) -> str:
    with anyio.fail_after(120):
        return "".join([text async for text in texts])


async def test_a_file_that_is_complete(files: FileStrategy, file: Path) -> None:
    job = Job()
    job.ended = True
    for text in ("", "x", "no newline at the end", TEXT, TEXT + "unfinished"):
        file.write_text(text, newline="")
        assert await all_of(start(files, file, job)) == text


async def test_text_comes_while_the_job_runs(files: FileStrategy, file: Path) -> None:
    job = Job()
    async with aclosing(start(files, file, job)) as texts:
        with anyio.fail_after(60):
            waiting: list[str] = []
            async with anyio.create_task_group() as group:

                async def first() -> None:
                    waiting.append(await anext(texts))

                group.start_soon(first)
                await anyio.sleep(0.1)  # it waits for a file that is not there yet
                file.write_bytes(b"one\n")
        assert waiting == ["one\n"]
        data = TEXT.encode()
        for cut in range(1, len(data), 7):
            append(file, data[cut - 1 : cut])
            append(file, data[cut : cut + 6])
        assert await read_until(texts, "of it\n") == TEXT
        append(file, b"last without newline")
        job.ended = True
        assert await all_of(texts) == "last without newline"


async def test_an_unfinished_line_comes_whole_on_plain_and_at_once_on_crestline(
    files: FileStrategy, file: Path
) -> None:
    job = Job()
    file.write_bytes(b"10%\r20%\r")
    async with aclosing(start(files, file, job)) as texts:
        if files.backend.capabilities:
            assert await read_until(texts, "20%\r") == "10%\r20%\r"
            append(file, b"30%\ndone\n")
            assert await read_until(texts, "done\n") == "30%\ndone\n"
        else:
            append(file, b"30%\n")
            assert await anext(texts) == "10%\r20%\r30%\n"


async def test_a_job_that_never_wrote(files: FileStrategy, file: Path) -> None:
    job = Job()
    job.ended = True
    assert await all_of(start(files, file, job)) == ""


async def test_what_is_written_after_the_end_is_not_lost(files: FileStrategy, file: Path) -> None:
    asked = 0

    async def finished() -> bool:
        nonlocal asked
        asked += 1
        if asked == 2:
            append(file, b"late\n")
        return True

    file.write_bytes(b"early\n")
    texts = follow(files.log_source(str(file)), finished=finished, interval=0.01)
    assert await all_of(texts) == "early\nlate\n"


async def test_a_requeued_job_is_followed_from_its_beginning(files: FileStrategy, file: Path) -> None:
    job = Job()
    file.write_bytes(b"first run, line 1\nfirst run, line 2\n")
    async with aclosing(start(files, file, job)) as texts:
        assert await read_until(texts, "line 2\n") == "first run, line 1\nfirst run, line 2\n"
        file.write_bytes(b"second\n")  # truncated
        assert await read_until(texts, "second\n") == "second\n"
        replacement = file.with_name("new")
        replacement.write_bytes(b"a longer third one\n")
        os.replace(replacement, file)
        assert await read_until(texts, "one\n") == "a longer third one\n"


async def test_it_goes_on_in_another_process(files: FileStrategy, file: Path) -> None:
    job = Job()
    data = (TEXT * 3 + "and the end").encode()
    position: str | None = None
    found = ""
    cuts = [20, 21, 35, 36, 60, 61, len(data)]  # in the midst of characters and lines
    for start_at, cut in zip([0, *cuts], cuts, strict=False):
        append(file, data[start_at:cut])
        async with aclosing(start(files, file, job, position)) as texts:
            wanted = data[:cut].decode(errors="ignore")
            if not files.backend.capabilities:
                wanted = wanted[: wanted.rfind("\n") + 1]
            while found != wanted:
                with anyio.fail_after(60):
                    found += await anext(texts)
                position = texts.position
    job.ended = True
    assert found + await all_of(start(files, file, job, position)) == data.decode()


async def test_the_end_is_not_handed_out_again(files: FileStrategy, file: Path) -> None:
    job = Job()
    job.ended = True
    file.write_bytes(b"line\nunfinished")
    texts = start(files, file, job)
    assert await all_of(texts) == "line\nunfinished"
    again = start(files, file, job, texts.position)
    assert await all_of(again) == ""
    append(file, b" no more\nnext\n")
    assert await all_of(start(files, file, job, again.position)) == " no more\nnext\n"


async def test_a_position_of_the_other_kind_is_refused(files: FileStrategy, file: Path) -> None:
    for position in (
        "",
        "bytes",
        "bytes:x",
        "lines:-1",
        "nonsense:1",
        "lines:1" if files.backend.capabilities else "bytes:1",
    ):
        if position:
            with pytest.raises(InvalidRequestError, match="not a position"):
                start(files, file, Job(), position)
        else:
            start(files, file, Job(), position)


async def test_what_may_not_be_read_is_an_error(files: FileStrategy, plain: PlainFirecrest, file: Path) -> None:
    if files.backend.capabilities:
        with pytest.raises(InvalidRequestError):
            await all_of(start(files, Path("/proc/kmsg"), Job()))
    else:
        file = plain.settings.home_of(plain.second_user.name) / "log"
        file.write_text("secret")
        file.chmod(0o600)
        with pytest.raises(PermissionDeniedError):
            await all_of(start(files, file, Job()))


# what a backlog and outages do


@pytest.mark.parametrize("lines", [0, 3])
@pytest.mark.parametrize(
    "unit", ["0123456789 abcdef\n", "名前 naïve 🚀 x\n", "é", "x" * 9000 + "\n", "é" * 5000 + "\nb\n"]
)
async def test_a_backlog_beyond_one_answer_comes_in_pieces(
    plain: PlainFirecrest, tmp_path: Path, unit: str, lines: int
) -> None:
    text = "1\n2\n3\n" + unit * (60_000 // len(unit)) + "end"
    file = plain.home / f"{tmp_path.name}.out"
    file.write_text(text)
    job = Job()
    job.ended = True
    async with plain_connection(plain) as connection:
        texts = start(connection.files, file, job, f"lines:{lines}" if lines else None)
        assert await all_of(texts) == text[2 * lines :]
        assert texts.position == f"lines:{text.count(chr(10))}:{len(text) - text.rfind(chr(10)) - 1}"


async def test_a_follower_that_falls_behind_catches_up(plain: PlainFirecrest, tmp_path: Path) -> None:
    file = plain.home / f"{tmp_path.name}.out"
    job = Job()
    async with plain_connection(plain) as connection, aclosing(start(connection.files, file, job)) as texts:
        expected = ""
        for burst in (10, 3000, 1, 5000, 2):
            new = "".join(f"{len(expected) + number} ü\n" for number in range(burst))
            append(file, new.encode())
            expected += new
            assert await read_until(texts, new[-12:]) == new
        job.ended = True
        assert await all_of(texts) == ""


async def test_a_failing_gateway_loses_and_repeats_nothing(plain: PlainFirecrest, tmp_path: Path) -> None:
    file = plain.home / f"{tmp_path.name}.out"
    text = "".join(f"line {number} ü\n" for number in range(3000))
    job = Job()
    async with plain_connection(plain) as connection, aclosing(start(connection.files, file, job)) as texts:
        append(file, text[:105].encode())
        plain.faults.fail(503, "/ops/tail", count=6)
        plain.faults.drop("/ops/stat", count=6)
        plain.faults.garble("/ops/(stat|tail)", count=2)
        plain.faults.throttle(0, "/ops/stat", count=5)
        assert await read_until(texts, "10 ü\n") == text[:100]
        plain.faults.fail(500, "/ops/view", skip=2, count=4)
        plain.faults.fail(503, "/ops/view", skip=5, count=4)
        append(file, text[105:].encode())
        job.ended = True
        assert await all_of(texts) == text[100:]
        assert not any(rule.count for rule in plain.faults.rules)


async def test_an_outage_is_waited_out(plain: PlainFirecrest, tmp_path: Path) -> None:
    file = plain.home / f"{tmp_path.name}.out"
    job = Job()
    file.write_text("before\n")
    async with plain_connection(plain) as connection, aclosing(start(connection.files, file, job)) as texts:
        assert await anext(texts) == "before\n"
        append(file, b"while it was down\n")
        job.ended = True
        plain.down(seconds=2)
        assert await all_of(texts) == "while it was down\n"


async def test_cuts_lose_and_repeat_nothing(gateway: RunningGateway, tmp_path: Path) -> None:
    text = "".join(f"{number} naïve 名前 🚀\n" for number in range(40_000))
    job = Job()
    job.ended = True
    with relay_to(gateway.url) as relay:
        async with gateway_connection(gateway, relay.url) as connection:
            file = Path(await connection.files.backend.system.default_workdir()) / f"{tmp_path.name}.out"
            file.write_text(text)
            relay.cuts_down += [100_001, 1, 50_003, 200_005, 2, 77_777]
            assert await all_of(start(connection.files, file, job)) == text
            assert not relay.cuts_down


# the cutting of text, apart from any gateway


class _Growing:
    """As much of a backend as a source uses, over bytes that grow."""

    features = frozenset({"content"})
    gateway_url = "http://test"

    def __init__(self, limit: int) -> None:
        self.data = b""
        self.files = self
        self.max_direct_download = limit

    async def stat(self, path: str) -> dict[str, int]:
        return {"size": len(self.data), "ino": 1}

    async def read(self, path: str, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        for start in range(offset, len(self.data), 3):
            yield self.data[start : start + 3]

    async def tail_lines(self, path: str, first: int) -> str:
        lines = self.data.split(b"\n")[first - 1 :]
        return b"\n".join(lines).decode(errors="replace")

    async def view(self, path: str, offset: int, size: int) -> str:
        assert offset % size == 0
        return self.data[offset : offset + 2 * size].decode(errors="replace")[:size]


def drive(make: Callable[[Any, str], Source], data: bytes, cuts: list[int], limit: int) -> str:
    """What a source hands out of data that comes in pieces, with a new source after every third piece."""

    async def work() -> str:
        growing = _Growing(limit)
        source = make(growing, "/f")
        found = ""
        for number, (begin, end) in enumerate(zip([0, *cuts], [*cuts, len(data)], strict=True)):
            growing.data += data[begin:end]
            found += "".join([text async for text in source.read()])
            if number % 3 == 2:
                position = source.position
                source = make(growing, "/f")
                source.seek(position)
        found += "".join([text async for text in source.read()])
        return found + source.rest()

    return anyio.run(work)


TEXTS = st.text(alphabet=st.sampled_from("ab\n\r \u00e9\u540d\U0001f680\u2028"), max_size=60)


@given(TEXTS, st.data())
@settings(deadline=None, max_examples=150)
def test_bytes_cut_anywhere_are_the_same_text(text: str, choice: st.DataObject) -> None:
    data = text.encode()
    cuts = sorted(choice.draw(st.lists(st.integers(0, len(data)), max_size=6)))
    assert drive(ByteSource, data, cuts, 0) == text


@given(st.binary(max_size=40), st.data())
@settings(deadline=None, max_examples=100)
def test_bytes_that_are_no_text_are_replaced_as_if_read_at_once(data: bytes, choice: st.DataObject) -> None:
    cuts = sorted(choice.draw(st.lists(st.integers(0, len(data)), max_size=6)))
    assert drive(ByteSource, data, cuts, 0) == codecs.decode(data, "utf-8", "replace")


@given(TEXTS, st.data())
@settings(deadline=None, max_examples=300)
def test_lines_and_windows_cut_anywhere_are_the_same_text(text: str, choice: st.DataObject) -> None:
    data = text.encode()
    cuts = sorted(choice.draw(st.lists(st.integers(0, len(data)), max_size=6)))
    limit = choice.draw(st.integers(8, 40))
    assert drive(LineSource, data, cuts, limit) == text


@given(st.binary(max_size=60).filter(lambda data: data.isascii()), st.data())
@settings(deadline=None, max_examples=100)
def test_any_ascii_in_windows(data: bytes, choice: st.DataObject) -> None:
    cuts = sorted(choice.draw(st.lists(st.integers(0, len(data)), max_size=6)))
    assert drive(LineSource, data, cuts, choice.draw(st.integers(8, 20))) == data.decode()
