"""pfctl(8), as far as rules are loaded, shown and switched on; they filter nothing here."""

from __future__ import annotations

import re

from .call import Call, Exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .shapes import Host, Pf

COUNTERS = (
    "match",
    "bad-offset",
    "fragment",
    "short",
    "normalize",
    "memory",
    "bad-timestamp",
    "congestion",
    "ip-option",
    "proto-cksum",
    "state-mismatch",
    "state-insert",
    "state-limit",
    "src-limit",
    "synproxy",
    "map-failed",
    "translate",
)
TRANSLATIONS = ("nat", "rdr", "binat", "no", "nat-anchor", "rdr-anchor")


def run(host: Host, call: Call) -> int:
    if not call.privileged:
        raise Exit(1, "pfctl: /dev/pf: Permission denied")
    if "pf" not in host["modules"]:
        raise Exit(1, "pfctl: /dev/pf: No such file or directory")
    words, anchor = list(call.args), ""
    if words[:1] == ["-a"]:
        anchor, words = words[1], words[2:]
    pf = host["pf"]
    if words in (["-sr"], ["-sn"]):
        call.lines += pf["rules" if words == ["-sr"] else "translations"].get(anchor, [])
    elif words == ["-f", "-"]:
        load(call, pf, anchor)
    elif words == ["-s", "info"]:
        say_info(call, pf)
    elif words == ["-sI", "-v"]:
        names = [link["name"] for link in host["stacks"][""]["links"]]
        groups = [group for link in host["stacks"][""]["links"] for group in link["groups"]]
        for name in sorted({*names, *groups, "all"}):
            call.say(name + (" (skip)" if name in pf["skipped"] else ""))
    elif words in (["-e"], ["-d"]):
        pf["enabled"] = words == ["-e"]
        call.warn(f"pf {'enabled' if pf['enabled'] else 'disabled'}")
    else:
        raise call.not_imitated()
    return 0


def load(call: Call, pf: Pf, anchor: str) -> None:
    """A main ruleset replaces what was skipped, too; anchors' own rules stay."""
    if not anchor:
        pf["skipped"] = []
    pf["rules"][anchor], pf["translations"][anchor] = [], []
    for line in call.stdin.splitlines():
        words = line.partition("#")[0].split()
        if words[:3] == ["set", "skip", "on"]:
            pf["skipped"] += words[3:]
        elif words and words[0] in TRANSLATIONS:
            pf["translations"][anchor].append(shown(words))
        elif words:
            pf["rules"][anchor].append(shown(words))


def shown(words: list[str]) -> str:
    """A rule in the spelling that pfctl prints."""
    if words[0].endswith("anchor"):
        return " ".join(words if "all" in words else [*words, "all"])
    target = words.index("->") if "->" in words else len(words)
    rule, rest = words[:target], words[target:]
    if rule[0] == "block" and rule[1:2] not in (["drop"], ["return"]):
        rule.insert(1, "drop")
    keeps = rule[-2:] == ["keep", "state"] or rule[0] == "pass"
    if rule[-2:] == ["keep", "state"]:
        rule = rule[:-2]
    rule = with_addresses(rule)
    if keeps:
        rule += [*([] if "udp" in rule else ["flags", "S/SA"]), "keep", "state"]
    return " ".join([*rule, *rest])


def with_addresses(rule: list[str]) -> list[str]:
    """`all`, or both `from` and `to`; a single port has an equals sign before it."""
    if "all" not in rule and "from" not in rule and "to" not in rule:
        return [*rule, "all"]
    if "to" in rule and "from" not in rule:
        at = rule.index("to")
        rule = [*rule[:at], "from", "any", *rule[at:]]
    if "from" in rule and "to" not in rule:
        rule = [*rule, "to", "any"]
    text = " ".join(rule)
    return re.sub(r"port (\d+)(?= |$)", r"port = \1", text).split()


def say_info(call: Call, pf: Pf) -> None:
    state = "Enabled for" if pf["enabled"] else "Disabled for"
    call.say(f"Status: {state + ' 0 days 00:00:00':37} Debug: Urgent")
    call.lines += ["", "State Table                          Total             Rate"]
    call.lines += [figure(name) for name in ("current entries", "searches", "inserts", "removals")]
    call.say("Counters")
    call.lines += [figure(name) for name in COUNTERS]


def figure(name: str) -> str:
    return f"  {name:25} {0:14} {'':14}"
