"""Docker's rules, as nft shows them, and what they do to a packet between the mesh and a container.

``docker_ruleset.json`` is what nft 1.0.6 said of such rules, without counters.
"""

from __future__ import annotations

import json
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from wgctl.checks.netfilter import check_netfilter

DOCKER = ip_network("172.17.0.0/16")
RULES = json.loads((Path(__file__).parent / "docker_ruleset.json").read_text())


def said(document: Any, *networks: str) -> list[tuple[str, str]]:
    found = [ip_network(text) for text in networks] or [DOCKER]
    return [(check.result, check.text) for check in check_netfilter(json.dumps(document), found, "wg0")]


def without(*tables: str) -> Any:
    kept = [
        entry
        for entry in RULES["nftables"]
        if not any(each.get("table", each.get("name")) in tables for each in entry.values())
    ]
    return {"nftables": kept}


def chain(name: str, hook: str = "", policy: str = "accept", table: str = "filter") -> dict[str, Any]:
    base = {"type": "filter", "hook": hook, "prio": 0, "policy": policy} if hook else {}
    return {"chain": {"family": "inet", "table": table, "name": name, **base}}


def rule(chain: str, *expressions: dict[str, Any], table: str = "filter") -> dict[str, Any]:
    return {"rule": {"family": "inet", "table": table, "chain": chain, "expr": list(expressions)}}


def by(key: str, value: object, op: str = "==") -> dict[str, Any]:
    return {"match": {"op": op, "left": {"meta": {"key": key}}, "right": value}}


def test_each_of_dockers_three_rules_is_named_with_what_it_does() -> None:
    texts = [text for result, text in said(RULES) if result == "warn"]
    assert len(texts) == 3
    assert "ip raw PREROUTING drops what is forwarded from wg0 to 172.17.0.0/16" in texts
    assert "ip filter FORWARD drops what is forwarded from wg0 to 172.17.0.0/16" in texts
    assert any("ip nat POSTROUTING translates addresses of 172.17.0.0/16 on wg0" in text for text in texts)


@pytest.mark.parametrize("table", ["raw", "nat", "filter"])
def test_what_is_mended_is_not_said_any_more(table: str) -> None:
    assert not any(f"ip {table} " in text for _, text in said(without(table)))


def test_a_host_whose_filter_lets_the_mesh_pass_is_fine() -> None:
    accepts = [
        entry
        for key in ("iifname", "oifname")
        for entry in [
            {
                "rule": {
                    "family": "ip",
                    "table": "filter",
                    "chain": "DOCKER-USER",
                    "expr": [by(key, "wg0"), {"accept": None}],
                }
            }
        ]
    ]
    document = without("raw", "nat")
    first = next(i for i, entry in enumerate(document["nftables"]) if "rule" in entry)
    document["nftables"][first:first] = accepts
    assert [result for result, _ in said(document)] == ["ok"]


def test_networks_that_docker_does_not_have_are_dropped_by_the_policy_alone() -> None:
    texts = [text for _, text in said(RULES, "10.17.2.0/24")]
    assert "ip filter FORWARD drops what is forwarded from wg0 to 10.17.2.0/24" in texts
    assert not any("raw" in text or "nat" in text for text in texts)


@pytest.mark.parametrize("names", ["wg0", "wg*", {"set": ["wg0", "wg100"]}, ["wg0", "eth0"]])
def test_a_rule_may_name_the_interface_in_every_way_that_nft_has(names: object) -> None:
    document = {
        "nftables": [
            chain("forward", "forward", "drop"),
            rule("forward", by("iifname", names), {"accept": None}),
            rule("forward", by("oifname", names), {"accept": None}),
        ]
    }
    assert [result for result, _ in said(document)] == ["ok"]


def test_one_direction_alone_is_half_a_way() -> None:
    document = {
        "nftables": [
            chain("forward", "forward", "drop"),
            rule("forward", by("oifname", "wg0"), {"accept": None}),
        ]
    }
    dropped = "inet filter forward drops what is forwarded from wg0 to 172.17.0.0/16"
    assert said(document) == [("warn", dropped)]


def test_a_chain_that_jumps_to_itself_ends() -> None:
    document = {
        "nftables": [
            chain("forward", "forward", "drop"),
            chain("loop"),
            rule("forward", {"jump": {"target": "loop"}}),
            rule("loop", {"jump": {"target": "loop"}}),
        ]
    }
    assert {result for result, _ in said(document)} == {"warn"}


@pytest.mark.parametrize("text", ["", None])
def test_a_host_without_nft_is_told_that_nobody_looked(text: str | None) -> None:
    [check] = check_netfilter(text, [DOCKER], "wg0")
    assert check.result == "warn" and "nobody looked" in check.text


@pytest.mark.parametrize("text", ["{", "[]", '{"nftables": [{"chain": 1}]}', '{"nftables": {"a": 1}}'])
def test_what_nft_never_says_is_no_traceback(text: str) -> None:
    [check] = check_netfilter(text, [DOCKER], "wg0")
    assert check.result == "warn"


def test_a_host_without_networks_is_not_asked() -> None:
    assert not list(check_netfilter(json.dumps(RULES), [], "wg0"))
