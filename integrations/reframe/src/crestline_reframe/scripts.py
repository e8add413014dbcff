"""ReFrame's job script as it runs on the system."""

from __future__ import annotations

import shlex


def remote_script(script: str, prologue: list[str]) -> str:
    """`script` with `prologue` before its first command, behind all directives."""
    lines = script.split("\n")
    place = next((at for at, line in enumerate(lines) if line.strip() and not line.startswith("#")), len(lines))
    return "\n".join([*lines[:place], *prologue, *lines[place:]])


def arrival(directory: str, marker: str, tree: str | None, links: list[tuple[str, str]]) -> list[str]:
    """The lines that bring a job into its stage directory, note when it began, and copy its inputs there.

    Args:
        tree: directory with the inputs, which stays as it is: other jobs have the same.
        links: name and target of links to other stage directories.
    """
    lines = [f"cd {shlex.quote(directory)} || exit 1", f"[ -e {marker} ] || : > {marker}"]
    if tree is not None:
        lines.append(f"cp -RPp {shlex.quote(tree)}/. . || exit 1")
    lines += [f"ln -sfn {shlex.quote(target)} {shlex.quote(name)} || exit 1" for name, target in links]
    return lines
