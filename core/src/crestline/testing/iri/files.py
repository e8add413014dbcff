"""File operations of the stand-in, on the files of this machine."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import stat
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any

LIMIT = 5 * 1024 * 1024


def run_operation(name: str, fields: dict[str, Any], upload: bytes) -> Any:
    """Execute an operation. Returns the `output` of the task's result.

    Raises:
        OSError: a system call failed.
        ValueError: invalid fields.
    """
    path = Path(fields["path"])
    target = fields.get("target_path")
    match name:
        case "ls":
            return _list(path, _flag(fields, "showHidden"), _flag(fields, "recursive"))
        case "stat":
            found = path.stat()
            return {each: int(getattr(found, f"st_{each}")) for each in STAT}
        case "file":
            return f"{path}: {describe(path)['type']}"
        case "chown":
            return describe(path)
        case "head":
            content = path.read_bytes()
            if "bytes" in fields:
                return _part(content[: int(fields["bytes"])], "bytes", 0)
            return _part(b"".join(content.splitlines(keepends=True)[: int(fields["lines"])]), "lines", 0)
        case "checksum":
            return {"algorithm": "SHA-256", "checksum": hashlib.sha256(path.read_bytes()).hexdigest()}
        case "download":
            content = path.read_bytes()
            if len(content) > LIMIT:
                raise ValueError("File exceeds the size limit")
            return base64.b64encode(content).decode()
        case "upload":
            path.write_bytes(upload)
            return "uploaded"
        case "view":
            size, offset = int(fields["size"]), int(fields.get("offset", 0))
            if not 1 <= size <= LIMIT:
                raise ValueError("Invalid size")
            content = path.read_bytes()[offset : offset + size]
            return _part(content, "bytes", offset)
        case "tail":
            skip = int(fields["lines"])
            lines = path.read_bytes().split(b"\n")
            return _part(b"\n".join(lines[skip:] if _flag(fields, "skipHeading") else lines[-skip:]), "lines", skip)
        case "mkdir":
            path.mkdir(parents=_flag(fields, "parent"), exist_ok=_flag(fields, "parent"))
            return describe(path)
        case "symlink":
            os.symlink(path, fields["link_path"])
            return describe(Path(fields["link_path"]))
        case "chmod":
            path.chmod(int(fields["mode"], 8))
            return describe(path)
        case "cp":
            assert target is not None
            if path.is_dir():
                shutil.copytree(path, target, symlinks=True)
            else:
                shutil.copy2(path, target)
            return describe(Path(target))
        case "mv":
            assert target is not None
            path.lstat()
            shutil.move(path, target)
            return describe(Path(target))
        case "rm":
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
            return "removed"
        case "compress":
            assert target is not None
            _compress(path, Path(target), fields.get("match_pattern"))
            return describe(Path(target))
        case "extract":
            assert target is not None
            with tarfile.open(path) as tar:
                tar.extractall(target, filter="tar")
            return describe(Path(target))
    raise ValueError(f"{name} is not implemented")


STAT = ("mode", "ino", "dev", "nlink", "uid", "gid", "size", "atime", "ctime", "mtime")


def describe(path: Path, name: str | None = None) -> dict[str, Any]:
    """Return the entry of a file in a listing. All its fields are strings."""
    found = path.lstat()
    kind = "directory" if stat.S_ISDIR(found.st_mode) else "link" if stat.S_ISLNK(found.st_mode) else "file"
    return {
        "name": name or path.name,
        "type": kind,
        "link_target": os.readlink(path) if kind == "link" else None,
        "user": str(found.st_uid),
        "group": str(found.st_gid),
        "permissions": stat.filemode(found.st_mode),
        "last_modified": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(found.st_mtime)),
        "size": str(found.st_size),
    }


def _list(path: Path, hidden: bool, recursive: bool) -> list[dict[str, Any]]:
    path.lstat()
    if not path.is_dir():
        return [describe(path, str(path))]
    found = path.rglob("*") if recursive else path.iterdir()
    names = sorted(str(each.relative_to(path)) for each in found)
    return [describe(path / name, name) for name in names if hidden or not name.startswith(".")]


def _compress(source: Path, archive: Path, pattern: str | None) -> None:
    with tarfile.open(archive, "w:gz") as tar:
        if pattern is None:
            tar.add(source, source.name)
            return
        find = ["find", f"./{source.name}", "-type", "f", "-regex", pattern, "-print0"]
        found = subprocess.run(find, cwd=source.parent, check=True, capture_output=True).stdout.decode()
        for path in found.split("\0")[:-1]:
            tar.add(source.parent / path, path)


def _part(content: bytes, kind: str, start: int) -> dict[str, Any]:
    text = content.decode(errors="replace")
    return {"content": text, "content_type": kind, "start_position": start, "end_position": start + len(content)}


def _flag(fields: dict[str, Any], name: str) -> bool:
    return str(fields.get(name, "")).lower() == "true"
