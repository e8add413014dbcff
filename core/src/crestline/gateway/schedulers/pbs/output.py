"""What qstat and pbsnodes print with `-F json`, which is often no JSON.

Known faults: values that look like a number to strtod(3) stand without quotes (`007`, `1e999`, `nan`, `0x1f`), control
characters and quotes inside of values are not escaped. So every bare value is read as text, control characters are let
through, and quotes within a line's value are mended; a job that still cannot be read is left out, not the whole list.
"""

from __future__ import annotations

import json
import logging
import re
from typing import Any

_log = logging.getLogger(__name__)

_BARE = re.compile(r'("(?:[^"\\]|\\.)*")|([^\s",:{}\[\]]+)', re.DOTALL)
_LINE = re.compile(r'^(\s*"[^"\n]*"\s*:\s*)"(.*)"(,?[ \t]*)$', re.MULTILINE)


def read_objects(output: bytes, part: str) -> dict[str, dict[str, Any]]:
    """The objects below the key `part`, by name; every scalar in them is text.

    Args:
        output: what the program printed.
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
        except ValueError:
            continue
    return None


def _escape(match: re.Match[str]) -> str:
    """One line's value with its inner quotes, and backslashes that escape nothing, escaped."""
    head, value, tail = match.groups()
    value = re.sub(r'\\(?!["\\/bfnrtu])', r"\\\\", value)
    value = re.sub(r'((?:^|[^\\])(?:\\\\)*)"', r'\1\\"', re.sub(r'""', r'"\\"', value))
    return f'{head}"{value}"{tail}'


def _salvage(text: str, part: str) -> dict[str, dict[str, Any]]:
    """The objects that can be read one by one; they begin on lines of their own, equally far from the margin."""
    start = re.search(rf'^(\s*)"{part}"\s*:\s*{{', text, re.MULTILINE)
    if start is None:
        return {}
    first = re.compile(r'^(\s+)"([^"\n]+)"\s*:\s*\{\s*$', re.MULTILINE).search(text, start.end())
    if first is None:
        return {}
    heads = list(re.finditer(rf'^{re.escape(first[1].strip(chr(10)))}"([^"\n]+)"\s*:\s*\{{\s*$', text, re.MULTILINE))
    found = {}
    for head, following in zip(heads, [*heads[1:], None], strict=True):
        body = text[head.end() - 1 : following.start() if following else len(text)]
        value = _read(body[: body.rindex("}") + 1].rstrip().rstrip(",")) if "}" in body else None
        if following is None and not isinstance(value, dict):  # the closing braces of the whole stand behind it
            value = _read(re.sub(r"\}\s*\}\s*\}\s*$", "}", body))
        if isinstance(value, dict):
            found[head[1]] = value
        else:
            _log.warning("%s of PBS cannot be read and is left out", head[1])
    return found
