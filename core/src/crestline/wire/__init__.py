"""The messages of FirecREST v2 and IRI as typed structs, shared by both ends, and Crestline's additions to them.

`status`, `compute`, `filesystem` and `transfer` follow FirecREST's own grouping of endpoints, `iri` has the messages of
the IRI API, `extensions` Crestline's additions, and `codec` encodes and decodes them.
"""
