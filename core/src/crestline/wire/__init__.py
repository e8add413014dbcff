"""The messages of FirecREST v2 as typed structs, shared by both ends, and Crestline's additions to them.

To see what crosses the wire, read this package: `status`, `compute`, `filesystem` and `transfer` follow
FirecREST's own grouping of endpoints, `extensions` holds what a Crestline gateway adds, `codec` how they are written.
"""
