"""Messages of `/filesystem/{system}/ops`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from crestline.wire.codec import Message

Compression = Literal["none", "bzip2", "gzip", "xz"]
NonEmpty = Annotated[str, msgspec.Meta(min_length=1)]


class PathRequest(Message):
    """Base of bodies that name one path. FirecREST accepts `path`, `sourcePath` and `source_path` for it."""

    path: NonEmpty


class FileEntry(Message, gc=False):
    """An entry of a listing. `size` is a string of bytes, `last_modified` local time without a zone."""

    name: str
    type: str
    user: str
    group: str
    permissions: str
    last_modified: str
    size: str
    link_target: str | None = None


class FileEntriesAnswer(Message):
    """`GET ls`"""

    output: list[FileEntry] | None


class FileEntryAnswer(Message):
    """`POST mkdir`, `POST symlink`, `PUT chmod`, `PUT chown`"""

    output: FileEntry | None


class FileContent(Message):
    """A part of a file. Positions count `content_type`s, negative ones from the end."""

    content: str
    content_type: Literal["lines", "bytes"]
    start_position: int
    end_position: int


class FileContentAnswer(Message):
    """`GET head`, `GET tail`"""

    output: FileContent | None


class TextAnswer(Message):
    """`GET view`, `GET file`"""

    output: str | None


class Checksum(Message):
    """Digest of a file in hexadecimal."""

    checksum: str
    algorithm: str = "SHA256"


class ChecksumAnswer(Message):
    """`GET checksum`"""

    output: Checksum | None


class FileStat(Message):
    """The values of stat(2)."""

    mode: int
    ino: int
    dev: int
    nlink: int
    uid: int
    gid: int
    size: int
    atime: int
    ctime: int
    mtime: int


class FileStatAnswer(Message):
    """`GET stat`"""

    output: FileStat | None


class MakeDirectoryRequest(PathRequest):
    """`POST mkdir`"""

    parent: bool = False


class SymlinkRequest(PathRequest):
    """`POST symlink`: `link_path` will point to `path`."""

    link_path: NonEmpty


class ChmodRequest(PathRequest):
    """`PUT chmod`"""

    mode: NonEmpty


class ChownRequest(PathRequest):
    """`PUT chown`; empty or null values stay unchanged."""

    owner: str | None = ""
    group: str | None = ""


class CompressRequest(PathRequest):
    """`POST compress`; `match_pattern` is a regular expression of find(1)'s `-regex`."""

    target_path: NonEmpty
    match_pattern: str | None = None
    dereference: bool = False
    compression: Compression = "gzip"
    account: str | None = None


class ExtractRequest(PathRequest):
    """`POST extract`"""

    target_path: NonEmpty
    compression: Compression = "gzip"
    account: str | None = None


class CopyRequest(PathRequest):
    """`POST transfer/cp`"""

    target_path: NonEmpty
    dereference: bool = False
    account: str | None = None


class MoveRequest(PathRequest):
    """`POST transfer/mv`"""

    target_path: NonEmpty
    account: str | None = None


class UploadRequest(PathRequest):
    """`POST transfer/upload`: `path` is the full path of the file to write."""

    transfer_directives: dict[str, Any]
    account: str | None = None


class DownloadRequest(PathRequest):
    """`POST transfer/download`"""

    transfer_directives: dict[str, Any]
    account: str | None = None


class TransferLogs(Message):
    """Paths on the system."""

    output_log: str
    error_log: str


class TransferJob(Message):
    """The job that carries a transfer out. Its id can be queried under `/compute/{system}/jobs/{id}`."""

    job_id: str
    system: str
    working_directory: str
    logs: TransferLogs


class TransferAnswer(Message):
    """`mv`, `cp`, `rm`, `compress`, `extract` under `/filesystem/{system}/transfer`"""

    transfer_job: TransferJob


class S3Directives(Message, omit_defaults=True):
    """Signed URLs of a transfer by method `s3`; `max_part_size` in bytes."""

    transfer_method: str
    parts_upload_urls: list[str] | None = None
    complete_upload_url: str | None = None
    max_part_size: int | None = None
    download_url: str | None = None


class UploadAnswer(TransferAnswer):
    """201 of `POST transfer/upload` and `POST transfer/download`"""

    transfer_directives: S3Directives
