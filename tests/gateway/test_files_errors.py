"""What the operating system refuses, as the caller gets to see it."""

from __future__ import annotations

import errno
import os

import pytest

from crestline.gateway.hosts.local.errors import refusal, worded
from crestline.model import CrestlineError, PermissionDeniedError


@pytest.mark.parametrize(
    ("number", "status", "text"),
    [
        (errno.ENOENT, 404, "No such file or directory"),
        (errno.EACCES, 403, "Permission denied"),
        (errno.EPERM, 403, "Operation not permitted"),
        (errno.EROFS, 403, "Read-only file system"),
        (errno.EEXIST, 400, "File exists"),
        (errno.ENOTDIR, 400, "Not a directory"),
        (errno.EISDIR, 400, "Is a directory"),
        (errno.ELOOP, 400, "Too many levels of symbolic links"),
        (errno.ENAMETOOLONG, 400, "File name too long"),
        (errno.EBUSY, 409, "busy"),
        (errno.ENOSPC, 413, "No space left on device"),
        (errno.EDQUOT, 413, "quota exceeded"),
        (errno.EIO, 500, "Input/output error"),
    ],
)
def test_classes_and_texts(number: int, status: int, text: str) -> None:
    error = refusal("ls", OSError(number, os.strerror(number), b"/some/\xff"))
    assert error.status == status
    place = "ls: '/some/\ufffd' " if status == 413 else "ls: cannot access '/some/\ufffd': "
    assert str(error).startswith(place)
    assert text in str(error)


def test_what_a_rename_says() -> None:
    with pytest.raises(CrestlineError, match="cannot access '/new': Directory not empty"), worded("mv"):
        raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), "/old", None, "/new")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may do everything")
def test_permissions_of_the_machine() -> None:
    with pytest.raises(PermissionDeniedError, match="Permission denied"), worded("ls"):
        os.listdir("/root")
