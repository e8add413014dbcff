"""What other people's text may do to the terminal of a command, and to the log of an adapter."""

from __future__ import annotations

import asyncio
import io
import json

import httpx
import pytest

from crestline.cli import completion
from crestline.cli.output import TerminalText, print_json
from crestline.cli.slurm import scancel
from crestline.client.backends.firecrest.errors import error_from_response as firecrest_error
from crestline.client.backends.iri.errors import error_from_response as iri_error
from crestline.model import File, FileType, Job, JobState

ESCAPES = [
    "\x1b]0;title\x07",
    "\x1b]52;c;ZXZpbA==\x07",
    "\x1b[6n",
    "\x1b[c",
    "\x9b6n",
    "\x1bP+q544e\x1b\\",
    "\x1b[?1049h",
]
ESCAPES += ["\x1b[?1049h", "\x1b[1A", "\x1bc", "\x1b#8", "\x1b[31;" + "1;" * 40 + "m", "\x0e", "\x7f", "\x00"]


@pytest.mark.parametrize("cut", [1, 2, 3, 1000])
def test_a_terminal_gets_colours_and_progress_and_nothing_else(cut: int) -> None:
    for text, shown in [
        ("plain \x1b[1;31mred\x1b[0m\n", None),
        ("10%\r20%\x1b[K\b\b\t\n", None),
        ("größer € 🚀\n", None),
        *(
            (f"a{each}b\n", f"a{''.join(c if c.isprintable() else ascii(c)[1:-1] for c in each)}b\n")
            for each in ESCAPES
        ),
    ]:
        terminal, content = TerminalText(), text.encode()
        pieces = [content[at : at + cut] for at in range(0, len(content), cut)]
        assert "".join(map(terminal.feed, pieces)) == (shown or text)
    assert TerminalText().feed(b"\x9b6n\xff") == "\ufffd6n\ufffd"


def test_json_holds_no_character_that_a_terminal_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"name": "".join(ESCAPES) + "\u202egnp.exe ü"}
    print_json(value)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.isprintable()
    assert json.loads(line) == value


def test_a_shell_is_offered_plain_names_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["plain.txt", "größer", "$(id)", "`id`", "\\$(id)", "a b", "*", "'", '"', ";id", "a\nid", "!!", "<(id)"]
    jobs = [Job(job_id=name, name=name, state=JobState.RUNNING) for name in names]
    files = [File(name=name, type=FileType.FILE, size=0) for name in names]

    class There:
        async def jobs(self) -> list[Job]:
            return jobs

        async def ls(self, path: str, hidden: bool) -> list[File]:
            return files

        async def resolve_path(self, path: str) -> str:
            return path

    monkeypatch.setattr(completion, "_ask", lambda site, look: asyncio.run(look(There())))
    assert completion.complete_remote_paths("") == ["plain.txt", "größer"]
    assert [name for name, _ in completion.complete_jobs("")] == ["plain.txt", "größer"]
    jobs[:] = [Job(job_id="1", name="".join(names), state=JobState.RUNNING)]
    ((_, about),) = completion.complete_jobs("")
    assert not set(about) & set("$`\\*'\";\n!<>()\x1b")


@pytest.mark.parametrize("escape", ESCAPES)
def test_an_error_of_a_server_is_printable(escape: str) -> None:
    for status in (400, 401, 403, 404, 409, 413, 500, 501, 503):
        body = {"errorType": "error", "message": f"a{escape}b", "causedBy": [escape]}
        assert str(firecrest_error(httpx.Response(status, json=body))).isprintable()
        problem = {"title": escape, "detail": f"a{escape}b", "status": status}
        assert str(iri_error(httpx.Response(status, json=problem))).isprintable()


@pytest.mark.anyio
async def test_a_question_about_a_job_is_printable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What `scancel --interactive` asks decides what is cancelled."""
    text = "".join(ESCAPES)

    class There:
        async def array_tasks(self, job_id: str) -> list[Job]:
            return [Job(job_id=job_id, name=text, partition=text, state=JobState.RUNNING)]

    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert await scancel._is_confirmed(There(), "1")  # type: ignore[arg-type]
    assert capsys.readouterr().out.isprintable()
