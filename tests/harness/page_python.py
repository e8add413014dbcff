"""Python blocks of a page, in one interpreter of their own.

Run as a program it is that interpreter: it takes blocks as lines of JSON and answers each with its traceback, or
nothing. Names that a page takes for granted, because its host gives them, are there: `c` in a JupyterHub's
configuration file, and a DAG around the tasks of Airflow.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from contextlib import ExitStack
from pathlib import Path
from typing import Any


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
    name = Path(page).name
    with ExitStack() as around, os.fdopen(answers, "w") as out:
        names: dict[str, Any] = {"__name__": "__main__", "__file__": page}
        if name.startswith("jupyterhub") or name in ("README.md", "firecrestspawner.md", "batchspawner.md"):
            names |= _jupyterhub()
        if name.startswith("airflow") or name == "README.md":
            from airflow.sdk import DAG

            around.enter_context(DAG("page", schedule=None))
        for line in sys.stdin:
            source, number = json.loads(line)
            failure = None
            try:
                exec(compile("\n" * number + source, page, "exec"), names)
                if "c" in names:
                    _check_settings(names["c"])
            except BaseException:
                failure = traceback.format_exc()
            print(json.dumps(failure), file=out, flush=True)


def _jupyterhub() -> dict[str, Any]:
    from traitlets.config import Config

    config = Config()
    return {"c": config, "get_config": lambda: config}


def _check_settings(config: Any) -> None:
    """Every class that is configured has such a setting, and takes the value."""
    import jupyterhub.app
    import jupyterhub.auth
    import jupyterhub.spawner
    from oauthenticator.generic import GenericOAuthenticator
    from traitlets.config import Config

    from crestline_jupyterhub import FirecRESTSpawner

    classes: dict[str, tuple[type[Any], ...]] = {
        "JupyterHub": (jupyterhub.app.JupyterHub,),
        "Spawner": (FirecRESTSpawner,),
        "FirecRESTSpawner": (FirecRESTSpawner,),
        "Authenticator": (GenericOAuthenticator,),
        "GenericOAuthenticator": (GenericOAuthenticator,),
    }
    for name, section in config.items():
        for kind in classes[name]:
            unknown = section.keys() - kind.class_traits(config=True).keys()
            assert not unknown, f"{name} has no setting {unknown}"
            kind(config=Config({name: section}))  # refuses a value of a wrong type


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]))
