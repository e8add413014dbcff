"""`python -m crestline.testing.firecrest`: run a stand-in as a process.

The first line of its output is JSON with everything that a client needs.
"""

from __future__ import annotations

import argparse
import json
import signal
import threading

from crestline.testing.firecrest.fixture import running
from crestline.testing.firecrest.settings import VERSIONS


def main() -> None:
    """Serve until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="crestline.testing.firecrest", description="A plain FirecREST v2 for tests.")
    parser.add_argument("--port", type=int, default=0, help="port of FirecREST (default: a free one)")
    parser.add_argument("--neighbours-port", type=int, default=0, help="port of identity provider and S3")
    parser.add_argument("--state-dir", help="directory for all files (default: temporary)")
    parser.add_argument("--version", choices=VERSIONS, default="2.6.0", help="which FirecREST to be")
    asked = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    ports = {"port": asked.port, "neighbours_port": asked.neighbours_port}
    with running(asked.state_dir, version=asked.version, **ports) as plain:
        facts = {
            "url": plain.url,
            "token_url": plain.token_url,
            "control_url": plain.neighbours_url,
            "system": plain.system,
            "client_id": plain.client_id,
            "client_secret": plain.client_secret,
            "second_client": plain.second_client,
            "home": str(plain.home),
        }
        print(json.dumps(facts), flush=True)
        stop.wait()


if __name__ == "__main__":
    main()
