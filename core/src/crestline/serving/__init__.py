"""HTTP servers with limits for heads, bodies, silence and connections, for the gateway and the relay.

`server.HttpServer` is the server; it needs uvicorn and httptools, which `limits` does not.
"""

from crestline.serving.limits import ConnectionLimits

__all__ = ["ConnectionLimits"]
