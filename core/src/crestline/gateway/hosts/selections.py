"""Selects files of a directory for a request, and defines the order of listings."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from crestline.gateway.hosts.threads import check_cancelled
from crestline.gateway.paths import printable
from crestline.model import InvalidRequestError, TooLargeError
from crestline.wire.extensions import TarSelection

MAX_SELECTIONS = 10_000
"""Maximum number of directories in which one request can select files."""
MAX_PATTERNS = 1000
"""Maximum number of patterns in one request. Plain names do not count."""
MAX_COMPARISONS = 20_000_000
"""Maximum number of comparisons of patterns with file names in one request: about ten seconds of one thread."""
_COMPARISONS_AT_ONCE = 1000
_MAX_PATTERN = 4096
_QUOTED = re.compile(r"\[([*?[])\]")
_WILDCARD = re.compile(r"[*?[]")
_PATTERN_MEMORY = 8 * 1024 * 1024
"""Maximum size in bytes of a pattern's automaton."""
# Escape sequences that find(1) and RE2 interpret differently.
_ESCAPES = {"(": "(?:", ")": ")", "|": "|", "<": r"\b", ">": r"\b", "`": r"\A", "'": r"\z"}
_SAME_ESCAPES = "wWbB"
_BRACKET = re.compile(r"\[\^?\]?(?:\[:[a-z]+:\]|\[[.=][^\]]*\]|[^\]])*\]", re.DOTALL)


class Selector:
    """Selects the files of one request, in a thread and within limits."""

    def __init__(self, selections: Sequence[TarSelection]) -> None:
        """Check the number of patterns and their lengths.

        Raises:
            TooLargeError: the number of selections or patterns is too large, or one is longer than a path.
        """
        patterns = [pattern for each in selections for pattern in each.patterns]
        if len(selections) > MAX_SELECTIONS or sum(map(_is_pattern, patterns)) > MAX_PATTERNS:
            raise TooLargeError(
                f"More than {MAX_SELECTIONS} selections, or {MAX_PATTERNS} patterns with *, ? or [.",
                hint="Send the selections in several requests.",
            )
        if any(len(pattern) > _MAX_PATTERN for pattern in patterns):
            raise TooLargeError(f"A pattern has more than {_MAX_PATTERN} characters.", hint="Shorten the pattern.")
        self._comparisons = 0

    def choose(self, ages: Mapping[str, int], selection: TarSelection) -> list[str]:
        """Return the selected names, sorted.

        Args:
            ages: path below the directory -> nanoseconds since the epoch of the last change.
            selection: the selection.

        Raises:
            TooLargeError: the number of patterns is too large for the number of files.
        """
        found = set()
        if selection.since is not None and (since := ages.get(selection.since)) is not None:
            found = {name for name, changed in ages.items() if changed >= since and name != selection.since}
        for pattern in selection.patterns:
            check_cancelled()
            name = _QUOTED.sub(r"\1", pattern)
            if not _is_pattern(pattern):
                found |= ages.keys() & {name}
                continue
            self._comparisons += len(ages)
            if self._comparisons > MAX_COMPARISONS:
                raise TooLargeError(
                    f"The patterns need more than {MAX_COMPARISONS} comparisons with names of files.",
                    hint="Send fewer patterns in one request, or select in smaller directories.",
                )
            matches = re.compile(fnmatch.translate(pattern)).match
            for number, each in enumerate(ages):
                if not number % _COMPARISONS_AT_ONCE:
                    check_cancelled()
                if matches(each):
                    found.add(each)
        return sorted(found)


def _is_pattern(text: str) -> bool:
    """Whether a text can match more than one name."""
    return _WILDCARD.search(_QUOTED.sub("", text)) is not None


def listing_order(path: str) -> str:
    """Sort key of `ls -R`: the entries of a directory, then those of its first directory, and so on."""
    directory, _, name = path.rpartition("/")
    return directory.replace("/", "\1") + "\0" + name


def path_pattern(pattern: str) -> Callable[[str], bool]:
    """Return a function that matches whole paths against an expression of find(1), in time linear in the path.

    Raises:
        InvalidRequestError: invalid expression, or one with a back reference, which cannot be matched in linear time.
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
    at_start = True  # at the start of the expression, a group or an alternative, a repetition sign is a character
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
    """Map each byte to a character, so that every file name can be matched."""
    return os.fsencode(text).decode("latin-1")


def _bad_pattern(pattern: str, reason: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"find: '{printable(pattern)}': {reason}.", hint="Write it as for `find -regex`, without back references."
    )
