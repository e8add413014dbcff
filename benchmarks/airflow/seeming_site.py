"""A plain FirecREST in a process of its own, with as many jobs as asked for. Commands come by stdin, answers by stdout.

`requests`: how many requests came since the last time asked; `end`: all jobs end, answers when.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from crestline.testing.firecrest import running
from harness.seeming_jobs import add_jobs, end_jobs


def main() -> None:
    with running() as plain:
        ids = add_jobs(plain, int(sys.argv[1]))
        connection = {
            "conn_type": "firecrest",
            "host": plain.url,
            "login": plain.client_id,
            "password": plain.client_secret,
            "extra": {"token_url": plain.token_url, "system": plain.system},
        }
        print(json.dumps({"connection": connection, "system": plain.system, "first": ids[0]}), flush=True)
        for line in sys.stdin:
            if line.strip() == "requests":
                count = len(plain.requests)
                del plain.requests[:count]
                print(json.dumps(count), flush=True)
            else:
                print(json.dumps(end_jobs(plain)), flush=True)


if __name__ == "__main__":
    main()
