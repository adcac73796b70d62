"""Whether the log of this home's admin key is what this home has signed."""

from __future__ import annotations

from meshd.errors import RegistryError
from meshd.registry.ledger import Ledger
from wgctl.admin.journal import Journal


def doubt_of_own_log(ledger: Ledger, kid: str, journal: Journal) -> str:
    """Why the log of ``kid`` is not exactly what ``journal`` says that this home signed, and the way out;
    empty when it is. RegistryError for a key that is no administrator's."""
    if not ledger.chain.current.is_admin(kid):
        raise RegistryError(f"admin key {kid[:8]} of this home is no admin of root {ledger.chain.version}")
    cut = f"wgctl admin cut {ledger.chain.root.keys[kid].name} --at {journal.hash[:12] or 0}"
    own = [entry for entry in ledger.entries() if entry.statement.by == kid]
    strange = [
        entry.statement.seq
        for entry in own
        if entry.statement.seq > journal.seq
        or (entry.statement.seq == journal.seq and entry.hash != journal.hash)
    ]
    log = ledger.reduction().logs[kid]
    if strange or log.forked_at is not None:
        return (
            f"the registry holds statement {log.forked_at or min(strange)} of this admin key, which this "
            f"home did not sign: the key was copied, and a root holder ends it: {cut}; or the home is an "
            "old backup: wgctl log --adopt; docs/wgctl.md, Copied key"
        )
    if journal.seq and (log.head is None or log.head.hash != journal.hash):
        return (
            f"this home signed statement {journal.seq}, but the log before it has a hole: "
            f"{log.missing or 'unknown'}; ask another store, or restore the home's backup; if neither has "
            f"it, a root holder ends the log: {cut}"
        )
    return ""
