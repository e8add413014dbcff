"""The gateway: serves FirecREST v2 in front of a scheduler and a machine, with nothing else to install.

`app` composes it, `config` reads its file, `routes/` answers the endpoints, `identity/` says who asks and what they
may, `schedulers/` run jobs, `hosts/` hold files, `transfers/` moves large ones, `store` remembers what must outlive a
process.
"""
