"""Blocks that are not run: each is read by the parser of its language."""

from __future__ import annotations

import ast
import subprocess
import tomllib

from harness.page_documents import check_json, check_yaml
from harness.page_shell import commands


def check_syntax(language: str, source: str) -> None:
    """Read a block.

    Raises:
        AssertionError: it is not of its language, or the language has no parser here.
    """
    match language:
        case "python":
            compile(source, "block", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        case "bash" | "sh":
            _check_shell(source)
        case "console":
            for command, _ in commands(source):
                _check_shell(command)
        case "toml":
            tomllib.loads(source)
        case "json":
            check_json(source)
        case "yaml":
            check_yaml(source)
        case _:
            raise AssertionError(f"a block in {language!r} needs a parser")


def _check_shell(script: str) -> None:
    done = subprocess.run(["bash", "-n", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
