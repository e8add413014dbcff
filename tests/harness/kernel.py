"""A kernel of a user's server, reached as a browser reaches it: through the hub's proxy, over a WebSocket."""

from __future__ import annotations

import json
from typing import Any

from websockets.sync.client import connect

from harness.hub import TOKEN, Hub


def run_code(hub: Hub, user: str, code: str, timeout: float = 180) -> str:
    """Run code in a new kernel of the user's server, as a browser does; returns what it printed.

    Raises:
        AssertionError: the code raised.
    """
    with hub.http() as http:
        answer = http.post(f"/user/{user}/api/kernels", json={})
        assert answer.status_code == 201, answer.text
        kernel = answer.json()["id"]
    url = f"{hub.url.replace('http', 'ws', 1)}/user/{user}/api/kernels/{kernel}/channels"
    with connect(url, additional_headers={"Authorization": f"token {TOKEN}"}, proxy=None) as channel:
        content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False, "stop_on_error": True}
        header = {
            "msg_id": "the-one",
            "msg_type": "execute_request",
            "username": user,
            "session": "s",
            "version": "5.3",
        }
        request: dict[str, Any] = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
        channel.send(json.dumps(request | {"channel": "shell", "buffers": []}))
        printed = []
        while True:
            message = json.loads(channel.recv(timeout))
            if message["parent_header"].get("msg_id") != "the-one":
                continue
            if message["msg_type"] == "stream":
                printed.append(message["content"]["text"])
            if message["msg_type"] == "error":
                raise AssertionError("\n".join(message["content"]["traceback"]))
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                return "".join(printed)
