"""The byte forms: canonical payloads, envelopes, keys on paper and on screen."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import pickle

import fakemesh as fm
import pytest
from msgspec.structs import replace

from meshd.errors import RegistryError
from meshd.registry.canonical import decode, encode
from meshd.registry.envelope import (
    STATEMENT_TYPE,
    key_id,
    matches_fingerprint,
    pae,
    parse_envelope,
    render_envelope,
    verify_signature,
)
from meshd.registry.layout import (
    HostKeyName,
    LogKeyName,
    RootKeyName,
    host_key,
    log_key,
    parse_object_key,
    root_key,
    root_signature_key,
)
from meshd.registry.signing import SigningKey, parse_recovery_words, render_fingerprint, render_recovery_words


@pytest.mark.parametrize(
    "payload",
    [
        b'{"b":1,"a":2}',
        b'{"a":1,"a":1}',
        b'{"a":1} ',
        b' {"a":1}',
        b'{"a":1}{}',
        b'{"a": 1}',
        b'{"a":1.0}',
        b'{"a":1e3}',
        b'{"a":-1}',
        b'{"a":9007199254740992}',
        b'{"a":01}',
        b"1.5",
        b"[0.5]",
        b'{"a":[1,-2]}',
        b"NaN",
        b'{"a":"\\u0041"}',
        b'{"a":"\\/"}',
        b'{"a":"\\n"}',
        b'{"a":"\x7f"}',
        '{"é":1}'.encode(),
        '{"a":"\u202e"}'.encode(),
        b'{"a":"\xff"}',
        b"",
        b"nul",
        b"\xff",
        b"\xef\xbb\xbf{}",
        b"[" * 18 + b"1" + b"]" * 18,
    ],
)
def test_other_spellings_are_refused(payload: bytes) -> None:
    with pytest.raises(RegistryError):
        decode(payload)


@pytest.mark.parametrize(
    "value", [1.0, -1, 2**53, "a\nb", {"é": 1}, {1: 2}, "\ud800", {"a": {"b": float("nan")}}]
)
def test_values_without_canonical_form_are_not_signed(value: object) -> None:
    with pytest.raises(RegistryError):
        encode(value)


def test_canonical_bytes_are_those_of_rfc_8785() -> None:
    value = {"b": [1, True, None, 'é "q" \\'], "a": {"z": 0, "A": 9007199254740991}, "aa": ""}
    expected = '{"a":{"A":9007199254740991,"z":0},"aa":"","b":[1,true,null,"é \\"q\\" \\\\"]}'.encode()
    assert encode(value) == expected
    assert decode(expected) == value


def test_pre_authentication_encoding_is_that_of_dsse() -> None:
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_an_envelope_has_one_spelling() -> None:
    envelope = fm.key("a").sign(b"{}", STATEMENT_TYPE)
    body = render_envelope(envelope)
    assert parse_envelope(body) == envelope
    fields = json.loads(body)
    signature = fields["signatures"][0]
    unpadded = {**fields, "payload": fields["payload"].rstrip("=")}
    for other in (
        json.dumps(fields).encode(),
        body + b"\n",
        json.dumps({**fields, "more": 1}, separators=(",", ":")).encode(),
        json.dumps({**fields, "signatures": []}, separators=(",", ":")).encode(),
        json.dumps({**fields, "signatures": [signature, signature]}, separators=(",", ":")).encode(),
        json.dumps(unpadded, separators=(",", ":")).encode(),
    ):
        with pytest.raises(RegistryError):
            parse_envelope(other)


def test_signature_counts_for_its_key_type_and_payload_alone() -> None:
    envelope = fm.key("a").sign(b"{}", STATEMENT_TYPE)
    assert verify_signature(envelope, fm.key("a").public)
    assert not verify_signature(envelope, fm.key("b").public)
    assert not verify_signature(replace(envelope, payload=b"[]"), fm.key("a").public)
    assert not verify_signature(replace(envelope, payload_type="x"), fm.key("a").public)


def test_key_id_is_the_start_of_the_keys_hash() -> None:
    public = fm.key("a").public
    assert fm.key("a").kid == key_id(public) == hashlib.sha256(public).hexdigest()[:32]


def test_signing_key_never_renders() -> None:
    key = fm.key("a")
    secret = key.seed()
    forms = [secret.hex(), base64.b64encode(secret).decode(), repr(secret)[2:-1]]
    for text in (str(key), repr(key), f"{key}", f"{key:>20}", repr([key])):
        assert not any(form in text for form in forms)
    with pytest.raises(TypeError):
        pickle.dumps(key)
    with pytest.raises(TypeError):
        copy.copy(key)
    with pytest.raises(TypeError):
        hash(key)


def test_recovery_words_survive_handwriting_and_find_a_slip() -> None:
    key = SigningKey.generate()
    words = render_recovery_words(key)
    assert parse_recovery_words(words.lower().replace(" ", "-\n")) == key
    slips = 0
    for index, letter in enumerate(words):
        if letter == " ":
            continue
        other = "A" if letter != "A" else "B"
        with pytest.raises(RegistryError, match="recovery key"):
            parse_recovery_words(words[:index] + other + words[index + 1 :])
        slips += 1
    assert slips == 56
    with pytest.raises(RegistryError, match="checksum"):
        parse_recovery_words(words[:-10])


def test_fingerprint_as_read_aloud() -> None:
    digest = hashlib.sha256(b"root").hexdigest()
    shown = render_fingerprint(digest)
    assert len(shown.replace("-", "")) * 4 >= 80
    assert matches_fingerprint(shown, digest) and matches_fingerprint(shown.upper().replace("-", " "), digest)
    assert matches_fingerprint(digest, digest)
    assert not matches_fingerprint(digest[:19], digest)
    assert not matches_fingerprint("f" + shown[1:] if shown[0] != "f" else "0" + shown[1:], digest)
    assert not matches_fingerprint(digest + "00", digest)


def test_object_keys_sort_as_logs_grow() -> None:
    keys = [log_key("a" * 32, seq, "0" * 64) for seq in (1, 2, 10, 999_999_999)]
    assert keys == sorted(keys)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "log",
        "host/" + "A" * 32 + ".json",
        "host/" + "a" * 31 + ".json",
        "host/" + "a" * 32 + ".json.tmp",
        "log/" + "a" * 32 + "/1-" + "b" * 64 + ".json",
        "root/1-" + "a" * 64 + ".json",
        "../host/x.json",
        "log/" + "a" * 32 + "/000000000١-" + "b" * 64 + ".json",
        "host/" + "a" * 32 + ".json\n",
    ],
)
def test_strange_object_keys_are_refused(key: str) -> None:
    with pytest.raises(RegistryError):
        parse_object_key(key)


def test_object_keys_are_read_as_they_are_written() -> None:
    digest, kid = "b" * 64, "a" * 32
    made = [host_key(kid), log_key(kid, 7, digest), root_key(3, digest), root_signature_key(3, digest, kid)]
    parsed = [parse_object_key(key) for key in made]
    assert parsed == [
        HostKeyName(hid=kid),
        LogKeyName(kid=kid, seq=7, hash=digest),
        RootKeyName(version=3, hash=digest),
        RootKeyName(version=3, hash=digest, kid=kid),
    ]


@pytest.mark.slow
def test_no_text_holds_what_nobody_sees() -> None:
    """The list is written out, so it is compared with what this Python's Unicode calls invisible."""
    import unicodedata

    invisible = {"Cc", "Cf", "Co", "Cs", "Zl", "Zp", "Zs"}
    for code in range(0x110000):
        char = chr(code)
        if char != " " and unicodedata.category(char) in invisible:
            with pytest.raises(RegistryError):
                encode(char)
    for text in ("Grüße, 世界", "naïve café", "שלום", "مرحبا", "हिन्दी", "Ελλάδα", "한국어", "\U0001f600"):
        assert decode(encode(text)) == text
