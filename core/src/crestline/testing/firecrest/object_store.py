"""The S3 service of the site: presigned URLs, multipart upload, ranged download. Objects are files below `s3/`.

Protocol source: the S3 REST API as far as presigned clients use it (UploadPart, CompleteMultipartUpload, GetObject).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote, unquote
from xml.etree import ElementTree

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from crestline.testing.firecrest.settings import Settings

_TTL = 3600
_BLOCK = 1 << 20


class ObjectStore:
    """An object store. Presigned URLs begin with `base_url`, which is set when the port is open."""

    def __init__(self, settings: Settings) -> None:
        self._root = settings.root / "s3"
        self._secret = secrets.token_bytes(16)
        self._uploads: dict[str, dict[int, str]] = {}
        self._lock = threading.Lock()
        self.base_url = ""

    # Called by transfers.

    def new_key(self, owner: str, name: str) -> str:
        """Return a unique key for a file called `name`."""
        key = f"{owner}/{secrets.token_hex(16)}/{name}"
        self.path(key).parent.mkdir(parents=True)
        return key

    def path(self, key: str) -> Path:
        """Return the path of a finished object."""
        return self._root / key

    def upload_urls(self, key: str, parts: int) -> tuple[list[str], str]:
        """Return a URL to PUT each part to, and one to POST the list of parts to."""
        upload = secrets.token_hex(16)
        with self._lock:
            self._uploads[upload] = {}
        urls = [self._signed("PUT", key, uploadId=upload, partNumber=str(n + 1)) for n in range(parts)]
        return urls, self._signed("POST", key, uploadId=upload)

    def download_url(self, key: str) -> str:
        """Return a URL to GET the object from, once it exists."""
        return self._signed("GET", key)

    # Called by clients.

    def routes(self) -> list[Route]:
        """Return the routes of presigned URLs."""
        return [
            Route("/s3/{key:path}", self._put_part, methods=["PUT"]),
            Route("/s3/{key:path}", self._complete, methods=["POST"]),
            Route("/s3/{key:path}", self._get, methods=["GET"]),
        ]

    async def _put_part(self, request: Request) -> Response:
        if (refusal := self._refusal("PUT", request)) is not None:
            return refusal
        upload, part = request.query_params["uploadId"], int(request.query_params["partNumber"])
        digest = hashlib.md5(usedforsecurity=False)
        with self._part(upload, part).open("wb") as file:
            async for block in request.stream():
                digest.update(block)
                file.write(block)
        etag = f'"{digest.hexdigest()}"'
        with self._lock:
            if upload not in self._uploads:
                return _error(404, "NoSuchUpload")
            self._uploads[upload][part] = etag
        return Response(headers={"ETag": etag})

    async def _complete(self, request: Request) -> Response:
        if (refusal := self._refusal("POST", request)) is not None:
            return refusal
        key, upload = request.path_params["key"], request.query_params["uploadId"]
        try:
            asked = _parts_of(await request.body())
        except (ElementTree.ParseError, ValueError):
            return _error(400, "MalformedXML")
        with self._lock:
            known = self._uploads.get(upload)
            if known is None:
                return _error(404, "NoSuchUpload")
            if not asked or any(known.get(part, "").strip('"') != etag.strip('"') for part, etag in asked):
                return _error(400, "InvalidPart")
            if [part for part, _ in asked] != sorted({part for part, _ in asked}):
                return _error(400, "InvalidPartOrder")
            del self._uploads[upload]
        whole = self._part(upload, 0)
        with whole.open("wb") as target:
            for part, _ in asked:
                target.write(self._part(upload, part).read_bytes())
        whole.replace(self.path(key))
        digests = b"".join(bytes.fromhex(etag.strip('"')) for _, etag in asked)
        etag = f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(asked)}"
        xml = f"<CompleteMultipartUploadResult><ETag>&quot;{etag}&quot;</ETag></CompleteMultipartUploadResult>"
        return Response(xml, media_type="application/xml")

    async def _get(self, request: Request) -> Response:
        if (refusal := self._refusal(request.method, request)) is not None:
            return refusal
        path = self.path(request.path_params["key"])
        if not path.is_file():
            return _error(404, "NoSuchKey")
        size, status = path.stat().st_size, 200
        first, last = 0, size - 1
        headers = {"Accept-Ranges": "bytes", "ETag": f'"{path.stat().st_mtime_ns:x}-{size:x}"'}
        if match := re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", "")):
            first, last, status = int(match[1]), min(int(match[2] or last), last), 206
            if first > last:
                return _error(416, "InvalidRange")
            headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        headers["Content-Length"] = str(last - first + 1)
        if request.method == "HEAD":
            return Response(headers=headers)
        return StreamingResponse(_blocks(path, first, last + 1), status, headers, "binary/octet-stream")

    def _part(self, upload: str, part: int) -> Path:
        return self._root / f"{upload}.{part}"

    def _signed(self, method: str, key: str, **query: str) -> str:
        expires = str(int(time.time()) + _TTL)
        fields = query | {"X-Amz-Algorithm": "AWS4-HMAC-SHA256", "X-Amz-Expires": expires}
        text = "&".join(f"{name}={quote(value, safe='')}" for name, value in fields.items())
        return f"{self.base_url}/s3/{quote(key)}?{text}&X-Amz-Signature={self._signature(method, key, text)}"

    def _refusal(self, method: str, request: Request) -> Response | None:
        text, _, signature = request.url.query.rpartition("&X-Amz-Signature=")
        expected = self._signature("GET" if method == "HEAD" else method, request.path_params["key"], text)
        if not hmac.compare_digest(signature, expected):
            return _error(403, "SignatureDoesNotMatch")
        if int(unquote(request.query_params["X-Amz-Expires"])) < time.time():
            return _error(403, "AccessDenied")
        return None

    def _signature(self, method: str, key: str, text: str) -> str:
        return hmac.new(self._secret, f"{method}\n{key}\n{text}".encode(), hashlib.sha256).hexdigest()


async def _blocks(path: Path, first: int, end: int) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        file.seek(first)
        while first < end and (block := file.read(min(_BLOCK, end - first))):
            first += len(block)
            yield block


def _parts_of(xml: bytes) -> list[tuple[int, str]]:
    found = []
    for part in ElementTree.fromstring(xml):
        fields = {child.tag.rpartition("}")[2]: child.text or "" for child in part}
        found.append((int(fields.get("PartNumber", "")), fields.get("ETag", "")))
    return found


def _error(status: int, code: str) -> Response:
    return Response(f"<Error><Code>{code}</Code></Error>", status, media_type="application/xml")
