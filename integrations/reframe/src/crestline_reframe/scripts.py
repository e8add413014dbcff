"""Converts ReFrame's job scripts for the system."""

from __future__ import annotations

import shlex


def remote_script(script: str, prologue: list[str]) -> str:
    """Insert `prologue` into `script` before its first command, after all directives."""
    lines = script.split("\n")
    place = next((at for at, line in enumerate(lines) if line.strip() and not line.startswith("#")), len(lines))
    return "\n".join([*lines[:place], *prologue, *lines[place:]])


def arrival(directory: str, marker: str, tree: str | None, links: list[tuple[str, str]]) -> list[str]:
    """Return the lines that change into a job's stage directory, record its start, and copy its inputs there.

    Args:
        directory: the stage directory on the system.
        marker: name of the file that records the start.
        tree: directory with the inputs, which does not change, because other jobs have the same inputs.
        links: name and target of links to other stage directories.
    """
    lines = [f"cd {shlex.quote(directory)} || exit 1", f"[ -e {marker} ] || : > {marker}"]
    if tree is not None:
        lines.append(f"cp -RPp {shlex.quote(tree)}/. . || exit 1")
    lines += [f"ln -sfn {shlex.quote(target)} {shlex.quote(name)} || exit 1" for name, target in links]
    return lines
