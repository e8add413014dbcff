"""Who did what, when, and what was refused: a table that only grows, until its records are old enough to go."""

from crestline.gateway.audit.failures import FailedSignIns
from crestline.gateway.audit.notes import note_target, set_principal
from crestline.gateway.audit.record import AuditQuery, AuditRecord
from crestline.gateway.audit.trail import AuditTrail

__all__ = ["AuditQuery", "AuditRecord", "AuditTrail", "FailedSignIns", "note_target", "set_principal"]
