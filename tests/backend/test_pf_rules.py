"""pf's rules, read and judged: what a real 15.1 printed, what others print, and junk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transcripts import entries

from meshd.backend.pf_rules import PfRule, parse_anchors, parse_pf_rules, parse_skipped
from meshd.backend.pf_verdicts import (
    Packet,
    find_rule_translations,
    find_spared,
    find_translations,
    judge,
    unknown_anchors,
)

UDP = Packet(direction="in", protocol="udp", port=51820)
TUNNEL = Packet(direction="in", protocol="icmp", interfaces=frozenset({"wg", "wg0"}))
ON_WG = "pass in quick on wg all flags S/SA keep state\n"
TO_PORT = "pass in proto udp from any to any port = 51820 keep state\n"
OUT = Packet(direction="out", interfaces=frozenset({"wg", "wg0"}))
BASTILLE = """\
scrub in on em0 all fragment reassemble
block return in all
pass out quick all flags S/SA keep state
block return in on ! em0 inet from 192.0.2.0/24 to any
block return in inet from 192.0.2.1 to any
anchor "bastille/*" all
pass in proto tcp from any to any port = ssh flags S/SA keep state
"""


def rules(text: str) -> tuple[PfRule, ...]:
    return parse_pf_rules(text.encode())


def verdict(text: str, packet: Packet, anchors: Mapping[str, Sequence[PfRule]] | None = None) -> str:
    return " or ".join(sorted(judge(rules(text), packet, anchors or {}).verdicts))


def test_the_recorded_rules() -> None:
    shown = [entry.stdout for entry in entries("pfctl") if entry.command.endswith("-sr") and entry.stdout]
    main, anchor = map(parse_pf_rules, shown)
    assert [(rule.action, rule.direction, rule.quick, rule.interface, rule.anchor) for rule in main] == [
        ("block", "in", False, "", ""),
        ("pass", "out", True, "", ""),
        ("pass", "in", True, "wg", ""),
        ("anchor", "", False, "", "meshd"),
    ]
    assert anchor == (main[2],)
    assert judge(main, TUNNEL, {}).by == (main[2],)
    assert judge(main, UDP, {}).verdicts == {"block"}


@pytest.mark.parametrize(
    ("line", "ports"),
    [
        ("pass in proto udp from any to any port = 51820 keep state", (51820, 51820)),
        ("pass in on em0 proto udp from any to (em0) port 51820:51821 keep state", (51820, 51821)),
        ("pass in proto udp from any to any port 51819 >< 51822 keep state", (51820, 51821)),
        ("pass in proto udp from any port = 53 to any keep state", (0, 65535)),
        ("pass in all flags S/SA keep state", (0, 65535)),
        ("pass in proto udp from any to any port = domain keep state", None),
        ("pass in proto udp from any to any port != 51820 keep state", None),
        ("rdr on em0 inet proto udp from any to any port = 51820 -> 10.17.1.10 port 51821", (51820, 51820)),
    ],
)
def test_ports(line: str, ports: tuple[int, int] | None) -> None:
    assert rules(line)[0].ports == ports


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("", "pass"),
        ("block drop in all\n", "block"),
        ("block drop in all\n" + TO_PORT, "pass"),
        ("block drop in all\npass in proto udp from any to any port = 51821 keep state\n", "block"),
        ("block drop in all\n" + TO_PORT.replace("udp", "tcp"), "block"),
        ("pass in quick proto udp from any to any port 51820:51821\nblock drop in quick all\n", "pass"),
        ("block drop in quick all\n" + TO_PORT, "block"),
        ("block drop in all\npass in on em0 proto udp from any to (em0) port = 51820\n", "block or pass"),
        ("block drop in all\n" + ON_WG, "block"),
        (
            "block drop in quick from <bad> to any\npass in proto udp from any to any port = 51820\n",
            "block or pass",
        ),
        ("block drop out all\n", "pass"),
    ],
)
def test_what_becomes_of_an_encrypted_packet(text: str, outcome: str) -> None:
    assert verdict(text, UDP) == outcome


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        (BASTILLE, "block"),
        (BASTILLE.replace("block return in all\n", ON_WG + "block in all\n"), "pass"),
        (BASTILLE + "pass in quick on wg0 all flags S/SA keep state\n", "pass"),
        (BASTILLE + "pass in on wg inet all flags S/SA keep state\n", "block or pass"),
        (BASTILLE + "pass in on em0 all flags S/SA keep state\n", "block"),
        (BASTILLE + "pass in on ! em0 all flags S/SA keep state\n", "pass"),
    ],
)
def test_what_becomes_of_what_comes_out_of_the_tunnel(text: str, outcome: str) -> None:
    assert verdict(text, TUNNEL) == outcome


def test_an_anchor_whose_rules_are_known_counts_and_others_do_not() -> None:
    text = 'block drop in all\nanchor "meshd" all\nanchor "x/*" all\n'
    inner = rules("pass in quick on wg all flags S/SA keep state\n")
    assert verdict(text, TUNNEL) == "block"
    assert verdict(text, TUNNEL, {"meshd": inner}) == "pass"
    assert unknown_anchors(rules(text), ["meshd"]) == ("x/*",)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("nat on em0 inet from <jails> to any -> (em0) round-robin\n", 0),
        ("nat on wg inet from 10.17.1.0/24 to any -> 10.99.0.1\n", 1),
        ("nat on ! lo0 inet from 10.17.1.0/24 to any -> (em0)\n", 1),
        ("nat inet from 10.17.1.0/24 to any -> 192.0.2.1\n", 1),
        ("no nat on wg all\nnat inet from 10.17.1.0/24 to any -> 192.0.2.1\n", 0),
        ("binat on wg0 inet from 10.17.1.1 to any -> 10.99.0.1\n", 1),
        ('nat-anchor "x" all\n', 0),
    ],
)
def test_translations_of_what_goes_into_the_tunnel(text: str, found: int) -> None:
    assert len(find_translations(rules(text), OUT, {}, "nat", "binat")) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("rdr on em0 inet proto udp from any to any port = 51820 -> 10.17.1.10 port 51820\n", 1),
        ("rdr pass on em0 inet proto udp from any to (em0) port 50000:52000 -> 10.17.1.10\n", 1),
        ("rdr on em0 inet proto tcp from any to any port = 51820 -> 10.17.1.10\n", 0),
        ("rdr on em0 inet proto udp from any to any port = 53 -> 10.17.1.10 port 51820\n", 0),
        ("rdr on lo1 inet proto udp from any to any port = 51820 -> 10.17.1.10\n", 0),
        ("no rdr proto udp from any to any port = 51820\nrdr on em0 inet proto udp all -> 10.17.1.10\n", 0),
    ],
)
def test_redirections_of_the_port(text: str, found: int) -> None:
    assert len(find_translations(rules(text), UDP, {}, "rdr")) == found


FROM_JAILS = "inet from 10.17.1.0/24 to any"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("pass out quick inet all flags S/SA keep state nat-to 192.0.2.10\n", 1),
        (f"match out on em0 {FROM_JAILS} nat-to (em0) round-robin\n", 0),
        (f"match out {FROM_JAILS} nat-to (em0) round-robin\n", 1),
        (f"match out on wg {FROM_JAILS} nat-to 10.99.0.1\n", 1),
        (f"match out on wg0 {FROM_JAILS} binat-to 10.99.0.1\n", 1),
        ("match out on ! lo0 inet from 10.17.1.10 to any nat-to 192.0.2.10 static-port\n", 1),
        # What decides is found, and what a later or a quick rule overrules is not.
        ("pass out quick on wg all\npass out quick inet all nat-to 192.0.2.10\n", 0),
        ("pass out quick on wg inet6 all\npass out quick inet all nat-to 192.0.2.10\n", 1),
        ("pass out inet all nat-to 192.0.2.10\npass out on wg all\n", 0),
        ("match out inet all nat-to 192.0.2.10\npass out on wg all\n", 1),
        ("pass out on wg0 proto tcp all\npass out inet all nat-to 192.0.2.10\n", 1),
        ("block drop out all\npass out on em0 inet all nat-to (em0)\n", 0),
        # The words of a target are none of a rule's conditions.
        (
            "pass out log (all, to pflog1) quick on em0 inet all nat-to { 192.0.2.1, 192.0.2.2 }\n",
            0,
        ),
        (
            "pass out log (all, to pflog1) quick on wg0 inet all nat-to { 192.0.2.1, 192.0.2.2 }\n",
            1,
        ),
        ("anchor on em0 all {\n  pass out inet all nat-to (em0)\n}\n", 0),
        ("anchor on wg all {\n  pass out inet all nat-to (em0)\n}\n", 1),
        ("anchor on em0 all {\n  pass out all\n}\npass out inet all nat-to (em0)\n", 1),
        ('anchor "jails" all\n', 1),
    ],
)
def test_translations_by_rules_that_let_pass(text: str, found: int) -> None:
    """As 15 knows them; the family is what makes a rule of one family sure."""
    out = Packet(direction="out", family=4, interfaces=OUT.interfaces)
    anchors = {"jails": rules("pass out inet all nat-to 192.0.2.10\n")}
    assert len(find_rule_translations(rules(text), out, anchors, "nat", "binat")) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "pass in on em0 inet proto udp from any to any port = 51820 rdr-to 10.17.1.10 port 51821\n",
            1,
        ),
        ("match in inet proto udp from any to any port 51820:51821 rdr-to 10.17.1.10\n", 1),
        ("match in inet proto tcp from any to any port = 51820 rdr-to 10.17.1.10\n", 0),
        ("match in inet proto udp from any to any port = 53 rdr-to 10.17.1.10 port 51820\n", 0),
        ("match in on lo1 inet proto udp from any to any port = 51820 rdr-to 10.17.1.10\n", 0),
        ("pass in on em0 inet6 all flags S/SA keep state af-to inet from (em0) to 192.0.2.1\n", 1),
    ],
)
def test_redirections_of_the_port_by_rules_that_let_pass(text: str, found: int) -> None:
    assert len(find_rule_translations(rules(text), UDP, {}, "rdr", "af")) == found


def test_the_words_of_a_target_decide_nothing() -> None:
    (rule,) = rules("pass in on wg0 inet6 all keep state af-to inet from 192.0.2.1 port 1:2 to 192.0.2.2\n")
    assert (rule.family, rule.ports, rule.narrow, rule.translation) == (6, (0, 65535), False, "af")


def test_a_translation_that_another_rule_keeps_off_is_told_apart() -> None:
    text = "pass out quick on wg all\npass out quick inet all nat-to 192.0.2.10\n"
    assert [rule.text for rule in find_spared(rules(text), OUT, {}, "nat")] == [text.splitlines()[1]]


def test_translations_in_anchors_are_found_where_they_are_known() -> None:
    text = 'nat-anchor "x" all\nrdr-anchor "rdr/*" on em0 all\n'
    anchors = {
        "x": rules("nat inet from any to any -> 192.0.2.1\n"),
        "rdr/*": rules("rdr on em0 inet proto udp from any to any port = 51820 -> 10.17.1.10\n"),
    }
    assert len(find_translations(rules(text), OUT, anchors, "nat", "binat")) == 1
    assert len(find_translations(rules(text), UDP, anchors, "rdr")) == 1


def test_the_names_of_anchors() -> None:
    assert parse_anchors(b"  rdr/web\n  rdr/db\n") == ("rdr/web", "rdr/db")


def test_what_is_skipped() -> None:
    assert parse_skipped(b"all\nem0\nlo (skip)\nlo0 (skip)\nwg0\n") == {"lo", "lo0"}


words = st.sampled_from(
    [
        "pass",
        "block",
        "drop",
        "return",
        "in",
        "out",
        "quick",
        "on",
        "!",
        "wg",
        "em0",
        "inet",
        "proto",
        "udp",
        "all",
        "from",
        "to",
        "any",
        "port",
        "=",
        "51820",
        "51820:51821",
        "><",
        "<bad>",
        "->",
        "anchor",
        '"meshd"',
        "no",
        "nat",
        "rdr",
        "keep",
        "state",
        "{",
        "}",
        '"',
    ]
)


@given(st.lists(st.lists(words, min_size=1, max_size=14).map(" ".join), max_size=6), st.binary())
def test_whatever_pfctl_prints_is_judged_without_an_error(lines: list[str], junk: bytes) -> None:
    for output in ("\n".join(lines).encode(), junk):
        found = parse_pf_rules(output)
        for packet in (UDP, TUNNEL, OUT):
            assert judge(found, packet, {"meshd": found}).verdicts
            find_translations(found, packet, {"meshd": found}, "nat", "binat", "rdr", "af")
            find_rule_translations(found, packet, {"meshd": found}, "nat", "rdr", "binat", "af")
            find_spared(found, packet, {"meshd": found}, "nat")
        parse_skipped(output)


passing = st.sampled_from(["pass in all flags S/SA keep state", "pass in proto udp from any to any"])
blocking = st.sampled_from(["block drop in all", "block drop in proto udp from any to any port = 51820"])


@given(st.lists(passing | blocking, max_size=6), passing | blocking)
def test_the_last_word_is_the_last_rules_that_surely_matches(before: list[str], last: str) -> None:
    assert verdict("\n".join([*before, last]), UDP) == last.split()[0]
