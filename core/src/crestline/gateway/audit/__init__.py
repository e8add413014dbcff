"""The audit trail: an append-only table of changes and denials, from which expired records are deleted."""

from crestline.gateway.audit.failures import FailedSignIns
from crestline.gateway.audit.notes import note_target, set_principal
from crestline.gateway.audit.record import AuditQuery, AuditRecord
from crestline.gateway.audit.trail import AuditTrail

__all__ = ["AuditQuery", "AuditRecord", "AuditTrail", "FailedSignIns", "note_target", "set_principal"]
