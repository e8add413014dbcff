"""The way to the cluster's slurmrestd."""

from __future__ import annotations

import base64
from pathlib import Path

from crestline.gateway.schedulers.slurm.options import RestOptions
from harness.cluster import Cluster


def rest_options(cluster: Cluster, folder: Path) -> RestOptions:
    """With a copy of slurmctld's key in `folder`."""
    key = folder / "jwt.key"
    key.touch(mode=0o600)
    key.write_bytes(base64.b64decode(cluster.check("root", ["base64", "/var/lib/slurm/jwt.key"])))
    return RestOptions(url=cluster.slurmrestd_url, jwt_key_file=key)
