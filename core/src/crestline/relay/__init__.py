"""The relay: reaches a server inside a job behind any firewall, by a connection that the job itself opens.

    hub's proxy ──HTTP──> ingress ─┐                       ┌─ agent ──unix socket──> single-user server
                                   ├─ frames on one WebSocket ┤
    hub's API <──HTTP── hub calls ─┘     (the job dials out)  └─ agent <──unix socket── single-user server

`frames`, `mux`, `server_socket`, `splice`, `websocket` and `agent` need the standard library alone: `program` packs
them into one file that a job can run with whatever Python it finds. `server` is an ASGI application that the gateway
mounts or `crestline relay` serves.
"""
