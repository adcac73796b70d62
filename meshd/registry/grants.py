"""Who may grant what: the authority of those who signed a grant, and what became of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from meshd.registry.document import Tenure, TrustedRoot
from meshd.registry.order import StatementOrder
from meshd.registry.ranges import Span, is_within, render_span
from meshd.registry.statement import Grant, GrantRanges, LogEntry


class EffectiveGrant(msgspec.Struct, frozen=True, kw_only=True):
    """The grant that holds for a hid. ``founder``: the kid that granted the host first."""

    entry: LogEntry
    grant: Grant
    ranges: GrantRanges
    founder: str


class UnendorsedGrant(msgspec.Struct, frozen=True, kw_only=True):
    """A grant that too few administrators agree with yet: ``signers`` of ``needed``.

    ``wanted``: those without whom it can never count, as what it gives or changes is theirs; ``outside``
    the first range that is in no pool of its signers, if any.
    """

    entry: LogEntry
    grant: Grant
    ranges: GrantRanges
    signers: frozenset[str]
    wanted: frozenset[str]
    outside: str
    needed: int


class IdleGrant(msgspec.Struct, frozen=True, kw_only=True):
    """A grant that has no effect, and why: ``code`` of the condition that says so."""

    entry: LogEntry
    grant: Grant
    ranges: GrantRanges
    code: str
    reason: str


class Lacking(msgspec.Struct, frozen=True, kw_only=True):
    """What the signers of a grant may not do alone: ``outside`` is the first range that is in the pool of
    none of them, ``wanted`` whose signatures would mend it, ``is_hopeless`` that nobody's would."""

    outside: str = ""
    wanted: frozenset[str] = frozenset()
    is_hopeless: bool = False


_NOTHING = Lacking()


class Authority:
    """The pools of a root, as they were when each statement was made."""

    def __init__(self, root: TrustedRoot, order: StatementOrder) -> None:
        self._root = root
        self._order = order
        self._now = {kid: root.tenures[kid][-1] for kid in root.root.keys if root.is_admin(kid)}
        self._links = [(int(each.network_address), each.prefixlen) for each in root.link_ranges]
        self._senior = min(self._now, key=root.seniority, default="")

    def lacking(
        self,
        hid: str,
        ranges: GrantRanges,
        signers: Mapping[str, LogEntry],
        before: EffectiveGrant | None,
    ) -> Lacking:
        """Each range must lie in the pool of a signer, or be the address that derives from the hid; and a
        host that is granted already is changed with the signature of its owner alone."""
        tenures = [self._order.tenure(self._root, entry) for entry in signers.values()]
        uncovered: list[tuple[Span, str]] = []
        for span in ranges.address_spans:
            if not _is_covered(span, tenures, is_overlay=True) and not self._is_derived(span, hid):
                uncovered.append((span, self._holder(span, is_overlay=True)))
        for span in ranges.network_spans:
            if not _is_covered(span, tenures, is_overlay=False):
                uncovered.append((span, self._holder(span, is_overlay=False)))
        wanted = [holder for _, holder in uncovered]
        if before is not None and not self._may_change(before, signers, tenures):
            wanted.append(self.owner(before))
        if not wanted:
            return _NOTHING
        return Lacking(
            outside=render_span(uncovered[0][0]) if uncovered else "",
            wanted=frozenset(kid for kid in wanted if kid),
            is_hopeless="" in wanted,
        )

    def owner(self, found: EffectiveGrant) -> str:
        """The administrator whose pool holds the first address of a host; of one in nobody's pool whoever
        signed its grant, or the heir of that one."""
        first = found.ranges.address_spans[0]
        return self._holder(first, is_overlay=True) or self.heir(found.entry.statement.by)

    def heir(self, kid: str) -> str:
        """Who has what this administrator had: itself, or the senior administrator once it is retired."""
        return kid if kid in self._now else self._senior

    def may_change(self, found: EffectiveGrant, signers: Mapping[str, LogEntry]) -> bool:
        """Whether one of these, each by the statement that says so, may change a host or what lives on it."""
        tenures = [self._order.tenure(self._root, entry) for entry in signers.values()]
        return self._may_change(found, signers, tenures)

    def name(self, kid: str) -> str:
        """What the root calls an administrator in use."""
        return self._root.root.keys[kid].name

    def _may_change(
        self, found: EffectiveGrant, signers: Mapping[str, LogEntry], tenures: list[Tenure]
    ) -> bool:
        first = found.ranges.address_spans[0]
        if _is_covered(first, tenures, is_overlay=True):
            return True
        if self._holder(first, is_overlay=True):
            return False
        # In nobody's pool: a log goes on with what it granted itself, also once it is retired.
        return found.entry.statement.by in signers or self.owner(found) in signers

    def _is_derived(self, span: Span, hid: str) -> bool:
        """As ``derive_link_address``, on numbers alone: every grant of every reduction comes by here."""
        version, first, last = span
        return (
            version == 6
            and first == last
            and any(first == start | int(hid, 16) >> length for start, length in self._links)
        )

    def _holder(self, span: Span, *, is_overlay: bool) -> str:
        """The administrator in whose pool a range lies today; pools are disjoint, so there is at most one."""
        for kid, tenure in self._now.items():
            if is_within(span, tenure.overlay if is_overlay else tenure.jail):
                return kid
        return ""


def _is_covered(span: Span, tenures: list[Tenure], *, is_overlay: bool) -> bool:
    return any(is_within(span, tenure.overlay if is_overlay else tenure.jail) for tenure in tenures)
