"""A client for an S3 server with the calls that transfers need. It raises errors of the model."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any

import aiohttp
import msgspec
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError
from yarl import URL

from crestline.gateway.config import S3Config
from crestline.gateway.transfers.objects import StagedObject
from crestline.gateway.transfers.s3.session import BoundedSession
from crestline.model import CrestlineError, FileMissingError, GatewayUnavailableError, TransferError

_CONNECT, _READ = 3.0, 5.0
"""Seconds for a connection, and between two pieces of an answer."""
_COMPLETION = 600.0
"""Seconds for the store to combine the parts."""
_SILENCE = 1.0
"""Seconds for which a store that did not respond is not asked again."""
_BLOCK = 256 * 1024

_NO_PERMISSION = frozenset(
    {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"}
    | {"RequestTimeTooSkewed", "401", "403"}
)
_NOT_THERE = frozenset("404 NoSuchKey NoSuchUpload NoSuchBucket NotFound".split())
_OWN_ALREADY = frozenset("BucketAlreadyOwnedByYou BucketAlreadyExists".split())

_log = logging.getLogger("crestline.transfers")


class Head(msgspec.Struct, frozen=True):
    """Attributes of an object."""

    size: int
    """Size in bytes."""
    etag: str
    """Entity tag without quotes."""
    encrypted: bool
    """Whether the store encrypts the object, so that the ETag is not made of MD5 sums."""


class ObjectStore:
    """An S3 server with one access key.

    Methods raise `GatewayUnavailableError` if it does not respond, immediately if it did not respond just before,
    `FileMissingError` for missing objects, and `CrestlineError` if it refuses the gateway.
    """

    def __init__(self, config: S3Config, secret: str) -> None:
        self._config = config
        self._secret = secret
        self._life = AsyncExitStack()
        self._client: Any = None
        self._signer: Any = None
        self._http: aiohttp.ClientSession
        self._buckets: set[str] = set()
        self._silent_until = 0.0

    async def start(self) -> None:
        """Create the client, without a request to the server."""
        for name in ("botocore", "aiobotocore"):  # their debug messages contain signed URLs
            logging.getLogger(name).setLevel(logging.INFO)
        self._client = await self._new_client(self._config.endpoint)
        self._signer = await self._new_client(self._config.public_endpoint or self._config.endpoint)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=_COMPLETION)
        tls = ssl.create_default_context(cafile=self._config.ca_file)
        self._http = await self._life.enter_async_context(
            aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(ssl=tls))
        )

    async def stop(self) -> None:
        """Close all connections."""
        await self._life.aclose()

    async def ping(self) -> str:
        """Probe the store."""
        with self._typed():
            await self._client.list_buckets()
        return "Answers."

    async def ensure_bucket(self, bucket: str) -> None:
        """Create a bucket if it does not exist, with a rule by which the store deletes old objects."""
        if bucket in self._buckets:
            return
        place = {"LocationConstraint": self._config.region}
        options = {} if self._config.region == "us-east-1" else {"CreateBucketConfiguration": place}
        try:
            with self._typed(_OWN_ALREADY):
                await self._client.create_bucket(Bucket=bucket, **options)
        except FileExistsError:
            with self._typed():  # fails if the gateway may not even look at the bucket
                await self._client.head_bucket(Bucket=bucket)
        rule = {
            "ID": "crestline",
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "Expiration": {"Days": self._config.object_days},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": self._config.object_days},
        }
        try:
            with self._typed():
                await self._client.put_bucket_lifecycle_configuration(
                    Bucket=bucket, LifecycleConfiguration={"Rules": [rule]}
                )
        except GatewayUnavailableError:
            raise
        # the gateway removes objects too; the rule is for uploads that it never sees again
        except CrestlineError as error:
            _log.warning("bucket %s has no life cycle: %s", bucket, error)
        self._buckets.add(bucket)

    def forget_bucket(self, bucket: str) -> None:
        """Forget that a bucket exists, so that it is created again."""
        self._buckets.discard(bucket)

    async def begin(self, bucket: str, key: str) -> str:
        """Start a multipart upload and return its id."""
        with self._typed():
            return str((await self._client.create_multipart_upload(Bucket=bucket, Key=key))["UploadId"])

    async def part_url(self, staged: StagedObject, number: int, lifetime: int) -> str:
        """Return a URL that accepts part `number` by PUT."""
        return await self._sign(self._signer, "upload_part", staged, lifetime, PartNumber=number, **_upload(staged))

    async def completion_url(self, staged: StagedObject, lifetime: int) -> str:
        """Return a URL that combines the parts by POST."""
        return await self._sign(self._signer, "complete_multipart_upload", staged, lifetime, **_upload(staged))

    async def download_url(self, staged: StagedObject, lifetime: int) -> str:
        return await self._sign(self._signer, "get_object", staged, lifetime)

    async def head(self, staged: StagedObject) -> Head:
        """Return size and ETag of a complete object."""
        with self._typed():
            answer = await self._client.head_object(**_place(staged))
        encryption = str(answer.get("ServerSideEncryption", "AES256"))
        return Head(int(answer["ContentLength"]), str(answer["ETag"]).strip('"'), encryption != "AES256")

    async def read(self, staged: StagedObject, head: Head, offset: int, length: int) -> AsyncIterator[bytes]:
        if not length:
            return
        with self._typed():
            answer = await self._client.get_object(
                **_place(staged), Range=f"bytes={offset}-{offset + length - 1}", IfMatch=f'"{head.etag}"'
            )
        async with answer["Body"] as body:
            chunks = body.iter_chunks(_BLOCK)
            while True:
                with self._typed():
                    chunk = await anext(chunks, b"")
                if not chunk:
                    return
                length -= len(chunk)
                if length < 0:
                    raise self._no_answer("more bytes than were asked for")
                yield chunk

    async def put_part(self, staged: StagedObject, number: int, length: int, chunks: AsyncIterator[bytes]) -> str:
        """Store a part as it arrives, without a copy in memory, and return its ETag.

        Raises:
            TransferError: fewer bytes than `length` arrived.
        """
        if time.monotonic() < self._silent_until:
            raise self._silent()
        url = await self._sign(self._client, "upload_part", staged, 3600, PartNumber=number, **_upload(staged))
        feed = _Feed(chunks)
        headers = {"Content-Length": str(length)}
        failure: CrestlineError
        try:
            body = feed.read() if length else b""
            async with self._http.put(URL(url, encoded=True), data=body, headers=headers) as answer:
                if answer.status == 200 and "ETag" in answer.headers:
                    return str(answer.headers["ETag"])
                failure = self._refused(str(answer.status), answer.status)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            # Errors of aiohttp contain the URL, which is a secret. Therefore none of them becomes the cause of a
            # `CrestlineError`.
            if feed.error is None and feed.ended and feed.count < length:
                failure = TransferError("The file became shorter while it was read.", hint="Start the transfer again.")
            else:
                failure = self._no_answer(type(error).__name__)
        if feed.error is not None:  # the source failed, and the store only noticed that
            raise feed.error
        raise failure

    async def complete(self, staged: StagedObject, etags: list[str]) -> None:
        """Complete a multipart upload from its parts, whose ETags are given in order."""
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, start=1)]
        with self._typed():
            await self._client.complete_multipart_upload(
                **_place(staged), **_upload(staged), MultipartUpload={"Parts": parts}
            )

    async def drop(self, staged: StagedObject) -> None:
        """Remove an object or its parts, if any exist."""
        for call, options in (("abort_multipart_upload", _upload(staged)), ("delete_object", {})):
            try:
                with self._typed():
                    await getattr(self._client, call)(**_place(staged), **options)
            except FileMissingError:
                continue

    async def _new_client(self, endpoint: str) -> Any:
        settings = AioConfig(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            connect_timeout=_CONNECT,
            read_timeout=_READ,
            retries={"total_max_attempts": 1},
            max_pool_connections=50,
            http_session_cls=BoundedSession,
            # Newer checksums would be part of signed URLs, and clients of FirecREST do not send them.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        client = get_session().create_client(
            "s3",
            region_name=self._config.region,
            endpoint_url=endpoint,
            aws_access_key_id=self._config.access_key_id,
            aws_secret_access_key=self._secret,
            verify=self._config.ca_file,
            config=settings,
        )
        return await self._life.enter_async_context(client)

    async def _sign(self, client: Any, call: str, staged: StagedObject, lifetime: int, **more: Any) -> str:
        await asyncio.sleep(0)  # a large file has thousands of them
        return str(await client.generate_presigned_url(call, Params={**_place(staged), **more}, ExpiresIn=lifetime))

    @contextmanager
    def _typed(self, exists: frozenset[str] = frozenset()) -> Iterator[None]:
        """Translate errors of the library. `exists`: codes that become `FileExistsError`."""
        if time.monotonic() < self._silent_until:
            raise self._silent()
        try:
            yield
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))[:100]
            status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
            if code in exists:
                raise FileExistsError from None
            raise self._refused(code, status) from None
        except (BotoCoreError, aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._no_answer(type(error).__name__) from None

    def _refused(self, code: str, status: int) -> CrestlineError:
        if code in _NO_PERMISSION:
            return CrestlineError(
                f"The object store refuses the gateway's access key ({code}).",
                hint="Tell the operator: access_key_id and its secret under [systems.NAME.s3] must be a key that may"
                " make buckets and objects, and the clocks must agree.",
            )
        if code in _NOT_THERE:
            return FileMissingError("The object is not in the store.")
        if status >= 500 or status in (0, 408, 429):
            return self._no_answer(code or str(status))
        return CrestlineError(f"The object store refused a request ({code or status}).", hint="Tell the operator.")

    def _no_answer(self, what: str) -> GatewayUnavailableError:
        self._silent_until = time.monotonic() + _SILENCE
        return self._silent(what)

    def _silent(self, what: str = "") -> GatewayUnavailableError:
        return GatewayUnavailableError(
            "The object store does not answer.",
            hint="Try again in a moment.",
            details=(what,) * bool(what),
            retry_after=2,
        )


class _Feed:
    """Chunks being sent, and how reading them ended."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self.count = 0
        self.ended = False
        self.error: CrestlineError | None = None

    async def read(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._chunks:
                self.count += len(chunk)
                yield chunk
        except CrestlineError as error:
            self.error = error
            raise
        self.ended = True


def _place(staged: StagedObject) -> dict[str, str]:
    return {"Bucket": staged.bucket, "Key": staged.key}


def _upload(staged: StagedObject) -> dict[str, str]:
    return {"UploadId": staged.upload_id}
