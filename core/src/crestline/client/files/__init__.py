"""Moves files and directories between this machine and a system in the cheapest safe way that the gateway offers.

`upload` and `download` are the entry points. A `strategy`, which `choice` selects when a system is opened, moves the
files: `streams` for a Crestline gateway, `direct` for plain FirecREST. `..._file` and `..._tree` handle one file and
one directory, and `bundle` files of several directories. `links` resolves symbolic links, `archive` packs and unpacks,
`archive_job` records packing jobs, and `signed_urls` transfers through an object store.
"""

from crestline.client.backends.messages import BundleFilter
from crestline.client.files.bundle import BundleFile, download_bundle, upload_bundle
from crestline.client.files.download import download
from crestline.client.files.ignore import IgnoreRules
from crestline.client.files.links import MapLink, map_link
from crestline.client.files.report import Progress, TransferReport
from crestline.client.files.upload import upload

__all__ = [
    "BundleFile",
    "BundleFilter",
    "IgnoreRules",
    "MapLink",
    "Progress",
    "TransferReport",
    "download",
    "download_bundle",
    "map_link",
    "upload",
    "upload_bundle",
]
