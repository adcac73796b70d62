"""jls(8) and the interfaces of whole stacks, read: transcripts of a real 15.1, jls's own code, and junk."""

from __future__ import annotations

import json
from contextlib import suppress
from ipaddress import ip_address, ip_interface, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transcripts import DIRECTORY, Entry, entries

from meshd.backend.parse import parse_routes
from meshd.backend.parse_jails import find_unknown_parameter, jail_route, parse_interfaces, parse_jls
from meshd.errors import BackendError
from meshd.model.jail import Jail, JailRoute

QUERY = "jls --libxo json jid name vnet ip4.addr ip6.addr path"
WEB = "/usr/local/bastille/jails/web/root"
DB = "/usr/local/bastille/jails/db/root"


def summary(entry: Entry) -> list[str]:
    return [
        " ".join([str(jail.jid), jail.name, *["vnet"] * jail.vnet, *sorted(map(str, jail.addresses))])
        for jail in parse_jls(entry.stdout)
    ]


def test_every_recorded_list_of_jails_reads() -> None:
    assert [summary(entry) for entry in entries(QUERY)] == [
        [],
        ["1 web 10.17.1.10 10.17.1.11", "2 db vnet", "3 shared", "4 none"],
        [
            "1 h1 vnet",
            "2 h2 vnet",
            "3 h3 vnet",
            "4 h1.web 10.17.1.10",
            "5 h2.web 10.17.2.10",
            "6 h3.web 10.17.3.10",
        ],
        ["12 web 10.17.1.10"],
        ["17 web 10.17.1.10", "19 db vnet"],
        ["17 web 10.17.1.10"],
    ]


def golden(command: str) -> bytes:
    text = (DIRECTORY.parent / "jls.golden.txt").read_text()
    return text.partition(f"$ {command}\n")[2].partition("\n$ ")[0].encode()


@pytest.mark.parametrize("option", ["", "-n "])
def test_what_jls_itself_prints_for_jails_of_every_sort(option: str) -> None:
    names = (
        "jid name vnet ip4 ip4.addr ip6.addr host.hostname path"
        if not option
        else ("jid name vnet ip4 ip4.addr ip6.addr path")
    )
    addresses = frozenset({ip_address("10.17.1.10"), ip_address("10.17.1.11")})
    assert parse_jls(golden(f"jls {option}--libxo json {names}")) == (
        Jail(jid=1, name="web", vnet=False, addresses=addresses, path=WEB),
        Jail(jid=2, name="db", vnet=True, path=DB),
        Jail(jid=3, name="nonet", vnet=False, path="/usr/local/bastille/jails/nonet/root"),
    )


def rows(*jails: object) -> bytes:
    return json.dumps({"__version": "2", "jail-information": {"jail": jails}}).encode()


def test_a_jid_that_is_a_number_and_a_jail_without_ipv6() -> None:
    (jail,) = parse_jls(rows({"jid": 7, "name": "a", "vnet": "disable", "ip4.addr": ["10.0.0.1"]}))
    assert jail == Jail(jid=7, name="a", vnet=False, addresses=frozenset({ip_address("10.0.0.1")}))


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ({"jid": "x", "name": "a", "vnet": "new"}, "jid 'x'"),
        ({"jid": "1", "name": "", "vnet": "new"}, "name ''"),
        ({"jid": "1", "name": "a", "vnet": "new", "ip4.addr": "10.0.0.1"}, "ip4.addr '10.0.0.1'"),
        ({"jid": "1", "name": "a", "vnet": "new", "ip6.addr": ["10.0.0.300"]}, "jail a: ip6.addr"),
        ({"name": "a", "vnet": "new"}, "KeyError"),
        ("a", "TypeError"),
    ],
)
def test_a_row_that_makes_no_sense_is_named(row: object, named: str) -> None:
    with pytest.raises(BackendError, match="jls") as caught:
        parse_jls(rows(row))
    assert named in str(caught.value)


def test_the_parameter_that_a_kernel_lacks_is_found() -> None:
    assert find_unknown_parameter(b"jls: unknown parameter: ip6.addr\n") == "ip6.addr"
    assert find_unknown_parameter(b"jls: something else\n") is None


STACKS = [
    entry
    for prefix in ("ifconfig -j db", "jexec -l db /sbin/ifconfig", "jexec h1 ifconfig -a")
    for entry in entries(prefix)
    if b": flags=" in entry.stdout
]


@pytest.mark.parametrize("entry", STACKS, ids=lambda entry: f"{entry.source[:2]} {entry.command}")
def test_every_recorded_stack_reads(entry: Entry) -> None:
    found = parse_interfaces(entry.stdout)
    assert [one.name for one in found] == [
        line.split(b":")[0].decode() for line in entry.stdout.splitlines() if not line.startswith(b"\t")
    ]


def test_the_addresses_of_a_vnet_jail() -> None:
    _, epair = parse_interfaces(entries("jexec -l db /sbin/ifconfig")[0].stdout)
    assert epair.addresses == {ip_interface("10.17.1.20/24")} and "UP" in epair.flags


def test_the_routes_of_a_vnet_jail() -> None:
    table = parse_routes(entries("netstat -j db -rnW -f inet --libxo")[0].stdout, 4)
    assert [jail_route(route) for route in table] == [
        JailRoute(destination=ip_network("10.17.0.0/16"), gateway=ip_address("10.17.1.1")),
        JailRoute(destination=ip_network("10.17.1.0/24"), gateway=None),
        JailRoute(destination=ip_network("10.17.1.20/32"), gateway=None),
    ]


@given(st.binary(max_size=300))
def test_junk_raises_only_backend_errors(junk: bytes) -> None:
    for parse in (
        lambda: parse_jls(junk),
        lambda: parse_interfaces(junk),
        lambda: parse_interfaces(b"lo0: flags=0<> metric 0 mtu 1\n" + junk),
    ):
        with suppress(BackendError):
            parse()
    find_unknown_parameter(junk)


values = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.lists(st.text(max_size=5) | st.integers() | st.just("10.0.0.1"), max_size=3)
)


@given(
    st.dictionaries(st.sampled_from(["jid", "name", "vnet", "ip4.addr", "ip6.addr", "path"]), values) | values
)
def test_json_of_another_shape_raises_only_backend_errors(row: object) -> None:
    for document in (rows(row), json.dumps({"jail-information": row}).encode(), json.dumps(row).encode()):
        with suppress(BackendError):
            parse_jls(document)
