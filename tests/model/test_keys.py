"""Secrets do not leak, and a key of one kind is not taken for another."""

from __future__ import annotations

import pickle

import pytest

from meshd.model.keys import PresharedKey, PrivateKey, PublicKey

# RFC 7748 section 6.1: the key pair of Bob.
BOB_PRIVATE = "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"
BOB_PUBLIC = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"


def test_the_public_key_is_that_of_rfc_7748() -> None:
    assert bytes(PrivateKey(bytes.fromhex(BOB_PRIVATE)).public()).hex() == BOB_PUBLIC


@pytest.mark.parametrize("kind", [PrivateKey, PresharedKey])
def test_a_secret_renders_nowhere(kind: type[PrivateKey] | type[PresharedKey]) -> None:
    secret = kind.generate()
    shown = f"{secret} {secret!r} {secret:>50} {[secret]} {vars(type(secret)).keys()}"
    assert secret.reveal_text() not in shown
    assert secret.reveal().hex() not in shown
    with pytest.raises(TypeError):
        pickle.dumps(secret)


def test_the_error_for_a_bad_secret_does_not_repeat_it() -> None:
    text = "bm90IHF1aXRlIGEga2V5LCBidXQgc2VjcmV0"
    with pytest.raises(ValueError, match="base64") as caught:
        PrivateKey.parse(text)
    assert text not in str(caught.value)


def test_kinds_of_keys_are_never_equal() -> None:
    raw = bytes(range(32))
    assert PrivateKey(raw) != PresharedKey(raw)
    assert PrivateKey(raw) == PrivateKey(raw)
    assert PublicKey(raw) == PublicKey(raw) and PublicKey(raw) != PublicKey(raw[::-1])


@pytest.mark.parametrize(
    "text",
    ["", "short", "A" * 44, "A" * 43, "A" * 42 + "B=", "!" * 43 + "=", "AAAA\n" + "A" * 39 + "=", "ä" * 44],
)
def test_text_that_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        PublicKey.parse(text)


def test_what_is_parsed_is_printed_again() -> None:
    key = PrivateKey.generate().public()
    assert PublicKey.parse(str(key)) == key
