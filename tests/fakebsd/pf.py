"""pfctl(8), as far as rules are loaded, shown and switched on; they filter nothing here."""

from __future__ import annotations

import re
from pathlib import Path

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
TARGETS = ("->", "nat-to", "rdr-to", "binat-to", "af-to")
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
    elif words[:1] == ["-f"] and len(words) == 2:
        load(pf, anchor, call.stdin if words[1] == "-" else Path(words[1]).read_text())
    elif words == ["-sA"]:
        call.lines += [f"  {name}" for name in children(pf, anchor)]
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


def children(pf: Pf, anchor: str) -> list[str]:
    """The anchors right below this one, or below the main ruleset, with their whole path."""
    prefix = f"{anchor}/" if anchor else ""
    names = {name for name in [*pf["rules"], *pf["translations"]] if name and name.startswith(prefix)}
    return sorted({prefix + name.removeprefix(prefix).partition("/")[0] for name in names})


def load(pf: Pf, anchor: str, text: str) -> None:
    """A main ruleset replaces what was skipped, too; anchors' own rules stay."""
    if not anchor:
        pf["skipped"] = []
    pf["rules"][anchor], pf["translations"][anchor] = [], []
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if words[:3] == ["set", "skip", "on"]:
            pf["skipped"] += words[3:]
        elif words[:2] == ["load", "anchor"]:
            load(pf, words[2].strip('"'), Path(words[4].strip('"')).read_text())
        elif words and words[0] in TRANSLATIONS:
            pf["translations"][anchor].append(shown(words))
        elif words:
            pf["rules"][anchor] += both_ways(words)


def both_ways(words: list[str]) -> list[str]:
    """What `binat-to` asks for is two rules: one for what goes out, one for what comes back."""
    if "binat-to" not in words:
        return [shown(words)]
    at, source = words.index("binat-to"), words[words.index("from") + 1]
    kept, outside = words[: words.index("from")], words[at + 1]
    out = [kept[0], "out", *kept[1:], *words[words.index("from") : at], "nat-to", outside, "static-port"]
    back = [kept[0], "in", *kept[1:], "from", "any", "to", outside, "rdr-to", source]
    return [shown(out), shown(back)]


def shown(words: list[str]) -> str:
    """A rule in the spelling that pfctl prints."""
    if words[0].endswith("anchor"):
        return " ".join(words if "all" in words else [*words, "all"])
    target = next((at for at, word in enumerate(words) if word in TARGETS), len(words))
    rule, rest = words[:target], words[target:]
    if rest[-2:] == ["keep", "state"]:
        rest = rest[:-2]
    if rule[0] == "block" and rule[1:2] not in (["drop"], ["return"]):
        rule.insert(1, "drop")
    keeps = rule[-2:] == ["keep", "state"] or rule[0] == "pass"
    if rule[-2:] == ["keep", "state"]:
        rule = rule[:-2]
    rule = with_family(with_addresses(rule), rest)
    if keeps:
        rule += [*([] if "udp" in rule else ["flags", "S/SA"]), "keep", "state"]
    return " ".join([*rule, *rest])


def with_family(rule: list[str], target: list[str]) -> list[str]:
    """A rule that translates to an address is one of that address's family."""
    addresses = [word for word in target[1:] if re.fullmatch(r"[\d.]+|[0-9a-f]*:[0-9a-f:]+", word)]
    if not addresses or "inet" in rule or "inet6" in rule:
        return rule
    at = next(at for at, word in enumerate(rule) if word in ("proto", "all", "from"))
    return [*rule[:at], "inet6" if ":" in addresses[0] else "inet", *rule[at:]]


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
