"""Python blocks of a page, in one interpreter of their own.

Run as a program it is that interpreter: it takes blocks as lines of JSON and answers each with its traceback, or
nothing. Names that a page takes for granted, because its host gives them, are there: `c` in a JupyterHub's
configuration file, and a DAG around the tasks of Airflow.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import os
import subprocess
import sys
import traceback
import types
from contextlib import ExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


class Interpreter:
    """A process that runs the blocks of one page."""

    def __init__(self, page: str, place: Path, environment: dict[str, str]) -> None:
        reader, writer = os.pipe()
        self.output = place / ".python.log"
        with self.output.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, __file__, page, str(writer)],
                env=environment,
                cwd=place,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[writer],
            )
        os.close(writer)
        self._answers = os.fdopen(reader)

    def run(self, source: str, line: int) -> None:
        """Run a block.

        Raises:
            AssertionError: it raises; says what.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(f"{json.dumps([source, line])}\n".encode())
        self._process.stdin.flush()
        answer = self._answers.readline()
        assert answer, f"the interpreter has ended\n{self.output.read_text()}"
        failure = json.loads(answer)
        assert failure is None, f"{failure}\n{self.output.read_text()}"

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            assert self._process.wait(60) == 0, self.output.read_text()
        finally:
            self._process.kill()
            self._answers.close()


def _serve(page: str, answers: int) -> None:
    from page_settings import check_hub, check_partition, hub_names  # beside this file, which is a program here

    name = Path(page).name
    text = (ROOT / page).read_text()
    with ExitStack() as around, os.fdopen(answers, "w") as out:
        names: dict[str, Any] = {"__name__": "__main__", "__file__": page}
        if name.startswith("jupyterhub") or name in ("README.md", "index.md", "firecrestspawner.md", "batchspawner.md"):
            names |= hub_names()
        if name.startswith("airflow") or name in ("README.md", "index.md"):
            from airflow.sdk import DAG

            around.enter_context(DAG("page", schedule=None))
        for line in sys.stdin:
            source, number = json.loads(line)
            failure = None
            try:
                _execute(compile("\n" * number + source, page, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
                if "c" in names:
                    check_hub(names["c"], text)
                if "partition" in names:
                    check_partition(names["partition"], Path.cwd())
            except BaseException:
                failure = traceback.format_exc()
            print(json.dumps(failure), file=out, flush=True)


def _execute(code: types.CodeType, names: dict[str, Any]) -> None:
    """Run a block; one that awaits, as in a notebook, in a loop of its own."""
    if code.co_flags & inspect.CO_COROUTINE:
        asyncio.run(eval(code, names))
    else:
        exec(code, names)


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]))
