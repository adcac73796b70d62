"""Roots by what an operator types for them: a version, or the first digits of a hash."""

from __future__ import annotations

from typing import Final

from meshd.errors import RegistryError
from meshd.registry.document import TrustedRoot
from meshd.registry.ledger import Ledger
from meshd.registry.root_case import Proposal

MIN_HASH_DIGITS: Final = 4


def find_root(ledger: Ledger, which: str) -> TrustedRoot:
    """A root in force or proposed; the newest in force for an empty text. RegistryError for none."""
    roots = ledger.chain.roots
    if not which:
        return roots[-1]
    for root in roots:
        if which == str(root.root.version) or (
            len(which) >= MIN_HASH_DIGITS and root.hash.startswith(which.lower().replace("-", ""))
        ):
            return root
    return find_proposal(ledger, which).root


def find_proposal(ledger: Ledger, which: str) -> Proposal:
    """A root that waits for signatures. RegistryError for none, and where several fit."""
    proposals = ledger.proposals()
    found = [each for each in proposals if which == str(each.root.root.version)]
    digits = which.lower().replace("-", "")
    if not found and len(digits) >= MIN_HASH_DIGITS:
        found = [each for each in proposals if each.root.hash.startswith(digits)]
    if len(found) == 1:
        return found[0]
    if found:
        hashes = ", ".join(each.root.hash[:12] for each in found)
        raise RegistryError(f"root {which}: several are proposed ({hashes}); name one by its hash")
    waiting = ", ".join(f"{each.root.root.version} ({each.root.hash[:12]})" for each in proposals) or "none"
    raise RegistryError(
        f"root {which[:80]!r}: neither in force (up to {ledger.chain.version}) nor proposed ({waiting})"
    )
