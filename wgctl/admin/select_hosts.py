"""Which hosts an operator means by the names that were typed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from meshd.errors import ConfigError
from meshd.model.host import CLIENT_ROLE
from meshd.registry.statement import Grant
from wgctl.admin.session import find_hids

if TYPE_CHECKING:
    from meshd.registry.ledger import Ledger


def choose_granted(ledger: Ledger, texts: Iterable[str]) -> list[str]:
    """The hid of each name or beginning of a hid, each host once. ConfigError unless each one means
    exactly one host that is granted and not revoked, and is no client."""
    effective = ledger.reduction().effective
    chosen = list(dict.fromkeys(_choose(ledger, text, set(effective)) for text in texts))
    for hid in chosen:
        if CLIENT_ROLE in effective[hid].grant.roles:
            raise ConfigError(
                f"{effective[hid].grant.name} is a client: no meshd runs there that could do it"
            )
    return chosen


def choose_revocable(ledger: Ledger, text: str) -> str:
    """As ``choose_granted``, of one host; so is one whose grant still waits for somebody's signature."""
    return _choose(ledger, text, revocable_hids(ledger))


def find_grantee(ledger: Ledger, name: str) -> str:
    """The hid of the host of that very name, also while its first grant waits for somebody's signature.

    ConfigError for one that nobody granted yet: that takes its request.
    """
    reduction = ledger.reduction()
    grants = [found.grant for found in reduction.effective.values()]
    grants += [found.grant for found in reduction.unendorsed]
    hids = {grant.hid for grant in grants if grant.name == name}
    if len(hids) > 1:
        raise ConfigError(several_hosts(name, sorted(hids)))
    if not hids:
        raise ConfigError(
            f"{unknown_host(ledger, name)}; a new one needs --request FILE or --ssh [USER@]HOST"
        )
    return hids.pop()


def revocable_hids(ledger: Ledger) -> set[str]:
    """Every host that a grant names, in force or not, and that is not revoked."""
    named = {entry.body.hid for entry in ledger.entries() if isinstance(entry.body, Grant)}
    return named - ledger.reduction().revoked.keys()


def unknown_host(ledger: Ledger, text: str) -> str:
    """Says so, with names that are nearly that, among hosts that are granted."""
    names = [found.grant.name for found in ledger.reduction().effective.values()]
    import difflib  # who has mistyped something

    near = difflib.get_close_matches(text, names, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else "see: wgctl list"
    return f"host {text!r} is not in the registry; {hint}"


def several_hosts(text: str, hids: Iterable[str]) -> str:
    return f"host {text!r}: {', '.join(hids)} are meant by it; name one of these"


def _choose(ledger: Ledger, text: str, among: set[str]) -> str:
    reduction, hids = ledger.reduction(), find_hids(ledger, text)
    living = sorted(hids & among)
    if len(living) > 1:
        raise ConfigError(several_hosts(text, living))
    if living:
        return living[0]
    gone = sorted(hids & reduction.revoked.keys())
    if gone:
        raise ConfigError(f"host {text!r} was revoked for good by {reduction.revoked[gone[0]].provenance}")
    raise ConfigError(unknown_host(ledger, text))
