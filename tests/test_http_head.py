"""What is taken for the head of an HTTP message, and what is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trials import trials

from meshd.http_head import HeadError, read_head

MESSAGE = b"POST /v1 HTTP/1.1\r\nHost: a\r\nX-One:\t1 \r\nx-ONE: 2\r\nEmpty:\r\n\r\nthe body\r\n\r\nof it"
MAX_BYTES = 1000


def pieces_of(data: bytes, sizes: list[int]) -> list[bytes]:
    """``data`` as it may come, and then its end."""
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [piece for piece in (*pieces, data) if piece]


def read(pieces: list[bytes]) -> tuple[str, dict[str, str], bytes]:
    """The head, and all that came after it."""
    left = [*pieces]
    head, begun = read_head(lambda size: left.pop(0) if left else b"", MAX_BYTES)
    return head.line, head.fields, begun + b"".join(left)


@trials()
@given(st.lists(st.integers(1, 40), max_size=60))
def test_however_it_is_cut_into_pieces_a_message_is_the_same(sizes: list[int]) -> None:
    line, fields, body = read(pieces_of(MESSAGE, sizes))
    assert (line, body) == ("POST /v1 HTTP/1.1", b"the body\r\n\r\nof it")
    assert fields == {"host": "a", "x-one": "1,2", "empty": ""}


@trials()
@given(st.binary(max_size=1200), st.lists(st.integers(1, 400), max_size=5))
def test_whatever_comes_is_a_head_or_refused(data: bytes, sizes: list[int]) -> None:
    for more in (b"", b"\r\n\r\n"):
        try:
            line, fields, _ = read(pieces_of(data + more, sizes))
        except HeadError as error:
            assert error.status.startswith(("400 ", "431 "))
        else:
            assert len(line) + sum(map(len, (*fields, *fields.values()))) <= MAX_BYTES


@pytest.mark.parametrize(
    "field",
    [
        b"no colon",
        b"Space : a",
        b" Folded: a",
        b"\tfolded",
        b": no name",
        b"Two Words: a",
        b"N\xe4me: a",
        b"\0: a",
    ],
)
def test_a_line_that_two_readers_may_read_differently_is_refused(field: bytes) -> None:
    with pytest.raises(HeadError, match="no field"):
        read([b"GET / HTTP/1.1\r\nHost: a\r\n" + field + b"\r\n\r\n"])


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 101 + b"\r\n",
        b"GET /" + b"a" * MAX_BYTES,
        b"GET / HTTP/1.1\r\na: " + b"b" * MAX_BYTES + b"\r\n\r\n",
    ],
    ids=["fields", "line", "field"],
)
def test_a_head_that_is_too_large_is_refused(data: bytes) -> None:
    with pytest.raises(HeadError, match="over"):
        read([data])
