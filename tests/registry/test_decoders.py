"""Whatever the bytes are: every decoder of outside bytes takes them or refuses them with its own error."""

from __future__ import annotations

import contextlib

import pytest
from decoders import DECODERS, Decoder
from hypothesis import given
from hypothesis import strategies as st
from trials import trials

TOKENS = (
    b"null",
    b"[]",
    b"{}",
    b'""',
    b"-1",
    b"1.5",
    b"9" * 20,
    b"\x00",
    b"\xff" * 4,
    b"\n",
    b"true",
    b"[" * 40,
)


@st.composite
def damaged(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """A real one with a few changes: random bytes alone never get past the first check."""
    body = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, max(len(body) - 1, 0)))
        piece = draw(st.binary(max_size=4) | st.sampled_from(TOKENS))
        body[at : at + draw(st.integers(0, 6))] = piece
    return bytes(body)


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda decoder: decoder.name)
@trials(60)
@given(data=st.data())
def test_a_decoder_raises_its_own_error_or_none(decoder: Decoder, data: st.DataObject) -> None:
    body = data.draw(st.binary(max_size=200) | damaged(decoder.seeds))
    with contextlib.suppress(*decoder.raises):
        decoder.decode(body)


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda decoder: decoder.name)
def test_the_seeds_are_real(decoder: Decoder) -> None:
    """A corpus that the decoder refuses would exercise nothing but the refusal."""
    taken = 0
    for seed in decoder.seeds:
        with contextlib.suppress(*decoder.raises):
            decoder.decode(seed)
            taken += 1
    assert taken * 2 >= len(decoder.seeds)
