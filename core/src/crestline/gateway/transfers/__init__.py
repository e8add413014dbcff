"""Large files and slow file operations: what FirecREST does in jobs of the scheduler, the gateway does itself.

`service` is the face for the routes, `signed_urls` what needs a signature (`signing`) and no token, `endings` how a
transfer ends, `records` what survives a restart, `reports` what is told of a transfer, `parts` the arithmetic of
multipart uploads, `operations` what runs in the background, `unfinished` what `PUT ops/content` may leave behind; `s3`
is the way by an object store, `objects` what the gateway has there.
"""

from crestline.gateway.transfers.service import TransferService

__all__ = ["TransferService"]
