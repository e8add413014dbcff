"""What the audit trail of a gateway holds."""

from __future__ import annotations

from typing import Any

import anyio

from crestline.gateway.audit import AuditQuery, AuditRecord, AuditTrail
from crestline.gateway.state_directory import StateDirectory
from crestline.gateway.store import Store
from harness.gateway import RunningGateway


def audit_records(gateway: RunningGateway, **query: Any) -> list[AuditRecord]:
    async def read() -> list[AuditRecord]:
        store = await Store.open(StateDirectory(gateway.home).database)
        try:
            return list(await AuditTrail(store).read(AuditQuery(**query)))
        finally:
            await store.close()

    return anyio.run(read)
