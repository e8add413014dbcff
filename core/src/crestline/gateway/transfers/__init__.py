"""Large files and slow file operations, which FirecREST runs in jobs of the scheduler and the gateway runs itself.

`service` is the interface for the routes. `signed_urls` checks requests with a signature (`signing`) in place of a
token. `finalize` ends transfers, `records` stores them, `job_info` describes them as jobs, `parts` computes multipart
uploads, `operations` runs work in the background, and `unfinished` removes abandoned uploads of `PUT ops/content`.
`s3` moves files through an object store, and `objects` records what is stored there.
"""

from crestline.gateway.transfers.service import TransferService

__all__ = ["TransferService"]
