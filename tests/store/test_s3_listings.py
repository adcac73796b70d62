"""Listings of an S3 store that lies: endless, crooked, with names that no writer makes, or bombs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_s3 import ScriptedServer, answer, listing, open_scripted

from meshd.errors import StoreError, UnfinishedListingError
from meshd.store.s3 import S3Store
from meshd.store.s3_answers import parse_error, parse_listing


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.stopping.set()
        running.shutdown()
        thread.join()


@pytest.fixture
def store(server: ScriptedServer) -> Iterator[S3Store]:
    opened = open_scripted(server)
    yield opened
    opened.close()


def test_pages_without_end_are_cut_off(server: ScriptedServer, store: S3Store) -> None:
    numbers = count()
    server.script = lambda connection, head: connection.sendall(listing(f"h/{next(numbers):06}", token="t"))
    with pytest.raises(UnfinishedListingError, match="more than 100 pages") as cut:
        list(store.list("h/"))
    assert cut.value.after == "h/000099"


@pytest.mark.parametrize(
    ("pages", "said"),
    [
        ([listing("h/a", token="t"), listing("h/a", token="t")], "'h/a' seen after 'h/a'"),
        ([listing("h/b", "h/a")], "'h/a' seen after 'h/b'"),
        ([listing(token="t")], "without objects promises more"),
        ([listing("other")], "'other' seen"),
        ([answer("200 OK", b"<html>")], "not the XML expected"),
        ([answer("200 OK", b"<ListBucketResult/>")], "IsTruncated None"),
        ([answer("200 OK", b"<L><IsTruncated>true</IsTruncated></L>")], "no continuation token"),
        (
            [answer("200 OK", b"<L><IsTruncated>false</IsTruncated><Contents><Key>h/a</Key></Contents></L>")],
            r"\['Key'\]",
        ),
    ],
)
def test_a_lying_listing_is_refused(
    server: ScriptedServer, store: S3Store, pages: list[bytes], said: str
) -> None:
    server.script = lambda connection, head: connection.sendall(pages[len(server.requests) - 1])
    with pytest.raises(StoreError, match=said):
        list(store.list("h/"))


def test_keys_that_no_writer_of_ours_makes_are_passed_over(server: ScriptedServer, store: S3Store) -> None:
    server.script = lambda connection, head: connection.sendall(listing("h/ a", "h/../../etc", "h/a"))
    assert [info.key for info in store.list("h/")] == ["h/a"]


def test_pages_of_names_that_are_no_keys_are_gone_through(server: ScriptedServer, store: S3Store) -> None:
    """1,000 of them stand before the first real one: nothing is wrong with the store."""
    junk = [listing(*(f"h/ {page}{number:03}" for number in range(500)), token=f"t{page}") for page in "01"]
    pages = [*junk, listing("h/a")]
    server.script = lambda connection, head: connection.sendall(pages[len(server.requests) - 1])
    assert [info.key for info in store.list("h/")] == ["h/a"]


@pytest.mark.parametrize("name", ["h/\x01\x1b[2J", "h/&#1;", "h/&#x1F;", "h/\ufffe", "h/\x0b\x00"])
def test_a_name_that_no_xml_can_hold_hides_no_other(
    server: ScriptedServer, store: S3Store, name: str
) -> None:
    """As Garage writes it where encoding-type is not asked for."""
    server.script = lambda connection, head: connection.sendall(listing(name, "h/a"))
    assert [info.key for info in store.list("h/")] == ["h/a"]


def test_names_are_asked_for_in_an_encoding_that_holds_all_of_them(
    server: ScriptedServer, store: S3Store
) -> None:
    body = listing("h/%01x", "h/%2E%2E/a", "h/a%2Bb")
    body = body.replace(b"<IsTruncated>", b"<EncodingType>url</EncodingType><IsTruncated>")
    body = body.replace(
        b"Content-Length: %d"
        % len(body.partition(b"\r\n\r\n")[2].replace(b"<EncodingType>url</EncodingType>", b"")),
        b"Content-Length: %d" % len(body.partition(b"\r\n\r\n")[2]),
    )
    server.script = lambda connection, head: connection.sendall(body)
    assert [info.key for info in store.list("h/")] == ["h/a+b"]
    assert b"encoding-type=url" in server.requests[0]


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    + "]><l><IsTruncated>false</IsTruncated><Name>&i;</Name></l>"
)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_are_never_expanded(encoding: str) -> None:
    with pytest.raises(StoreError, match="document type"):
        parse_listing(BOMB.encode(encoding))
    assert parse_error(BOMB.encode(encoding)) == ("", "")


@given(st.one_of(st.binary(max_size=300), st.text("<>/&;abKeyContentsIsTruncated\"'! ", max_size=200)))
def test_any_bytes_are_a_listing_or_a_store_error(body: bytes | str) -> None:
    raw = body if isinstance(body, bytes) else body.encode()
    parse_error(raw)
    try:
        parse_listing(raw)
    except StoreError:
        return
