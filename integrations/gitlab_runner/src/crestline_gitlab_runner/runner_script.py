"""Reads the runner's scripts as text. No shell on this machine ever runs them.

The runner passes each stage as a bash script. From the stages that run on the runner's machine, this module reads the
calls of the runner's own helper (artifacts and caches) and the address of the repository. It unquotes words in the
three ways in which runners quote them, and expands nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from crestline_gitlab_runner.failures import BuildFailureError

HELPER_COMMANDS = frozenset({"artifacts-uploader", "artifacts-downloader", "cache-archiver", "cache-extractor"})
_FLAGS = frozenset({"--untracked", "--verbose", "--generate-artifacts-metadata"})
"""Options of the helper without a value."""
_DOCUMENT = re.compile(r"<<[ ]*(\w+)([^\n]*)\n(?:(?!\1\n)[^\n]*\n)*\1(?=\n)")
"""A here-document with the rest of its line, by which the runner writes the environment of its helper."""
_KEYWORDS = frozenset({"if", "then", "else", "elif", "!", "{"})
_ANSI = re.compile(r"\\(x[0-9a-fA-F]{1,2}|[0-7]{1,3}|.)", re.DOTALL)
_GO = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.DOTALL)
_NAMED = {"a": "\a", "b": "\b", "e": "\x1b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


class HelperCall(msgspec.Struct, frozen=True):
    """One call of the runner's helper.

    Attributes:
        command: such as `artifacts-uploader`.
        depth: number of enclosing `if`s. A fallback of a cache is deeper than the cache itself.
    """

    command: str
    arguments: tuple[str, ...]
    depth: int

    def values(self, option: str) -> list[str]:
        """Return all values of an option."""
        return [value for name, value in self._options() if name == f"--{option}"]

    def value(self, option: str) -> str:
        """Return the last value of an option, or an empty string."""
        return (self.values(option) or [""])[-1]

    def has(self, flag: str) -> bool:
        """Whether an option without a value is present."""
        return (f"--{flag}", "") in self._options()

    def _options(self) -> Iterator[tuple[str, str]]:
        """Yield options and their values. A value that looks like an option is a value."""
        words = iter(self.arguments)
        for word in words:
            yield (word, "") if word in _FLAGS or not word.startswith("--") else (word, next(words, ""))


def helper_calls(script: bytes) -> list[HelperCall]:
    """Return the calls of the runner's helper in a stage's script, in their order.

    Raises:
        BuildFailureError: the quoting of the script cannot be read without a shell.
    """
    found = []
    depth = 0
    for words in _commands(_body(script)):
        while words and words[0] in _KEYWORDS:
            depth += words[0] == "if"
            words = words[1:]
        if words[:1] == ["fi"]:
            depth -= 1
        elif len(words) > 1 and words[1] in HELPER_COMMANDS:
            found.append(HelperCall(words[1], tuple(words[2:]), depth))
    return found


def repository_url(script: bytes) -> str | None:
    """Return the address of the sources in the script of `get_sources`."""
    for words in _commands(_body(script)):
        while words and words[0] in _KEYWORDS:
            words = words[1:]
        if len(words) > 4 and words[0] == "git" and words[1:4] == ["remote", "add", "origin"]:
            return words[4]
    return None


def _body(script: bytes) -> str:
    """Return the text that the script passes to `eval`, with one character per byte."""
    text = script.decode("latin-1")
    match = re.search(r"\beval (?=\S)", text)
    if match is None:
        return ""
    if not text.startswith("$'", match.end()):
        raise BuildFailureError(
            "The runner's script is quoted by FF_POSIXLY_CORRECT_ESCAPES, which does not protect all characters.",
            hint="Remove that variable.",
        )
    return _piece(text, match.end())[0]


def _commands(text: str) -> Iterator[list[str]]:
    """Split text into commands of unquoted words. Redirections and expansions stay as written."""
    words: list[str] = []
    word: str | None = None
    at = 0
    while at < len(text):
        char = text[at]
        if char == "<" and word is None and (document := _DOCUMENT.match(text, at)):
            at = document.end()
            continue
        if char in " \t\n;&|()":
            if word is not None:
                words.append(_text(word))
                word = None
            if char not in " \t" and words:
                yield words
                words = []
            at += 1
            continue
        piece, at = _piece(text, at)
        word = (word or "") + piece
    if word is not None:
        words.append(_text(word))
    if words:
        yield words


def _piece(text: str, at: int) -> tuple[str, int]:
    """Return the quoted or plain piece of a word at a position, and its end."""
    if text.startswith("$'", at):
        end = _closing(text, at + 2, "'")
        return _ANSI.sub(_character, text[at + 2 : end]), end + 1
    if text[at] == "'":
        end = text.find("'", at + 1)
        end = len(text) if end < 0 else end
        return text[at + 1 : end], end + 1
    if text[at] == '"':
        end = _closing(text, at + 1, '"')
        return _GO.sub(_character, text[at + 1 : end]), end + 1
    if text[at] == "\\":
        return text[at + 1 : at + 2], at + 2
    return text[at], at + 1


def _closing(text: str, at: int, quote: str) -> int:
    while at < len(text) and text[at] != quote:
        at += 2 if text[at] == "\\" else 1
    return min(at, len(text))


def _character(match: re.Match[str]) -> str:
    code = match[1]
    if code[0] in "xuU" and len(code) > 1:
        number = int(code[1:], 16)
        return chr(number) if code[0] == "x" else chr(number).encode(errors="replace").decode("latin-1")
    if code.isdigit():
        return chr(int(code, 8) & 0xFF) if code < "8" else code
    return _NAMED.get(code, code)


def _text(word: str) -> str:
    return word.encode("latin-1", errors="replace").decode(errors="surrogateescape")
