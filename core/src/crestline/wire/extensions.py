"""What a Crestline gateway adds beside FirecREST v2. Clients see it in a header and fall back where it is absent."""

from __future__ import annotations

from crestline.wire.codec import Message

VERSION_HEADER = "F7T-AppVersion"
"""FirecREST's version header. Ours is `2.6.0+crestline.<our version>`: it parses as the protocol we speak."""

FEATURES_HEADER = "Crestline-Features"
"""space-separated names of the additions below; on every answer"""

PARTIAL_HEADER = "Crestline-Partial"
"""on a job list that may lack jobs or hold some in state UNKNOWN; says why, for example that accounting is away"""

IDEMPOTENCY_HEADER = "Idempotency-Key"
"""on `POST jobs`: the same key with the same body answers the first job id, with another body 409"""

FEATURES = (
    "idempotency-key",  # the header above
    "job-ids",  # GET jobs?ids=1,2,3: exactly those jobs, whatever their age
    "content",  # GET (Range, ETag), PUT and HEAD ops/content: bytes of a file, atomic and resumable writes
    "tar",  # GET and PUT ops/tar: a directory as one stream; POST ops/tar: some of its files; POST ops/manifest: below
)

UPLOAD_ID_HEADER = "Upload-Id"
"""on `PUT` and `HEAD ops/content`: names one upload, so that its parts find each other"""

UPLOAD_OFFSET_HEADER = "Upload-Offset"
"""bytes of the upload that are stored; as in the IETF draft on resumable uploads"""

UPLOAD_COMPLETE_HEADER = "Upload-Complete"
"""`?1` on the part that ends the upload, `?0` before; as in the IETF draft on resumable uploads"""

CHECKSUM_HEADER = "Content-SHA256"
"""hexadecimal SHA-256 of the whole file; checked before an upload becomes visible"""


class ManifestRequest(Message):
    """`POST ops/manifest`: which of these files differ from what lies below `path`?"""

    path: str
    files: dict[str, str]
    """path below the directory -> hexadecimal SHA-256"""


class ManifestAnswer(Message):
    """The files of a `ManifestRequest` that are absent or differ."""

    changed: list[str]


class TarRequest(Message):
    """`POST ops/tar`: these files and links below `path` as one tar stream; all of them if `files` is absent."""

    path: str
    files: list[str] | None = None
