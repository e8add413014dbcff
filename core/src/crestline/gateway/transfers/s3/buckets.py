"""Names of buckets and objects."""

from __future__ import annotations

import hashlib
import re

from crestline.gateway.transfers.records import Transfer

_LONGEST = 63


def bucket_of(prefix: str, username: str) -> str:
    """The bucket of one user: `<prefix><user>`, or a name with a digest where S3 takes no such name."""
    plain = f"{prefix}{username}"
    if len(plain) <= _LONGEST and re.fullmatch(r"[a-z0-9][a-z0-9-]+[a-z0-9]", plain, re.ASCII):
        return plain
    digest = hashlib.sha256(username.encode()).hexdigest()[:16]
    readable = re.sub(r"[^a-z0-9]+", "-", username.lower(), flags=re.ASCII).strip("-")
    room = _LONGEST - len(prefix) - len(digest) - 1
    return f"{prefix}{readable[:room]}-{digest}".replace("--", "-")


def key_of(transfer: Transfer) -> str:
    """`<transfer>/<file name>`, so that a browser saves a download under its name."""
    name = transfer.path.rpartition("/")[2].encode("utf-8", "replace").decode()
    return f"{transfer.transfer_id}/{name}" if len(name.encode()) < 900 else transfer.transfer_id
