"""Uploads and downloads through an S3 server, as FirecREST's `s3` transfers.

`store` speaks S3, `buckets` defines names, and `staging` moves files between the object store and the system. The
package needs the extra `crestline[s3]`. A system without `s3` does not import it.
"""
