"""The rules that pfctl(8) shows. Pure; what they do to a packet is pf_verdicts.py's.

``pfctl -sr`` and ``-sn`` print one rule a line, in one spelling (print_rule() in pfctl_parser.c). Until 14
addresses are translated by rules of their own (``nat on ... ->``), which stand in ``-sn``. Since 15 they are
also translated by pass and match rules (``... nat-to``), which stand in ``-sr``. What ``binat-to``
asks for is shown as two rules, ``nat-to`` and ``rdr-to`` (pf.conf(5), parse.y).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec

GROUP: Final = "wg"
"""The interface group of every wg(4) interface, whatever it is called."""

Translation = Literal["nat", "binat", "rdr", "af"]
Action = Literal[
    "pass", "block", "match", "anchor", "nat", "binat", "rdr", "nat-anchor", "rdr-anchor", "other"
]

_ACTIONS: Final[Mapping[str, Action]] = {
    "pass": "pass",
    "block": "block",
    "match": "match",
    "anchor": "anchor",
    "nat": "nat",
    "binat": "binat",
    "rdr": "rdr",
    "nat-anchor": "nat-anchor",
    "binat-anchor": "nat-anchor",
    "rdr-anchor": "rdr-anchor",
}
_TRANSLATIONS: Final[Mapping[str, Translation]] = {
    "nat": "nat",
    "nat-to": "nat",
    "binat": "binat",
    "binat-to": "binat",
    "rdr": "rdr",
    "rdr-to": "rdr",
    "af-to": "af",
}
_TARGET_WORDS: Final = frozenset({"->", "nat-to", "binat-to", "rdr-to", "af-to"})
"""What follows one of these is what addresses become."""
_WORD: Final = re.compile(r'"[^"]*"|\{[^}]*\}|\([^)]*\)|\S+')
_CONDITIONS: Final = frozenset({"user", "group", "tagged", "probability", "received-on", "os", "tos"})
UNLIMITED: Final = (0, 65535)
"""Every port."""


class PfRule(msgspec.Struct, frozen=True, kw_only=True):
    """``ports``: of the destination, both ends included; None: a name or a form that is not known.
    ``narrow``: addresses or other conditions decide, too. ``negated``: ``no nat``. ``within``: the anchor
    in whose braces it stands; that one has to match, too."""

    text: str
    action: Action
    direction: Literal["in", "out", ""] = ""
    quick: bool = False
    interface: str = ""
    all_but_interface: bool = False
    family: int = 0
    protocol: str = ""
    ports: tuple[int, int] | None = UNLIMITED
    narrow: bool = False
    negated: bool = False
    anchor: str = ""
    translation: Translation | None = None
    within: PfRule | None = None


def parse_pf_rules(output: bytes) -> tuple[PfRule, ...]:
    """``pfctl -sr`` or ``-sn``. What is not understood stays in the list and decides nothing."""
    found: list[PfRule] = []
    open_anchors: list[PfRule] = []
    for line in output.decode("utf-8", "replace").splitlines():
        text = line.strip()
        if text == "}":
            del open_anchors[-1:]
        elif text:
            rule = _parse_rule(text, open_anchors[-1] if open_anchors else None)
            found.append(rule)
            if rule.action.endswith("anchor") and text.endswith("{"):
                open_anchors.append(rule)
    return tuple(found)


def parse_anchors(output: bytes) -> tuple[str, ...]:
    """``pfctl -sA``: an anchor a line, with its whole path."""
    return tuple(output.decode("utf-8", "replace").split())


def parse_skipped(output: bytes) -> frozenset[str]:
    """``pfctl -sI -v``: interfaces and groups of ``set skip on``."""
    lines = output.decode("utf-8", "replace").splitlines()
    return frozenset(line.split()[0] for line in lines if line.rstrip().endswith("(skip)"))


def _parse_rule(text: str, within: PfRule | None) -> PfRule:
    words, targets = _split_at_target(_WORD.findall(text))
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
        within=within,
        translation=_TRANSLATIONS.get(targets[0] if targets else "", _TRANSLATIONS.get(action)),
        **{"ports": ports, "narrow": narrow, **found},  # type: ignore[arg-type]
    )


def _split_at_target(words: list[str]) -> tuple[list[str], list[str]]:
    """What the rule asks of a packet, and what it makes of its addresses; the first part is not empty."""
    end = next((at for at, word in enumerate(words) if at and word in _TARGET_WORDS), len(words))
    return words[:end], words[end:]


def _parse_target(words: Sequence[str]) -> tuple[tuple[int, int] | None, bool]:
    """Destination ports, and whether addresses, source ports or other conditions limit the rule."""
    narrow = bool(_CONDITIONS.intersection(words))
    if "from" not in words or "to" not in words:
        return UNLIMITED, narrow
    source = words[words.index("from") + 1 : words.index("to")]
    target = words[words.index("to") + 1 :]
    narrow = narrow or source != ["any"] or target[:1] != ["any"]
    if "port" not in target:
        return UNLIMITED, narrow
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
