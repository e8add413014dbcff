"""Moves files and directories between this machine and a system, the cheapest safe way that the gateway has.

`upload` and `download` are what others call. How files move is a `strategy`, which `choice` makes when a system is
opened: `streams` for a Crestline gateway, `direct` for plain FirecREST. `..._file` and `..._tree` hold the ways of one
file and of a directory; `bundle` takes files of several directories together; `links` says where symbolic links lead;
`archive` packs and unpacks, `begun` and `unfinished` remember what jobs do meanwhile, `signed_urls` speaks to a store
beside the gateway.
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
