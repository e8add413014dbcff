"""The files of a job's artifacts and caches, and the script that packs them in the job."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

import msgspec

from crestline_gitlab_runner import log
from crestline_gitlab_runner.patterns import Pattern, PatternError, compile_exclusion, compile_pattern, fill_in, literal
from crestline_gitlab_runner.runner_script import HelperCall


class Bundle(msgspec.Struct, frozen=True):
    """Files that the runner's helper was asked to collect.

    Attributes:
        patterns: patterns below the project.
        excludes: expressions of paths to exclude.
        untracked: whether to include files that git does not track.
    """

    call: HelperCall
    patterns: tuple[Pattern, ...]
    excludes: tuple[str, ...]
    untracked: bool

    @classmethod
    def of(cls, call: HelperCall, variables: Mapping[str, str], project: str) -> Bundle:
        """Return the files of a call. Forbidden paths are left out and reported in the log.

        Args:
            call: the call of the helper.
            variables: variables of the job, expanded in patterns as text.
            project: the project's directory on the system.
        """
        patterns, excludes = [], []
        for text in dict.fromkeys(call.values("path")):
            try:
                patterns.append(compile_pattern(fill_in(text, variables), project))
            except PatternError as error:
                log.remark(f"WARNING: {text}: left out, since {error}.")
        for text in dict.fromkeys(call.values("exclude")):
            try:
                excludes.append(compile_exclusion(fill_in(text, variables), project))
            except PatternError as error:
                log.remark(f"WARNING: exclude {text}: ignored, since {error}.")
        return cls(call, tuple(patterns), tuple(excludes), call.has("untracked"))

    @property
    def is_cache(self) -> bool:
        """Whether these are the files of a cache, without which a pipeline continues."""
        return self.call.command == "cache-archiver"

    @property
    def is_empty(self) -> bool:
        """Whether no file can match, so that nothing is packed."""
        return not self.patterns and not self.untracked

    @property
    def includes(self) -> list[str]:
        """Expressions that match all requested files, for `repack`."""
        if self.untracked:
            return ["^"]
        return [each.expression or _everything_below(each.start) for each in self.patterns]

    @property
    def starts(self) -> list[str]:
        """The directories and files, below the project, that contain all matches."""
        if self.untracked:
            return ["."]
        found = sorted({each.start.removeprefix("./") for each in self.patterns})
        return [path for path in found if not any(path != each and _is_within(path, each) for each in found)]


def pack_script(
    project: str, bundles: list[tuple[Bundle, str]], part_size: int, *, tracked: str, scratch: str
) -> bytes:
    """Return the bash script that packs matching files in the job.

    It reports missing and unreadable files in the log and packs the rest.

    Args:
        project: directory on the system, as all paths.
        bundles: each with the prefix of the names of its archive's parts.
        tracked: file with the names that git tracks.
        scratch: prefix of the names of temporary files.
    """
    lines = [
        f"cd {_word(project)} 2>/dev/null || "
        "{ echo 'WARNING: the project directory is gone: there is nothing to pack.'; exit 0; }",
        "export LC_ALL=C",
        f"list={_word(scratch)}",
        "count() { tr -cd '\\0' <\"$1\" | wc -c; }",
        "search() { # TEXT START EXPRESSION",
        '  { [ ! -e "$2" ] && [ ! -L "$2" ]; } || find "$2" -name .git -prune -o -print0 |'
        ' if [ -n "$3" ]; then grep -azE -e "$3"; else cat; fi >"$list.found"',
        '  [ -e "$list.found" ] || : >"$list.found"',
        '  found=$(($(count "$list.found")))',
        '  if [ "$found" -eq 0 ]; then printf "WARNING: %s: no matching files\\n" "$1"',
        '  else printf "%s: found %s matching files and directories\\n" "$1" "$found"; fi',
        '  cat "$list.found" >>"$list.all"; rm -f "$list.found"',
        "}",
        "pack() { # PART EXPRESSION...: what is listed, without what the expressions match",
        "  part=$1; shift",
        '  sort -zu <"$list.all" >"$list.sorted"',
        '  for each; do grep -azvE -e "$each" <"$list.sorted" >"$list.kept"; mv "$list.kept" "$list.sorted"; done',
        '  if [ -s "$list.sorted" ]; then',
        "    tar -czf - --no-recursion --hard-dereference --ignore-failed-read --null --no-unquote"
        f' -T "$list.sorted" | split -b {part_size} -a 4 -d - "$part"',
        '    ended=("${PIPESTATUS[@]}")',
        '    [ "${ended[0]}" -le 1 ] && [ "${ended[1]}" -eq 0 ] || exit 95',
        "  fi",
        '  rm -f "$list.all" "$list.sorted"',
        "}",
    ]
    for bundle, part in bundles:
        lines.append(': >"$list.all"')
        for pattern in bundle.patterns:
            lines.append(
                f"search {_word(log.plain(pattern.text))} {_word(pattern.start)} {shlex.quote(pattern.expression)}"
            )
        if bundle.untracked:
            files = "find . -name .git -prune -o '(' -type f -o -type l ')' -print0"
            lines.append(f'comm -z -23 <({files} | sort -z) {_word(tracked)} >>"$list.all"')
        lines.append(" ".join(["pack", _word(part), *map(shlex.quote, bundle.excludes)]))
    return "\n".join([*lines, "exit 0", ""]).encode("latin-1")


def _word(text: str) -> str:
    """Quote a path as a shell word, with one character per byte."""
    return shlex.quote(text.encode(errors="surrogateescape").decode("latin-1"))


def _everything_below(start: str) -> str:
    return "^" if start == "." else f"^{literal(start)}(/.*)?$"


def _is_within(path: str, folder: str) -> bool:
    return folder == "." or path.startswith(f"{folder}/")
