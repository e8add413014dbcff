"""Commands in a container through one `docker exec` for all of them.

`docker exec` for each costs more than most commands do, and may lose the output of a command that is over at once.
"""

from __future__ import annotations

import base64
import itertools
import json
import subprocess
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

_AGENT = Path(__file__).with_name("container_agent.py")


@dataclass
class Ended:
    """What a command left."""

    exit_status: int
    stdout: bytes
    stderr: bytes


class ContainerShell:
    """The agent in one container, started when it is first needed and whenever it has died."""

    def __init__(self, container: str) -> None:
        self._container = container
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._pending: dict[int, Future[Ended]] = {}
        self._agent: subprocess.Popen[bytes] | None = None

    def start(
        self,
        user: str,
        argv: Sequence[str],
        *,
        input: bytes = b"",
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
    ) -> Future[Ended]:
        """Begin a command; cancelling the future leaves it running, as the end of a `docker exec` does."""
        future: Future[Ended] = Future()
        with self._lock:
            agent = self._running()
            number = next(self._numbers)
            self._pending[number] = future
            request = {
                "number": number,
                "user": user,
                "argv": list(argv),
                "input": base64.b64encode(input).decode(),
                "env": dict(env or {}),
                "cwd": cwd or "/",
            }
            assert agent.stdin is not None
            agent.stdin.write(json.dumps(request).encode() + b"\n")
            agent.stdin.flush()
        return future

    def close(self) -> None:
        """End the agent; commands that still run go on."""
        if self._agent is not None:
            assert self._agent.stdin is not None
            self._agent.stdin.close()
            self._agent.wait(30)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._agent is None or self._agent.poll() is not None:
            program = "import sys; exec(eval(sys.stdin.readline()))"  # no text that a pattern of pkill could match
            self._agent = subprocess.Popen(
                ["docker", "exec", "--interactive", self._container, "python3", "-u", "-c", program],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # an interrupted test still cleans up
            )
            assert self._agent.stdin is not None
            self._agent.stdin.write(f"{_AGENT.read_text()!r}\n".encode())
            self._pending = {}
            threading.Thread(target=_read, args=[self._agent, self._pending], daemon=True).start()
        return self._agent


def _read(agent: subprocess.Popen[bytes], pending: dict[int, Future[Ended]]) -> None:
    assert agent.stdout is not None
    for line in agent.stdout:
        answer = json.loads(line)
        future = pending.pop(answer["number"])
        if future.set_running_or_notify_cancel():
            out, err = (base64.b64decode(answer[name]) for name in ("stdout", "stderr"))
            future.set_result(Ended(answer["exit_status"], out, err))
    while pending:
        _, future = pending.popitem()
        if future.set_running_or_notify_cancel():
            future.set_exception(RuntimeError("the agent in the container has ended"))
