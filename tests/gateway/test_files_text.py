"""head, tail and view: the bytes that head(1) and tail(1) would print, and pages that cut no character."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness.gateway import RunningGateway

OPS = "/filesystem/local/ops"
LONG = "".join(f"line {number} größe {'x' * (number % 97)}\n" for number in range(60_000))
TEXTS = {
    "empty": "",
    "one line": "only\n",
    "no end": "a\nb\nc",
    "breaks": "\n\n\n",
    "usual": "".join(f"{number}\n" for number in range(1, 31)),
    "one byte": "x",
    "unicode": "ä€😀\n" * 50,
    "long": LONG,  # more than one block
    "one long line": "y" * 1_500_000,
}


@pytest.fixture(scope="module")
def http(gateway: RunningGateway) -> Iterator[httpx.Client]:
    with gateway.http() as client:
        yield client


@pytest.fixture(scope="module")
def texts(gateway: RunningGateway) -> Path:
    directory = gateway.home / "files" / "texts"
    directory.mkdir()
    for name, text in TEXTS.items():
        (directory / name).write_text(text)
    return directory


def ask(http: httpx.Client, call: str, path: Path, **params: Any) -> dict[str, Any]:
    answer = http.get(f"{OPS}/{call}", params={"path": str(path), **params})
    assert answer.status_code == 200, answer.text
    return dict(answer.json()["output"])


def printed(command: str, option: str, path: Path) -> str:
    return subprocess.run([command, option, path], check=True, capture_output=True).stdout.decode("utf-8", "replace")


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("unit", ["lines", "bytes"])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 10, 29, 30, 31, 59_999, 10**12])
def test_as_the_commands_print(http: httpx.Client, texts: Path, name: str, unit: str, count: int) -> None:
    path = texts / name
    head, tail = ask(http, "head", path, **{unit: count}), ask(http, "tail", path, **{unit: count})
    assert head["content"] == printed("head", f"--{unit}={count}", path)
    assert tail["content"] == printed("tail", f"--{unit}={count}", path)
    assert (head["contentType"], head["startPosition"], head["endPosition"]) == (unit, 0, count)
    assert (tail["contentType"], tail["startPosition"], tail["endPosition"]) == (unit, -count, -1)
    but_last = ask(http, "head", path, skipTrailing=True, **{unit: count})
    from_on = ask(http, "tail", path, skip_heading="true", **{unit: count})
    assert but_last["content"] == printed("head", f"--{unit}=-{count}", path)
    assert from_on["content"] == printed("tail", f"--{unit}=+{count}", path)
    assert (but_last["startPosition"], but_last["endPosition"]) == (0, -count)
    assert (from_on["startPosition"], from_on["endPosition"]) == (count, -1)


def test_numbers_as_the_commands_take_them(http: httpx.Client, texts: Path) -> None:
    path = texts / "usual"
    assert ask(http, "head", path)["content"] == printed("head", "-n10", path)
    assert ask(http, "tail", path)["content"] == printed("tail", "-n10", path)
    assert ask(http, "head", path, lines=-4)["content"] == printed("head", "-n-4", path)
    assert ask(http, "tail", path, lines=-4)["content"] == printed("tail", "-n-4", path)
    assert ask(http, "head", path, skipTrailing=True)["content"] == printed("head", "-n10", path)
    for call in ("head", "tail"):
        for params in ({"lines": 1, "bytes": 1}, {"lines": "x"}, {"bytes": 2**70}, {"lines": ""}):
            answer = http.get(f"{OPS}/{call}", params={"path": str(path), **params})
            assert answer.status_code == 400, (call, params, answer.text)


def test_what_is_too_much_for_one_answer(http: httpx.Client, texts: Path) -> None:
    path = texts / "huge"
    with path.open("wb") as file:
        for _ in range(64):
            file.write(b"z" * 1_000_000)
        file.write(b"\nlast\n")
    for call, params in [
        ("head", {"lines": 1}),
        ("head", {"lines": 1, "skipTrailing": True}),
        ("head", {"bytes": 5 * 1024**2 + 1}),
        ("tail", {"lines": 2}),
        ("tail", {"bytes": 1, "skipHeading": True}),
    ]:
        answer = http.get(f"{OPS}/{call}", params={"path": str(path), **params})
        assert answer.status_code == 413, (call, params)
        assert "Command output exceeded buffer limit." in answer.json()["message"]
    assert ask(http, "tail", path, lines=1)["content"] == "last\n"
    assert ask(http, "tail", path, lines=2, skipHeading=True)["content"] == "last\n"
    assert len(ask(http, "head", path, bytes=5 * 1024**2)["content"]) == 5 * 1024**2
    view = http.get(f"{OPS}/view", params={"path": str(path)})
    assert view.json()["output"] == "z" * (5 * 1024**2)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 64, 1000])
def test_pages_make_up_the_text(http: httpx.Client, texts: Path, size: int) -> None:
    path = texts / "mixed"
    text = "aä€😀é\n" * (8 if size < 64 else 300)
    path.write_text(text)
    pages = []
    for offset in range(0, len(text.encode()), size):
        answer = http.get(f"{OPS}/view", params={"path": str(path), "offset": offset, "size": size})
        pages.append(answer.json()["output"])
    assert "".join(pages) == text
    beyond = http.get(f"{OPS}/view", params={"path": str(path), "offset": 10**9})
    assert (beyond.status_code, beyond.json()) == (200, {"output": ""})


def test_binary_files_never_fail(http: httpx.Client, texts: Path) -> None:
    path = texts / "binary"
    path.write_bytes(bytes(range(256)) * 4)
    whole = http.get(f"{OPS}/view", params={"path": str(path)}).json()["output"]
    assert whole == path.read_bytes().decode("utf-8", "replace")
    for offset in range(0, 300, 7):
        assert http.get(f"{OPS}/view", params={"path": str(path), "offset": offset, "size": 9}).status_code == 200


@pytest.mark.parametrize(
    ("params", "text"),
    [({"offset": -1}, "`offset`"), ({"size": 0}, "`size`"), ({"size": -5}, "`size`"), ({"offset": 2**70}, "`offset`")],
)
def test_pages_that_cannot_be(http: httpx.Client, texts: Path, params: dict[str, int], text: str) -> None:
    answer = http.get(f"{OPS}/view", params={"path": str(texts / "usual"), **params})
    assert answer.status_code == 400, answer.text
    assert text in answer.json()["message"]
