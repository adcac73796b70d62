"""Fingerprints that a person compares before a program trusts, signs or publishes what was handed over.

A request, a bundle or a registry comes by whatever way people send files. Its signatures prove that
it is whole, not whose it is: that is known only to whoever saw the fingerprint where it was made.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from meshd.errors import ConfigError, RegistryError
from meshd.registry.envelope import fingerprint_fault, matches_fingerprint
from meshd.registry.signing import render_fingerprint
from meshd.terminal import confirm, echo
from meshd.text_files import somebody_answers

if TYPE_CHECKING:
    from meshd.registry.ledger import Ledger


def require_compared(
    what: str, hash_hex: str, typed: Iterable[str], *, shown_by: str, source: str = ""
) -> None:
    """Go on only when the fingerprint of ``hash_hex`` was typed, or somebody says that it is the same.

    ``shown_by``: the command that shows it where it was made. ``source`` ``-``: standard input holds the
    file, so the terminal of the session is asked. RegistryError when another one was typed, ConfigError where
    nobody can be asked; both before anything has changed.
    """
    shown, given = render_fingerprint(hash_hex), tuple(typed)
    if any(matches_fingerprint(text, hash_hex) for text in given):
        return
    if given:
        if fault := fingerprint_fault(given[0]):
            raise RegistryError(f"{what}: fingerprint {given[0][:80]!r}: {fault}; nothing was done")
        raise RegistryError(
            f"{what}: fingerprint {shown} seen, {given[0][:80]!r} expected: another one, or somebody changed "
            "it on its way; nothing was done"
        )
    if not somebody_answers(source):
        raise ConfigError(
            f"{what}: its fingerprint is {shown}; compare it with the one that {shown_by} shows where it was "
            f"made, then: --fingerprint {shown}"
        )
    echo(f"{what}: fingerprint {shown}", err=True)
    confirm(f"Does {shown_by} show the same where it was made?", source=source)


def find_replaced_root(ledger: Ledger, typed: str | None) -> str:
    """What to look at when the fingerprint that was typed is of a root that was replaced; empty: nothing.

    Each later root is signed by the keys of the one before, but who holds a key that was taken out since
    can have signed another one after the old root.
    """
    if typed is None or matches_fingerprint(typed, ledger.chain.fingerprint):
        return ""
    version = next(
        (each.root.version for each in ledger.chain.roots if matches_fingerprint(typed, each.hash)), 0
    )
    return (
        f"the fingerprint that was typed is of root {version}, which was replaced since; root "
        f"{ledger.chain.version} is {render_fingerprint(ledger.chain.fingerprint)}: compare that one as well "
        "(wgctl root list), as a root key that was taken out could have signed another"
    )
