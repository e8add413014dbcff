"""Batch scripts for what an API's own operations cannot do: odd names on plain FirecREST, and files in pieces.

FirecREST writes paths into its scripts without quoting them safely. Here every path is one quoted word.
"""

from __future__ import annotations

import re
import shlex

DONE = "Files were successfully"
"""begins the sentence that FirecREST's own transfer jobs write at their end, and these jobs, too"""

_REGEX_SAFE = re.compile(r"(?:[A-Za-z0-9_./+@%:,()|*?^-]|\\[.()|\[\]*+?^])*")
_PACKED = '|| [ -s "$archive" ]  # what tar cannot read is missing, and the client says so'


def is_safe_regex(pattern: str) -> bool:
    """Whether FirecREST can be given a pattern for `compress`: it stands in two kinds of shell quotes."""
    return _REGEX_SAFE.fullmatch(pattern) is not None


def render(directives: tuple[str, ...], commands: str) -> str:
    """A batch script that does `commands` and says so, or fails."""
    lines = [
        "#!/bin/bash",
        *directives,
        "set -eu -o pipefail",
        'export LC_ALL=C PATH="${PATH:+$PATH:}/usr/local/bin:/usr/bin:/bin"',
        commands,
        f'echo "{DONE} moved."',
    ]
    return "\n".join(lines) + "\n"


def copy(source: str, target: str) -> str:
    """As FirecREST copies: whole directories, links as links, with all attributes."""
    return f"cp --force -Rd --preserve=all -- {_words(source, target)}"


def move(source: str, target: str) -> str:
    """Rename or move."""
    return f"mv -- {_words(source, target)}"


def remove(path: str) -> str:
    """Delete a file or directory."""
    return f"rm -R -- {_words(path)}"


def extract(archive: str, target: str) -> str:
    """Unpack a gzip tar archive."""
    return f"tar -xzf {_words(archive)} -C {_words(target)}"


def compress(directory: str, name: str, archive: str, pattern: str | None) -> str:
    """Pack `name` in `directory`, or what is below `directory` and matches."""
    begin = f"archive={_words(archive)}\ncd -- {_words(directory)}\n"
    if pattern is None:
        return f'{begin}tar -czf "$archive" -- {_words(name)} {_PACKED}'
    find = f"find . -type f -regex {_words(pattern)} -print0"
    return f'{begin}{find} | tar -czf "$archive" --null --files-from=- {_PACKED}'


def stage(path: str, name: str) -> str:
    """Give a file a second name, or a copy where file systems differ, and a directory a link."""
    source, target = _words(path), _words(name)
    return (
        f"if [ -d {source} ]; then ln -s -- {source} {target}; "
        f"else ln -L -- {source} {target} 2>/dev/null || cp -L -- {source} {target}; fi"
    )


def split(path: str, pieces: str, size: int) -> str:
    """Cut a file into files of `size` bytes in the new directory `pieces`, called `000000` and so on."""
    return (
        f"umask 077\nrm -rf -- {_words(pieces)}\nmkdir -- {_words(pieces)}\n"
        f"split -a 6 -d -b {size} -- {_words(path)} {_words(pieces + '/')}"
    )


def join(pieces: str, path: str, part: str, checksum: str) -> str:
    """Put the pieces together as `path`, which appears whole and with this SHA-256 or not at all."""
    return (
        f"trap 'rm -f -- '{shlex.quote(_words(part))} EXIT\n"
        f"cat -- {_words(pieces)}/* > {_words(part)}\n"
        f'[ "$(sha256sum < {_words(part)})" = "{checksum}  -" ] || {{ echo "The checksum differs."; exit 1; }}\n'
        f"mv -fT -- {_words(part, path)}\n"
        f"rm -r -- {_words(pieces)}"
    )


def _words(*paths: str) -> str:
    return " ".join(shlex.quote(path) for path in paths)
