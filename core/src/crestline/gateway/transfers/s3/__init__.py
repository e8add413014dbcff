"""Uploads and downloads by way of an S3 server, where a site has one: FirecREST's `s3` as it is there.

`store` speaks S3, `buckets` names what is kept where, `staging` moves files between the object store and the system. It
needs the extra `crestline[s3]`; nothing of it is imported for a system without `s3`.
"""
