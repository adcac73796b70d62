"""When a host is asked for a new key, and that it is asked once."""

from __future__ import annotations

import fakemesh as fm
import pytest
from msgspec.structs import replace

from meshd.mesh.progress import find_key_request
from meshd.model.host import Host
from meshd.registry.ledger import Ledger
from meshd.registry.signer import LogSigner

ADMIN = fm.key("admin0")
NOW = int(fm.NOW)
YEAR = 365 * 86400


@pytest.fixture
def asked() -> Host:
    """A host that was asked a minute ago."""
    ledger = Ledger(fm.make_chain(1))
    fm.grant(ledger, ADMIN, "tesla")
    LogSigner(ledger, ADMIN).rotate([], NOW - 60, now=fm.NOW)
    (host,) = ledger.membership(fm.NOW).hosts.values()
    return host


def is_due(host: Host, *, created_at: float, obeyed: str = "", now: float = fm.NOW) -> bool:
    request = find_key_request(
        host, [host], key_created_at=created_at, obeyed=obeyed, lifetime_seconds=0.0, share=0.0, now=now
    )
    return request is not None


def test_a_key_from_before_the_request_is_replaced_once(asked: Host) -> None:
    assert asked.rotation is not None
    assert is_due(asked, created_at=NOW - 61)
    assert not is_due(asked, created_at=NOW - 60) and not is_due(asked, created_at=NOW)
    assert not is_due(asked, created_at=NOW - 61, obeyed=asked.rotation.statement)
    assert not is_due(replace(asked, rotation=None, rotate_not_before=0), created_at=0.0)


def test_a_key_that_was_made_while_the_clock_was_ahead_is_not_young(asked: Host) -> None:
    assert asked.rotation is not None
    assert is_due(asked, created_at=NOW + YEAR, obeyed="an earlier request")
    assert not is_due(asked, created_at=NOW + YEAR, obeyed=asked.rotation.statement), "no loop"


def is_scheduled(
    host: Host, *, created_at: float, now: float, lifetime_seconds: float = 30 * 86400.0
) -> bool:
    request = find_key_request(
        host,
        [host],
        key_created_at=created_at,
        obeyed="",
        lifetime_seconds=lifetime_seconds,
        share=0.0,
        now=now,
    )
    return request is not None


def test_a_clock_that_was_ahead_for_a_minute_does_not_end_the_schedule(asked: Host) -> None:
    """The key that was made then bears its time; the grant of this host says how old it can be at most."""
    host, ahead = replace(asked, rotation=None, rotate_not_before=0), NOW + 70 * YEAR
    granted_at = host.provenance.signed_at
    assert not is_scheduled(host, created_at=ahead, now=granted_at + 29 * 86400)
    assert is_scheduled(host, created_at=ahead, now=granted_at + 31 * 86400)
    assert not is_scheduled(host, created_at=NOW, now=0.0), "a clock that was not set yet rotates nothing"
