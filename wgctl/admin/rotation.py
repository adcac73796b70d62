"""Asking hosts for new WireGuard keys: in as many statements as it takes, and never twice the same."""

from __future__ import annotations

from meshd.registry.ledger import Ledger
from meshd.registry.signer import MAX_ROTATE_HIDS
from wgctl.admin.session import AdminSession


def commit_rotation(session: AdminSession, hids: list[str], not_before: int, *, now: float) -> list[int]:
    """Sign and publish the request for new WireGuard keys, without hosts that were asked the very same.

    No ``hids``: to all hosts. The numbers of the statements, several for more hosts than fit one.
    """
    fresh = [hid for hid in hids if not is_asked(session.ledger, hid, not_before)]
    parts = [fresh[start : start + MAX_ROTATE_HIDS] for start in range(0, len(fresh), MAX_ROTATE_HIDS)]
    if not hids and not is_asked(session.ledger, "", not_before):
        parts = [[]]
    signer = session.signer() if parts else None
    return [session.commit(signer.rotate(part, not_before, now=now)) for part in parts if signer]


def is_asked(ledger: Ledger, hid: str, not_before: int) -> bool:
    """Whether a counted statement asks for the very same already. ``hid`` empty: of all hosts."""
    rotations = ledger.reduction().rotations
    return any(each.not_before == not_before for each in (*rotations.to_all, *rotations.by_hid.get(hid, ())))
