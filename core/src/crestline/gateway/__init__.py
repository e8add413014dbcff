"""The gateway: serves FirecREST v2 in front of a scheduler and a machine, without further services.

`app` composes it and `config` reads its file. `routes/` has the endpoints, `identity/` authenticates requests,
`authorization/` checks permissions, `schedulers/` run jobs, `hosts/` hold files, `transfers/` move large files, and
`store` is the database.
"""
