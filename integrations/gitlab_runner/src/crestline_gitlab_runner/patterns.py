"""Paths of artifacts and caches: variables expanded as text, patterns as regular expressions for `grep -E`.

Patterns are those of the runner's helper: `*`, `?`, `[...]`, `{a,b}` and `**`, with a backslash before a literal
character. Matching happens in the job (`pack_script`) or, for a job that has ended, in `repack`. Both use the same
expressions.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Mapping

import msgspec

_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")
_MAGIC = "*?[{"
_LONGEST = 4096
_LONGEST_NAME = 255
_DEEPEST = 100
"""Maximum nesting of braces."""
_MULTIBYTE = "[\xc0-\xff][\x80-\xbf]*"
_ANY = f"([^/\x80-\xff]|{_MULTIBYTE})"
"""One character in UTF-8, for expressions that are matched byte by byte."""


class Pattern(msgspec.Struct, frozen=True):
    """A pattern below the project's directory.

    Attributes:
        text: the job's own text.
        start: the directory or file to search in, `./` and the part without a wildcard.
        expression: matches paths that begin with `./`, as latin-1 text; empty: everything below `start`.
    """

    text: str
    start: str
    expression: str


class PatternError(ValueError):
    """An invalid pattern; the text gives the reason."""


def fill_in(text: str, variables: Mapping[str, str]) -> str:
    """Replace `$NAME` and `${NAME}` by the job's variables, and unknown ones by an empty string.

    Values are truncated if together they are longer than a path can be, because they could fill the memory.
    """
    left = _LONGEST + 1

    def value(match: re.Match[str]) -> str:
        nonlocal left
        found = variables.get(match[1] or match[2], "")[:left]
        left -= len(found)
        return found

    return _VARIABLE.sub(value, text)


def is_too_long(path: str, most: int = _LONGEST) -> bool:
    """Whether a path is too long for file systems: more than `most` bytes, or more than 255 in one name."""
    return len(os.fsencode(path)) > most or any(len(os.fsencode(part)) > _LONGEST_NAME for part in path.split("/"))


def compile_pattern(text: str, project: str) -> Pattern:
    """Compile a pattern of a job.

    Args:
        text: the pattern.
        project: the project's directory on the system, with which absolute patterns begin.

    Raises:
        PatternError: the pattern leaves the project, or is malformed.
    """
    if len(text) > _LONGEST or "\0" in text:
        raise PatternError("it is too long, or holds a NUL")
    base, wild = _split(text)
    path = posixpath.normpath(posixpath.join(project, base or "."))
    if not base and not wild:
        raise PatternError("it is empty")
    if path != project and not path.startswith(f"{project}/"):
        raise PatternError("it is outside of the project")
    below = path.removeprefix(project).strip("/")
    if is_too_long(below):
        raise PatternError("a name in it is too long")
    start = f"./{below}" if below else "."
    if not wild:
        return Pattern(text, start, "")
    if ".." in re.split(r"[/{},]", wild):
        raise PatternError("it is outside of the project")
    prefix = literal(f"./{below}/" if below else "./")
    return Pattern(text, start, f"^{prefix}{_expression(wild)}(/.*)?$")


def compile_exclusion(text: str, project: str) -> str:
    """Return the expression of a path to exclude. Unlike a pattern, it does not include a directory's content.

    Raises:
        PatternError: as `compile_pattern`.
    """
    pattern = compile_pattern(text, project)
    if not pattern.expression:
        return f"^{literal(pattern.start)}$"
    return pattern.expression.removesuffix("(/.*)?$") + "$"


def _split(text: str) -> tuple[str, str]:
    """Return the leading components without a wildcard, unescaped, and the rest."""
    parts = text.rstrip("/").split("/") if text.strip("/") else [text]
    base: list[str] = []
    while parts and not _is_wild(parts[0]):
        base.append(re.sub(r"\\(.)", r"\1", parts.pop(0), flags=re.DOTALL))
    joined = "/".join(base)
    if text.startswith("/") and not joined.startswith("/"):
        joined = "/" + joined
    return joined, "/".join(parts)


def _is_wild(part: str) -> bool:
    return any(char in _MAGIC for char in re.sub(r"\\.", "", part, flags=re.DOTALL))


def _expression(text: str) -> str:
    """Convert a wildcard pattern to an extended regular expression with one character per byte."""
    out: list[str] = []
    groups = 0
    at = 0
    while at < len(text):
        char = text[at]
        if text.startswith("**/", at) and (at == 0 or text[at - 1] == "/"):
            out.append("(.*/)?")
            at += 3
        elif text[at:] == "**" and (at == 0 or text[at - 1] == "/"):
            out.append(".*")
            at += 2
        elif char == "*":
            out.append("[^/]*")
            at += 1
        elif char == "?":
            out.append(_ANY)
            at += 1
        elif char == "[":
            expression, at = _set(text, at)
            out.append(expression)
        elif char == "{":
            groups += 1
            if groups > _DEEPEST:
                raise PatternError(f"more than {_DEEPEST} braces are within each other")
            out.append("(")
            at += 1
        elif char == "}" and groups:
            groups -= 1
            out.append(")")
            at += 1
        elif char == "," and groups:
            out.append("|")
            at += 1
        elif char == "\\" and at + 1 < len(text):
            out.append(literal(text[at + 1]))
            at += 2
        else:
            out.append(literal(char))
            at += 1
    if groups:
        raise PatternError("a { has no }")
    return "".join(out)


def _set(text: str, at: int) -> tuple[str, int]:
    """Convert `[...]` to alternatives and ranges of single bytes."""
    match = re.compile(r"\[([!^]?)((?:\\.|[^\]\\])+)\]", re.DOTALL).match(text, at)
    if match is None:
        raise PatternError("a [ has no ]")
    chars = re.findall(r"(\\.|[^\\])(?:-(\\.|[^\\]))?", match[2], flags=re.DOTALL)
    ranges = [(first[-1], (last or first)[-1]) for first, last in chars]
    if any(not first.isascii() or not last.isascii() for first, last in ranges):
        if match[1] or any(first != last for first, last in ranges):
            raise PatternError("a range of characters that are not ASCII")
        return "(" + "|".join(literal(first) for first, _ in ranges) + ")", match.end()
    if any(first > last for first, last in ranges):
        raise PatternError("a range that ends before it begins")
    wanted = {code for first, last in ranges for code in range(ord(first), ord(last) + 1)} - {ord("/")}
    if match[1]:
        wanted = set(range(1, 128)) - {ord("/"), ord("\n")} - wanted  # `literal` replaces a newline by any character
    if not wanted:
        raise PatternError("a [ matches nothing")
    alternatives = [literal(chr(code)) for code in sorted(wanted)] + ([_MULTIBYTE] if match[1] else [])
    return f"({'|'.join(alternatives)})", match.end()


def literal(text: str) -> str:
    """Escape text byte by byte. A newline would end an expression of grep."""
    data = text.encode(errors="surrogateescape").decode("latin-1")
    return re.sub(r"[.^$*+?()\[\]{}|\\]", r"\\\g<0>", data).replace("\n", "[^/]")
