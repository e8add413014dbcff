"""The messages of FirecREST v2 as typed structs, shared by both ends, and Crestline's additions to them.

Whoever wants to know what crosses the wire reads this room: `status`, `compute`, `filesystem` and `transfer` follow
FirecREST's own grouping of endpoints, `extensions` holds what a Crestline gateway adds, `codec` how they are written.
"""
