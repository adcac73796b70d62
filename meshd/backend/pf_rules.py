"""The rules that pfctl(8) shows, and what they do to the mesh's packets. Pure.

``pfctl -sr`` and ``-sn`` print one rule a line, in one spelling (print_rule() in pfctl_parser.c). A rule
whose addresses or interface depend on the host *may* match, so that a verdict is a set: pass, block, or
either. Anchors are other rulesets; only what the caller fills in is looked into.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

GROUP: Final = "wg"
"""The interface group of every wg(4) interface, whatever it is called."""

Action = Literal["pass", "block", "anchor", "nat", "binat", "rdr", "nat-anchor", "rdr-anchor", "other"]
Verdict = Literal["pass", "block"]

_ACTIONS: Final[Mapping[str, Action]] = {
    "pass": "pass",
    "block": "block",
    "anchor": "anchor",
    "nat": "nat",
    "binat": "binat",
    "rdr": "rdr",
    "nat-anchor": "nat-anchor",
    "binat-anchor": "nat-anchor",
    "rdr-anchor": "rdr-anchor",
}
_WORD: Final = re.compile(r'"[^"]*"|\{[^}]*\}|\S+')
_CONDITIONS: Final = frozenset({"user", "group", "tagged", "probability", "received-on", "os", "tos"})
_UNLIMITED: Final = (0, 65535)


@dataclass(frozen=True, slots=True, kw_only=True)
class PfRule:
    """``ports``: of the destination, both ends included; None: a name or a form that is not known.
    ``narrow``: addresses or other conditions decide, too. ``negated``: ``no nat``."""

    text: str
    action: Action
    direction: Literal["in", "out", ""] = ""
    quick: bool = False
    interface: str = ""
    all_but_interface: bool = False
    family: int = 0
    protocol: str = ""
    ports: tuple[int, int] | None = _UNLIMITED
    narrow: bool = False
    negated: bool = False
    anchor: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """``interfaces``: the interface's name and groups; empty: whichever leads to the Internet."""

    direction: Literal["in", "out"]
    protocol: str = ""
    port: int = 0
    interfaces: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """``by``: the rules that decided, as far as they did."""

    verdicts: frozenset[Verdict]
    by: tuple[PfRule, ...] = field(default=())


def parse_pf_rules(output: bytes) -> tuple[PfRule, ...]:
    """``pfctl -sr`` or ``-sn``. What is not understood stays in the list and decides nothing."""
    lines = output.decode("utf-8", "replace").splitlines()
    return tuple(_parse_rule(line.strip()) for line in lines if line.strip())


def parse_skipped(output: bytes) -> frozenset[str]:
    """``pfctl -sI -v``: interfaces and groups of ``set skip on``."""
    lines = output.decode("utf-8", "replace").splitlines()
    return frozenset(line.split()[0] for line in lines if line.rstrip().endswith("(skip)"))


def _parse_rule(text: str) -> PfRule:
    words: list[str] = _WORD.findall(text)
    negated = words[0] == "no"
    action = _ACTIONS.get(words[1] if negated and len(words) > 1 else words[0], "other")
    found: dict[str, object] = {}
    rest = iter(words[2 if negated else 1 :])
    for word in rest:
        if word in ("in", "out"):
            found["direction"] = word
        elif word == "quick":
            found["quick"] = True
        elif word == "on":
            name = next(rest, "")
            found["all_but_interface"] = name == "!"
            found["interface"] = next(rest, "") if name == "!" else name
        elif word in ("inet", "inet6"):
            found["family"] = 6 if word == "inet6" else 4
        elif word == "proto":
            found["protocol"] = next(rest, "")
        elif word.startswith('"') and action.endswith("anchor"):
            found["anchor"] = word.strip('"')
        elif word in ("from", "to"):
            break
        elif word in _CONDITIONS:
            found["narrow"] = True
    ports, narrow = _parse_target(words)
    return PfRule(
        text=text,
        action=action,
        negated=negated,
        **{"ports": ports, "narrow": narrow, **found},  # type: ignore[arg-type]
    )


def _parse_target(words: Sequence[str]) -> tuple[tuple[int, int] | None, bool]:
    """Destination ports, and whether addresses, source ports or other conditions limit the rule."""
    end = words.index("->") if "->" in words else len(words)
    words = words[:end]
    narrow = bool(_CONDITIONS.intersection(words))
    if "from" not in words or "to" not in words:
        return _UNLIMITED, narrow
    source = words[words.index("from") + 1 : words.index("to")]
    target = words[words.index("to") + 1 :]
    narrow = narrow or source != ["any"] or target[:1] != ["any"]
    if "port" not in target:
        return _UNLIMITED, narrow
    return _parse_ports(target[target.index("port") + 1 :]), narrow


def _parse_ports(words: Sequence[str]) -> tuple[int, int] | None:
    """``= 51820``, ``51820:51821``, ``51819 >< 51822``; other forms are not known."""
    match list(words[:3]):
        case ["=", number, *_] if number.isdigit():
            return int(number), int(number)
        case [first, "><", last] if first.isdigit() and last.isdigit():
            return int(first) + 1, int(last) - 1
        case [word, *_] if (ends := word.split(":")) and len(ends) == 2 and all(e.isdigit() for e in ends):
            return int(ends[0]), int(ends[1])
    return None


def _matches(rule: PfRule, packet: Packet) -> bool | None:
    """None: it depends on what is not known here."""
    doubts = [rule.narrow]
    if rule.direction not in ("", packet.direction):
        return False
    if rule.interface:
        on = _is_on(rule.interface, packet)
        if on is not None and on is rule.all_but_interface:
            return False
        doubts.append(on is None)
    if rule.protocol and packet.protocol and rule.protocol != packet.protocol:
        return False
    doubts.append(bool(rule.protocol and not packet.protocol) or bool(rule.family and packet.interfaces))
    if packet.port:
        if rule.ports is None:
            doubts.append(True)
        elif not rule.ports[0] <= packet.port <= rule.ports[1]:
            return False
    elif rule.ports != _UNLIMITED:
        doubts.append(True)
    return None if any(doubts) else True


def _is_on(interface: str, packet: Packet) -> bool | None:
    if packet.interfaces:
        return interface in packet.interfaces
    return False if interface.startswith((GROUP, "lo")) else None


def judge(rules: Sequence[PfRule], packet: Packet, anchors: Mapping[str, Sequence[PfRule]]) -> Ruling:
    """The last rule that matches decides, ``quick`` ones at once; without any the packet passes.

    ``anchors``: the rules of those that are known; others count as empty.
    """
    final: list[tuple[Verdict, PfRule | None]] = []
    open_: list[tuple[Verdict, PfRule | None]] = [("pass", None)]
    for rule, sure in _relevant(rules, packet, anchors):
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
    )


def _relevant(
    rules: Iterable[PfRule], packet: Packet, anchors: Mapping[str, Sequence[PfRule]]
) -> Iterator[tuple[PfRule, bool]]:
    for rule in rules:
        match = _matches(rule, packet)
        if match is False:
            continue
        if rule.action == "anchor":
            for inner, sure in _relevant(anchors.get(rule.anchor, ()), packet, {}):
                yield inner, sure and match is True
        elif rule.action in ("pass", "block"):
            yield rule, match is True


def find_translations(rules: Iterable[PfRule], packet: Packet, *actions: Action) -> tuple[PfRule, ...]:
    """Rules of ``-sn`` of these sorts that would or may translate the packet: the first that matches
    does, and ``no nat`` and ``no rdr`` end the search."""
    found = []
    for rule in rules:
        if rule.action not in actions or (match := _matches(rule, packet)) is False:
            continue
        if not rule.negated:
            found.append(rule)
        if match is True:
            break
    return tuple(found)


def unknown_anchors(rules: Iterable[PfRule], known: Iterable[str]) -> tuple[str, ...]:
    names = {rule.anchor for rule in rules if rule.action.endswith("anchor") and rule.anchor}
    return tuple(sorted(names - set(known)))
