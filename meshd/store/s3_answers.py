"""What an S3 server answers, parsed from XML without trusting it: sizes are the caller's to bound.

A document type declaration ends the parsing, so no entity is ever defined, let alone expanded.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Final
from urllib.parse import unquote
from xml.parsers import expat

import msgspec

from meshd.errors import StoreError
from meshd.store.base import ObjectInfo

_MAX_TEXT: Final = 4096
# What no XML document may hold, raw or as a reference: a server that ignores encoding-type writes it.
_NO_XML: Final = re.compile(
    rb"[\x00-\x08\x0b\x0c\x0e-\x1f]|\xef\xbf[\xbe\xbf]|"
    rb"&#(?:0*(?:[0-8]|1[124-9]|2\d|3[01])|x0*(?:[0-8bcef]|1[0-9a-f]));",
    re.IGNORECASE,
)
_ENTRY: Final = "Contents"


class ListingPage(msgspec.Struct, frozen=True, kw_only=True):
    """One page of ListObjectsV2; ``continuation_token`` None: the last page."""

    objects: tuple[ObjectInfo, ...]
    continuation_token: str | None


class _Collector:
    """Texts of the leaves: ``entries`` holds those inside Contents, ``fields`` the top level's."""

    def __init__(self) -> None:
        self.fields: dict[str, str] = {}
        self.entries: list[dict[str, str]] = []
        self._path: list[str] = []
        self._text: list[str] = []
        self._text_length = 0

    def start(self, name: str, _attributes: dict[str, str]) -> None:
        self._path.append(name.rpartition(":")[2])
        self._text, self._text_length = [], 0
        if self._path[1:] == [_ENTRY]:
            self.entries.append({})

    def characters(self, text: str) -> None:
        self._text_length += len(text)
        if self._text_length <= _MAX_TEXT:
            self._text.append(text)

    def end(self, _name: str) -> None:
        text = "".join(self._text)
        match self._path[1:]:
            case [field]:
                self.fields[field] = text
            case ["Contents", field]:
                self.entries[-1][field] = text
        self._path.pop()
        self._text, self._text_length = [], 0


def _collect(body: bytes) -> _Collector:
    """StoreError when it is no XML, also with what one bad name put into it taken out."""
    try:
        return _parse(body)
    except StoreError as error:
        with suppress(StoreError):
            return _parse(_NO_XML.sub(b"?", body))
        raise error from None


def _parse(body: bytes) -> _Collector:
    collector = _Collector()
    parser = expat.ParserCreate()

    def refuse_doctype(*_: object) -> None:
        raise ValueError("a document type declaration")

    parser.StartDoctypeDeclHandler = refuse_doctype
    parser.StartElementHandler = collector.start
    parser.CharacterDataHandler = collector.characters
    parser.EndElementHandler = collector.end
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise StoreError(f"an S3 answer of {len(body)} bytes is not the XML expected: {error}") from None
    return collector


def parse_listing(body: bytes) -> ListingPage:
    """ListObjectsV2's answer. StoreError when it is something else or incomplete."""
    collector = _collect(body)
    truncated = collector.fields.get("IsTruncated")
    if truncated not in ("true", "false"):
        raise StoreError(f"an S3 listing says IsTruncated {truncated!r}, true or false expected")
    token = collector.fields.get("NextContinuationToken") or None
    if truncated == "true" and token is None:
        raise StoreError("an S3 listing is truncated and has no continuation token")
    is_quoted = collector.fields.get("EncodingType") == "url"
    return ListingPage(
        objects=tuple(_parse_entry(entry, is_quoted=is_quoted) for entry in collector.entries),
        continuation_token=token if truncated == "true" else None,
    )


def _parse_entry(entry: dict[str, str], *, is_quoted: bool) -> ObjectInfo:
    size = entry.get("Size", "")
    sized = size.isascii() and size.isdigit() and len(size) < 16
    if "Key" not in entry or "ETag" not in entry or not sized:
        raise StoreError(f"an S3 listing has an entry with {sorted(entry)}, Key, ETag and Size expected")
    key = unquote(entry["Key"]) if is_quoted else entry["Key"]
    return ObjectInfo(key=key, etag=entry["ETag"].strip('"'), size_bytes=int(size))


def parse_error(body: bytes) -> tuple[str, str]:
    """The code and message of an S3 error document; empty texts when it is not one."""
    try:
        fields = _collect(body).fields
    except StoreError:
        return "", ""
    message = " ".join(fields.get("Message", "").split())
    return fields.get("Code", "")[:60], "".join(c for c in message if c.isprintable())[:200]
