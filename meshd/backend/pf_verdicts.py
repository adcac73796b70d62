"""What pf's rules do to a packet: let in, blocked, translated. Pure.

A rule whose addresses or interface depend on the host *may* match, so that a verdict is a set: pass,
block, or either. Anchors are other rulesets; only what the caller fills in is looked into.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from meshd.backend.pf_rules import GROUP, UNLIMITED, PfRule, Translation

Verdict = Literal["pass", "block"]
Anchors = Mapping[str, Sequence[PfRule]]
"""The rules of each anchor that is known, by its name; others count as empty."""


class Packet(msgspec.Struct, frozen=True, kw_only=True):
    """``interfaces``: the interface's name and groups; empty: whichever leads to the Internet.
    ``family``: 4 or 6, 0 where it does not matter."""

    direction: Literal["in", "out"]
    protocol: str = ""
    port: int = 0
    family: int = 0
    interfaces: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """``by``: the rules that decided, as far as they did. ``matched``: match rules on the way there."""

    verdicts: frozenset[Verdict]
    by: tuple[PfRule, ...] = field(default=())
    matched: tuple[PfRule, ...] = field(default=())


def _matches(rule: PfRule, packet: Packet) -> bool | None:
    """None: it depends on what is not known here."""
    doubts = [rule.narrow]
    if rule.within is not None:
        outer = _matches(rule.within, packet)
        if outer is False:
            return False
        doubts.append(outer is None)
    if rule.direction not in ("", packet.direction):
        return False
    if rule.interface:
        on = _is_on(rule.interface, packet)
        if on is not None and on is rule.all_but_interface:
            return False
        doubts.append(on is None)
    if rule.protocol and packet.protocol and rule.protocol != packet.protocol:
        return False
    if rule.family and packet.family and rule.family != packet.family:
        return False
    doubts.append(bool(rule.protocol and not packet.protocol))
    doubts.append(bool(rule.family and packet.interfaces and not packet.family))
    if packet.port:
        if rule.ports is None:
            doubts.append(True)
        elif not rule.ports[0] <= packet.port <= rule.ports[1]:
            return False
    elif rule.ports != UNLIMITED:
        doubts.append(True)
    return None if any(doubts) else True


def _is_on(interface: str, packet: Packet) -> bool | None:
    if packet.interfaces:
        return interface in packet.interfaces
    return False if interface.startswith((GROUP, "lo")) else None


def judge(rules: Sequence[PfRule], packet: Packet, anchors: Anchors) -> Ruling:
    """The last rule that matches decides, ``quick`` ones at once; without any the packet passes."""
    final: list[tuple[Verdict, PfRule | None]] = []
    open_: list[tuple[Verdict, PfRule | None]] = [("pass", None)]
    matched: list[PfRule] = []
    for rule, sure in _relevant(rules, packet, anchors):
        if rule.action == "match":
            matched.append(rule)
        elif rule.action in ("pass", "block"):
            verdict: Verdict = "pass" if rule.action == "pass" else "block"
            if rule.quick:
                final.append((verdict, rule))
                if sure:
                    open_ = []
                    break
            else:
                open_ = [(verdict, rule)] if sure else [*open_, (verdict, rule)]
    outcome = [*final, *open_]
    return Ruling(
        verdicts=frozenset(verdict for verdict, _ in outcome),
        by=tuple(rule for _, rule in outcome if rule is not None),
        matched=tuple(matched),
    )


def _relevant(rules: Iterable[PfRule], packet: Packet, anchors: Anchors) -> Iterator[tuple[PfRule, bool]]:
    """The rules that may match, those of anchors in their place, and whether each surely does. Anchors in
    anchors count as empty: their names are relative."""
    for rule in rules:
        match = _matches(rule, packet)
        if match is False:
            continue
        if not rule.action.endswith("anchor"):
            yield rule, match is True
        else:
            for inner, sure in _relevant(anchors.get(rule.anchor, ()), packet, {}):
                yield inner, sure and match is True


def find_translations(
    rules: Iterable[PfRule], packet: Packet, anchors: Anchors, *sorts: Translation
) -> tuple[PfRule, ...]:
    """Rules of ``-sn`` of these sorts that would or may translate the packet: the first that matches
    does, and ``no nat`` and ``no rdr`` end the search."""
    found = []
    for rule, sure in _relevant(rules, packet, anchors):
        if rule.translation not in sorts:
            continue
        if not rule.negated:
            found.append(rule)
        if sure:
            break
    return tuple(found)


def find_rule_translations(
    rules: Sequence[PfRule], packet: Packet, anchors: Anchors, *sorts: Translation
) -> tuple[PfRule, ...]:
    """Rules of ``-sr`` of these sorts that would or may translate the packet: every match rule that
    matches, and the pass rule that decides."""
    ruling = judge(rules, packet, anchors)
    return tuple(rule for rule in (*ruling.matched, *ruling.by) if rule.translation in sorts)


def find_spared(
    rules: Sequence[PfRule], packet: Packet, anchors: Anchors, *sorts: Translation
) -> tuple[PfRule, ...]:
    """Rules of ``-sr`` of these sorts that would translate the packet if another did not decide first."""
    found = find_rule_translations(rules, packet, anchors, *sorts)
    would = (rule for rule, _ in _relevant(rules, packet, anchors) if rule.translation in sorts)
    return tuple(rule for rule in would if rule not in found)


def unknown_anchors(rules: Iterable[PfRule], known: Iterable[str]) -> tuple[str, ...]:
    names = {rule.anchor for rule in rules if rule.action.endswith("anchor") and rule.anchor}
    return tuple(sorted(names - set(known)))
