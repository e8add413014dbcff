"""Parses the output of qstat and pbsnodes with `-F json`, which is often invalid JSON.

Known defects: values that look like a number to strtod(3) lack quotes (`007`, `1e999`, `nan`, `0x1f`), and control
characters and quotes in values are not escaped. Therefore the parser reads every bare value as text, accepts control
characters, and repairs quotes within a value. It skips a job that remains unreadable and keeps the rest of the list.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Callable
from typing import Any, TypeVar

_log = logging.getLogger(__name__)

T = TypeVar("T")
Objects = dict[str, dict[str, Any]]

_LARGE = 256 * 1024
"""bytes from which reading leaves the event loop alone"""
# Users choose the text, so each pattern takes time in proportion to it.
_BARE = re.compile(r'("(?:[^"\\]|\\.)*+(?:"|\Z))|([^\s",:{}\[\]]+)', re.DOTALL)
_LINE = re.compile(r'^([ \t]*"[^"\n]*"[ \t]*:[ \t]*)"(.*)"(,?[ \t]*)$', re.MULTILINE)


async def convert_objects(output: bytes, part: str, convert: Callable[[Objects], T]) -> T:
    """Return what `convert` makes of `read_objects`. Large output is parsed in a thread."""

    def work() -> T:
        return convert(read_objects(output, part))

    return await asyncio.to_thread(work) if len(output) > _LARGE else work()


def read_objects(output: bytes, part: str) -> Objects:
    """Return the objects below the key `part` by name. Every scalar in them is text.

    Args:
        output: output of the program.
        part: `Jobs`, `nodes`, `Queue` or `Server`.
    """
    text = output.decode(errors="replace")
    whole = _read(text)
    if isinstance(whole, dict):
        found = whole.get(part)
        return (
            {key: value for key, value in found.items() if isinstance(value, dict)} if isinstance(found, dict) else {}
        )
    return _salvage(text, part)


def _read(text: str) -> Any:
    for mended in (text, _LINE.sub(_escape, text)):
        try:
            return json.loads(_BARE.sub(lambda match: match[1] or json.dumps(match[2]), mended), strict=False)
        except (ValueError, RecursionError):
            continue
    return None


def _escape(match: re.Match[str]) -> str:
    """Escape the inner quotes of a value, and backslashes that escape nothing."""
    head, value, tail = match.groups()
    value = re.sub(r'\\(?!["\\/bfnrtu])', r"\\\\", value)
    value = re.sub(r'((?:^|[^\\])(?:\\\\)*)"', r'\1\\"', re.sub(r'""', r'"\\"', value))
    return f'{head}"{value}"{tail}'


def _salvage(text: str, part: str) -> Objects:
    """Parse objects one by one. Each begins on a line of its own, with the same indentation."""
    start = re.search(rf'^[ \t]*"{part}"[ \t]*:[ \t]*{{', text, re.MULTILINE)
    if start is None:
        return {}
    first = re.compile(r'^([ \t]+)"([^"\n]+)"[ \t]*:[ \t]*\{[ \t]*$', re.MULTILINE).search(text, start.end())
    if first is None:
        return {}
    heads = list(re.finditer(rf'^{re.escape(first[1])}"([^"\n]+)"[ \t]*:[ \t]*\{{[ \t]*$', text, re.MULTILINE))
    found = {}
    for head, following in zip(heads, [*heads[1:], None], strict=True):
        body = text[head.end() - 1 : following.start() if following else len(text)]
        value = _read(body[: body.rindex("}") + 1].rstrip().rstrip(",")) if "}" in body else None
        if following is None and not isinstance(value, dict):  # followed by the closing braces of the document
            value = _read(re.sub(r"\}\s*\}\s*\}\s*$", "}", body))
        if isinstance(value, dict):
            found[head[1]] = value
        else:
            _log.warning("%s of PBS cannot be read and is left out", head[1])
    return found
