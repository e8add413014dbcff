"""Which files of a directory a request selects, and in which order they are listed."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from crestline.gateway.paths import printable
from crestline.model import InvalidRequestError
from crestline.wire.extensions import TarSelection

_MAX_PATTERN = 4096
_PATTERN_MEMORY = 8 * 1024 * 1024
"""bytes that the automaton of a pattern may take"""
# Backslash and a letter or sign, where find(1) and RE2 differ in what that means.
_ESCAPES = {"(": "(?:", ")": ")", "|": "|", "<": r"\b", ">": r"\b", "`": r"\A", "'": r"\z"}
_SAME_ESCAPES = "wWbB"
_BRACKET = re.compile(r"\[\^?\]?(?:\[:[a-z]+:\]|\[[.=][^\]]*\]|[^\]])*\]", re.DOTALL)


def chosen(ages: Mapping[str, int], selection: TarSelection) -> list[str]:
    """The selected names, sorted.

    Args:
        ages: path below the directory -> nanoseconds since the epoch of the last change.
    """
    found = set()
    if selection.since is not None and (since := ages.get(selection.since)) is not None:
        found = {name for name, changed in ages.items() if changed >= since and name != selection.since}
    for pattern in selection.patterns:
        matches = re.compile(fnmatch.translate(pattern)).match
        found |= {name for name in ages if matches(name)}
    return sorted(found)


def listing_order(path: str) -> str:
    """Sorts as `ls -R` goes: the entries of a directory, then those of its first directory, and so on."""
    directory, _, name = path.rpartition("/")
    return directory.replace("/", "\1") + "\0" + name


def path_pattern(pattern: str) -> Callable[[str], bool]:
    """Whether a whole path matches an expression as find(1) takes it by default, in time linear in the path.

    Raises:
        InvalidRequestError: it is none, or has a back reference, which takes longer than that.
    """
    import re2

    if len(pattern) > _MAX_PATTERN:
        raise _bad_pattern(pattern[:40] + "...", f"more than {_MAX_PATTERN} characters")
    options: Any = re2.Options()
    options.dot_nl, options.never_capture, options.log_errors = True, True, False
    options.max_mem = _PATTERN_MEMORY
    try:
        compiled = re2.compile(_as_re2(_by_bytes(pattern)), options)
    except re2.error as error:
        raise _bad_pattern(pattern, str(error)) from error
    return lambda path: compiled.fullmatch(_by_bytes(path)) is not None


def _as_re2(pattern: str) -> str:
    parts: list[str] = []
    at_start = True  # of the expression, a group or an alternative, where a repetition is a character
    position = 0
    while position < len(pattern):
        each = pattern[position]
        position += 1
        starts = False
        if each == "\\":
            escaped = pattern[position : position + 1]
            position += 1
            if not escaped:
                raise _bad_pattern(pattern, "Trailing backslash")
            if escaped in "123456789":
                raise _bad_pattern(pattern, "Back references are not supported")
            starts = escaped in "(|"
            same = f"\\{escaped}" if escaped in _SAME_ESCAPES else re.escape(escaped)
            parts.append(_ESCAPES.get(escaped, same))
        elif each == "[":
            found = _BRACKET.match(pattern, position - 1)
            if found is None:
                raise _bad_pattern(pattern, "Unmatched [, [^, [:, [., or [=")
            parts.append(found.group().replace("\\", r"\\"))
            position = found.end()
        elif each in "*+?" and not at_start:
            if parts[-1] not in "*+?":  # a repetition of a repetition is a repetition
                parts.append(each)
            elif parts[-1] != each:
                parts[-1] = "*"
        elif each == "^" and at_start:
            parts.append(r"\A")
            starts = True
        elif each == "$" and pattern[position : position + 2] in ("", r"\)", r"\|"):
            parts.append(r"\z")
        else:
            parts.append("." if each == "." else re.escape(each))
        at_start = starts
    return "".join(parts)


def _by_bytes(text: str) -> str:
    """One character for each byte, so that every name of a file can be matched."""
    return os.fsencode(text).decode("latin-1")


def _bad_pattern(pattern: str, reason: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"find: '{printable(pattern)}': {reason}.", hint="Write it as for `find -regex`, without back references."
    )
