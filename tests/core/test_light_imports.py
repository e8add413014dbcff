"""What importing the client does to others in the process (nothing), and what the command leaves out of its own."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("firecrest.v1", "requests", "jwt", "cryptography", "websockets", "click", "rich", "importlib.metadata")
UNUSED = ("crestline.client.files", "crestline.client.federation", "crestline.client.blocking")
"""Parts of the client that a command of one request does not need."""

FINGERPRINT = """
import sys, types
import asyncio, json, logging, socket, ssl
import anyio, asyncssh, firecrest, firecrest.v2, httpcore, httpx, httpx_retries, msgspec, streamer.streamer_client

def fingerprint():
    "Everything that the modules and classes of others hold, by identity; private module attributes included."
    found = {"sys.meta_path": tuple(map(id, sys.meta_path)), "sys.path_hooks": tuple(map(id, sys.path_hooks))}
    for name in OTHERS:
        module = sys.modules[name]
        found[name] = id(module)
        for key, value in vars(module).items():
            if key in ("__warningregistry__",) or isinstance(value, types.ModuleType):
                continue
            found[name, key] = id(value)
            if isinstance(value, type) and value.__module__ == name:
                for attribute, held in list(vars(value).items()):
                    if not attribute.startswith(("__", "_abc")):
                        found[name, key, attribute] = id(held)
    return found

OTHERS = [name for name in sys.modules if name.partition(".")[0] in (
    "anyio", "asyncio", "asyncssh", "firecrest", "gc", "httpcore", "httpx", "httpx_retries", "json", "logging",
    "msgspec", "signal", "socket", "ssl", "streamer",
)]
"""


def _run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_client_changes_nothing_outside_the_package() -> None:
    changed = _run(
        f"{FINGERPRINT}\n"
        "before = fingerprint()\n"
        "import crestline.client, crestline.client.backends.firecrest\n"
        "after = fingerprint()\n"
        "print([key for key in before | after if before.get(key) != after.get(key)])\n"
    )
    assert changed == "[]\n"


def test_libraries_that_the_client_has_imported_are_whole() -> None:
    _run(
        "import crestline.client\n"
        "import sys, firecrest, httpx, streamer.streamer_client\n"
        "assert firecrest.__spec__.loader.__class__.__name__ == 'SourceFileLoader'\n"
        "assert firecrest.v1.Firecrest and firecrest.__version__ and streamer.streamer_client.click\n"
        "assert 'httpx._main' in sys.modules\n"
    )


def test_a_command_imports_nothing_that_only_others_need() -> None:
    """A canary too: it fails where a new version of these libraries imports in another way."""
    code = "import sys; from crestline.cli.lazy_imports import install; install(); import crestline.client\n"
    code += "import crestline.client.backends.firecrest.backend\n"
    assert _run(f"{code}print([name for name in {HEAVY + UNUSED} if name in sys.modules])") == "[]\n"


def test_a_plug_in_of_the_command_gets_what_it_asks_for() -> None:
    _run(
        "from crestline.cli.lazy_imports import install; install(); install()\n"
        "import sys\n"
        "assert sum('lazy_imports' in type(each).__module__ for each in sys.meta_path) == 1\n"
        "import crestline.client\n"
        "import firecrest, firecrest.v2\n"
        "assert firecrest.v1.Firecrest and firecrest.ClientCredentialsAuth and firecrest.__version__\n"
        "from firecrest.FirecrestException import FirecrestException\n"
        "assert firecrest.FirecrestException is FirecrestException\n"
        "from streamer import streamer_client\n"
        "from firecrest.v2._async import Client\n"
        "assert Client.cli is streamer_client and streamer_client.click\n"
    )


def test_what_the_command_has_imported_already_stays_as_it_is() -> None:
    _run(
        "import firecrest, httpx, sys\n"
        "main = httpx.main\n"
        "from crestline.cli.lazy_imports import install; install()\n"
        "import crestline.client\n"
        "assert sys.modules['firecrest'] is firecrest and httpx.main is main\n"
    )
