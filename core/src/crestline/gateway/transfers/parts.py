"""The parts of a multipart upload: their sizes, and the XML that S3's clients speak."""

from __future__ import annotations

from xml.etree import ElementTree
from xml.sax.saxutils import escape

from crestline.model import InvalidRequestError, TooLargeError

MIB = 1024 * 1024
_CONNECTIONS = 10  # pyfirecrest sends that many parts at a time
_MIN_PART = 16 * MIB
_MAX_PART = 64 * MIB
_MAX_PARTS = 10_000
_PIECE = 64 * 1024
_MAX_SIZE = 5 * 1024**4


def part_size(size: int) -> int:
    """Bytes per part: ten parts at least, once they are big enough to be worth a request; ten thousand at most.

    Raises:
        TooLargeError: the file is larger than S3's 5 TiB.
    """
    if size > _MAX_SIZE:
        raise TooLargeError(f"A file of {size} bytes is too large.", hint=f"At most {_MAX_SIZE} bytes.")
    wanted = max(_MIN_PART, min(_MAX_PART, -(-size // _CONNECTIONS)), -(-size // _MAX_PARTS))
    return -(-wanted // MIB) * MIB


def count(size: int, part: int) -> int:
    """How many parts a file has; an empty one has none."""
    return -(-size // part)


def extent(size: int, part: int, number: int) -> tuple[int, int]:
    """Offset and length of part `number`, the first being 1.

    Raises:
        InvalidPartError: the part does not exist.
    """
    offset = (number - 1) * part
    if number < 1 or offset >= size:
        raise InvalidPartError(f"The upload has no part {number}.")
    return offset, min(part, size - offset)


class InvalidPartError(InvalidRequestError):
    """S3's `InvalidPart`: a part is absent, or is not what was sent."""


class MalformedXMLError(InvalidRequestError):
    """S3's `MalformedXML`."""


class _WithoutDocumentType(ElementTree.TreeBuilder):
    """No document type, so no entities, in whatever encoding they might be written."""

    def doctype(self, *_: object) -> None:
        raise MalformedXMLError("The document must not have a document type.")


def read_completion(body: bytes) -> dict[int, str]:
    """The ETags by part number of a `CompleteMultipartUpload` document.

    Raises:
        MalformedXMLError: invalid document.
    """
    try:
        parser = ElementTree.XMLParser(target=_WithoutDocumentType())  # noqa: S314
        for start in range(0, len(body), _PIECE):  # between two pieces other threads have their turn
            parser.feed(body[start : start + _PIECE])
        root = parser.close()
        found = {
            int(_text(part, "PartNumber")): _text(part, "ETag").strip().strip('"')
            for part in root
            if _local(part.tag) == "Part"
        }
    except (ElementTree.ParseError, ValueError) as error:
        raise MalformedXMLError("The body is not a CompleteMultipartUpload document.") from error
    if _local(root.tag) != "CompleteMultipartUpload":
        raise MalformedXMLError("The body is not a CompleteMultipartUpload document.")
    return found


def completion_answer(location: str, etag: str) -> str:
    """The answer to a completion, as S3 words it."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<CompleteMultipartUploadResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Location>{escape(location)}</Location><ETag>{escape(etag)}</ETag></CompleteMultipartUploadResult>"
    )


def error_answer(code: str, message: str) -> str:
    """A refusal, as S3 words it."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{escape(code)}</Code><Message>{escape(message)}</Message></Error>"
    )


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _text(part: ElementTree.Element, name: str) -> str:
    for child in part:
        if _local(child.tag) == name and child.text:
            return child.text
    raise ValueError(name)
