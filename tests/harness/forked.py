"""`crestline` and its siblings as processes that begin with their imports done.

To import a command takes most of the time that it lives, and the tests run hundreds. A server, one for each run of
pytest, imports them once and forks a process for each call. In a folder are programs with the commands' names that
have the server do so, and that look like the process to their caller: files, directory, environment, parent, signals
and exit code are those of the call. The installed programs are `harness.command.CRESTLINE` and its neighbours.
"""

from __future__ import annotations

import atexit
import gc
import marshal
import os
import pkgutil
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import NoReturn

_PACKAGES = ("crestline.cli", "crestline.client", "crestline_gitlab_runner")
_ASKS_FOR_ITS_PARENT = ("crestline_gitlab_runner", "crestline_gitlab_runner.commands")
"""modules that do so when they are imported"""
_INSTALLED = Path(sys.executable).parent
_CALLER = """#!{python} -IS
import array, marshal, os, signal, socket, sys
given = {{name: value for name, value in os.environ.items() if name.startswith("PYTHON")}}
if {{each for each in given.items() if each[0] != "PYTHONUNBUFFERED"}} - {python_variables!r}:
    os.execv({installed!r}, sys.argv)  # the interpreter would start in another way
signals = signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2
ignored = [int(each) for each in signals if signal.getsignal(each) == signal.SIG_IGN]
server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
server.connect({address!r})
for each in signals:
    if each not in ignored:
        signal.signal(each, lambda number, frame: server.send(bytes([number])))
call = marshal.dumps(([os.fsencode(each) for each in sys.argv], os.getcwdb(), dict(os.environb), ignored, os.getpid()))
files = array.array("i", [0, 1, 2])
server.sendmsg([len(call).to_bytes(8, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
server.sendall(call)
code = int.from_bytes(server.recv(4), "big", signed=True)
if code < 0:
    signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
    os.kill(os.getpid(), -code)
os._exit(code)
"""


@cache
def forked(name: str = "crestline") -> Path:
    """The program of this name; the server runs until this process ends."""
    return _serve() / name


@cache
def _serve() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="crestline-forked-"))
    address = folder / "server"
    variables = {each for each in os.environ.items() if each[0].startswith("PYTHON")}
    for program in _INSTALLED.glob("crestline*"):
        caller = folder / program.name
        texts = {"python": sys.executable, "address": str(address), "installed": str(program)}
        caller.write_text(_CALLER.format(**texts, python_variables=variables))
        caller.chmod(0o755)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(address))
    listener.listen(100)
    server = subprocess.Popen(
        [sys.executable, __file__, str(listener.fileno())],
        stdin=subprocess.PIPE,  # ends with this process
        stdout=subprocess.DEVNULL,
        pass_fds=[listener.fileno()],
    )
    listener.close()

    def close() -> None:
        server.communicate()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(close)
    return folder


def main(listener: socket.socket) -> None:
    """Fork for each connection, until stdin ends."""
    from crestline.cli.lazy_imports import install

    install()
    for package in _PACKAGES:
        for module in pkgutil.walk_packages(import_module(package).__path__, f"{package}."):
            import_module(module.name)
    import_module("anyio._backends._asyncio")
    for name in _ASKS_FOR_ITS_PARENT:
        del sys.modules[name]
    programs = {each.name: each.value for each in entry_points(group="console_scripts")}
    gc.collect()
    gc.freeze()
    waiting = selectors.DefaultSelector()
    waiting.register(0, selectors.EVENT_READ)
    waiting.register(listener, selectors.EVENT_READ)
    running: dict[socket.socket, tuple[int, int]] = {}
    while True:
        for key, _ in waiting.select():
            if key.fileobj == 0:
                for process, _descriptor in running.values():
                    os.kill(process, signal.SIGKILL)
                return
            if key.fileobj is listener:
                caller, _ = listener.accept()
                begun = _begin(caller, programs)
                if begun is None:
                    caller.close()
                    continue
                running[caller] = begun, os.pidfd_open(begun)
                waiting.register(caller, selectors.EVENT_READ)
                waiting.register(running[caller][1], selectors.EVENT_READ, caller)
            elif key.data is None:  # a signal for the process, or the end of its caller
                caller = key.fileobj
                if caller not in running:
                    continue
                number = caller.recv(1)
                os.kill(running[caller][0], number[0] if number else signal.SIGKILL)
                if not number:
                    waiting.unregister(caller)
            else:
                caller = key.data
                process, descriptor = running.pop(caller)
                code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
                waiting.unregister(descriptor)
                os.close(descriptor)
                if caller in waiting.get_map():
                    waiting.unregister(caller)
                    caller.send(code.to_bytes(4, "big", signed=True))
                caller.close()


def _begin(caller: socket.socket, programs: dict[str, str]) -> int | None:
    """The process that does what the caller is called for."""
    head, files, _, _ = socket.recv_fds(caller, 8, 3)
    if len(head) < 8:
        return None  # it was killed before it said what
    call = b""
    while len(call) < int.from_bytes(head, "big"):
        call += caller.recv(1 << 16)
    process = os.fork()
    if process == 0:
        try:
            _become(*marshal.loads(call), files, programs)
        finally:
            os._exit(70)
    for each in files:
        os.close(each)
    return process


def _become(
    words: list[bytes],
    directory: bytes,
    environment: dict[bytes, bytes],
    ignored: list[int],
    caller: int,
    files: list[int],
    programs: dict[str, str],
) -> NoReturn:
    for number, file in enumerate(files):
        os.dup2(file, number)
    os.closerange(3, 1 << 16)
    os.chdir(directory)
    os.environ.clear()
    os.environb.update(environment)
    os.getppid = lambda: int(Path(f"/proc/{caller}/stat").read_text().rpartition(")")[2].split()[1])
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        old = getattr(sys, name)
        descriptor = old.fileno()
        buffering = 1 if name == "stderr" or os.isatty(descriptor) else -1
        new = os.fdopen(descriptor, mode, buffering, old.encoding, old.errors, closefd=False)
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)
    sys.argv = [str(_INSTALLED / Path(os.fsdecode(words[0])).name), *(os.fsdecode(each) for each in words[1:])]
    module, _, function = programs[Path(sys.argv[0]).name].partition(":")
    code: object = 0
    try:
        code = getattr(import_module(module), function)()
    except SystemExit as end:
        code = end.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = 120
    sys.stderr.flush()
    os._exit((code or 0) & 0xFF)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
