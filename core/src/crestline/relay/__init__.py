"""The relay: reaches a server inside a job behind any firewall, by a connection that the job itself opens.

    hub's proxy ──HTTP──> ingress ─┐                       ┌─ agent ──unix socket──> single-user server
                                   ├─ frames on one WebSocket ┤
    hub's API <──HTTP── hub calls ─┘     (the job dials out)  └─ agent <──unix socket── single-user server

`frames`, `mux`, `server_socket`, `splice`, `websocket` and `agent` need only the standard library: `zipapp` packs them
into one file that a job can run with any Python. `server` is an ASGI application that the gateway
mounts or `crestline relay` serves.
"""
