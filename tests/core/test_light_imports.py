"""What importing the client leaves out, and that everybody else in the process still gets it."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("firecrest.v1", "requests", "jwt", "cryptography", "websockets", "click", "rich", "importlib.metadata")


def _run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_client_imports_nothing_that_only_others_need() -> None:
    assert _run(f"import sys, crestline.client; print([name for name in {HEAVY} if name in sys.modules])") == "[]\n"


def test_pyfirecrest_is_whole_for_those_who_import_it_later() -> None:
    _run(
        "import crestline.client.light_imports as ours\n"
        "import firecrest, firecrest.v2\n"
        "assert firecrest.v2.AsyncFirecrest is ours.AsyncFirecrest\n"
        "assert firecrest.FirecrestException is ours.FirecrestException\n"
        "assert firecrest.v1.Firecrest and firecrest.ClientCredentialsAuth and firecrest.__version__\n"
        "from streamer import streamer_client\n"
        "from firecrest.v2._async import Client\n"
        "assert Client.cli is streamer_client and streamer_client.click\n"
    )


def test_what_is_imported_already_stays_as_it_is() -> None:
    _run(
        "import firecrest, httpx\n"
        "main = httpx.main\n"
        "import crestline.client.light_imports as ours\n"
        "import sys\n"
        "assert sys.modules['firecrest'] is firecrest and httpx.main is main\n"
        "assert firecrest.v2.AsyncFirecrest is ours.AsyncFirecrest\n"
    )
