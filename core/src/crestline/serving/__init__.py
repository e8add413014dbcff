"""HTTP servers with limits for heads, bodies, silence and connections, for the gateway and the relay.

`server.HttpServer` is the server. It needs uvicorn and httptools, but `limits` does not.
"""

from crestline.serving.limits import ConnectionLimits

__all__ = ["ConnectionLimits"]
