"""The daemon beside the jails of an imitated FreeBSD: what it announces, and the routes it gives them."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest
from daemon_rig import Rig, settings_for
from jail_host import BRIDGE, TO_MESH, VNET_JAIL, Host, play

from meshd.backend import freebsd_jails
from meshd.backend.events import Recheck


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is not a hanging tool."""
    monkeypatch.setattr(freebsd_jails, "TIMEOUT_SECONDS", 120.0)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path, ["10.17.1.0/24"])


@pytest.fixture
def auto(tmp_path: Path) -> Host:
    return Host(tmp_path, "auto")


@pytest.mark.slow
def test_a_vnet_jail_that_starts_gets_its_routes_and_the_next_cycle_changes_nothing(host: Host) -> None:
    host.say(*BRIDGE)

    async def scenario(rig: Rig) -> None:
        host.say(*VNET_JAIL)
        start = len(host.calls())
        host.news.tell()
        await host.until(lambda: TO_MESH[-1] in host.calls())
        assert host.changing_since(start) == TO_MESH
        start = len(host.calls())
        await rig.apply()
        assert any(call.startswith("jls") for call in host.calls()[start:])
        assert host.changing_since(start) == []
        assert await rig.codes() == set()

    play(host, scenario)
    assert host.bsd.answer(["route", "-j", "db", "-n", "get", "-inet", "10.17.2.10"]).returncode == 0


@pytest.mark.slow
def test_jails_get_their_routes_when_a_reload_asks_for_it(host: Host, tmp_path: Path) -> None:
    jails = {"networks": ["10.17.1.0/24"]}
    host.say(*BRIDGE, *VNET_JAIL)

    async def scenario(rig: Rig) -> None:
        await host.until(lambda: TO_MESH[-1] in host.calls())
        host.say("jail -r db", "ifconfig epair0a destroy")
        rig.reload_with = settings_for(tmp_path, jails={**jails, "routes": False})
        assert (await rig.ask("reload")).exit_code == 0
        host.say(*VNET_JAIL)
        start = len(host.calls())
        host.news.tell()
        await rig.apply()
        await rig.apply()
        assert host.changing_since(start) == []
        rig.reload_with = settings_for(tmp_path, jails={**jails, "routes": True})
        assert (await rig.ask("reload")).exit_code == 0
        await host.until(lambda: host.changing_since(start) == TO_MESH)

    play(host, scenario)


@pytest.mark.slow
def test_a_jail_that_starts_anew_gets_its_routes_anew(host: Host) -> None:
    host.say(*BRIDGE, *VNET_JAIL)

    async def scenario(rig: Rig) -> None:
        assert host.calls().count(TO_MESH[0]) == 1
        host.say("jail -r db", "ifconfig epair0a destroy", *VNET_JAIL)
        await rig.apply()
        assert host.calls().count(TO_MESH[0]) == 2

    play(host, scenario)


@pytest.mark.slow
def test_shared_ip_jails_get_nothing(host: Host) -> None:
    async def scenario(rig: Rig) -> None:
        start = len(host.calls())
        host.say(
            "ifconfig lo1 create",
            "jail -c name=web path=/ ip4.addr=lo1|10.17.1.10 persist",
            "jail -c name=same path=/ ip4=inherit persist",
        )
        await rig.apply()
        assert [call for call in host.calls()[start:] if "-j" in call or "jexec" in call] == []

    play(host, scenario)


@pytest.mark.slow
def test_the_plan_shows_what_a_jail_would_get_and_why(host: Host) -> None:
    async def scenario(rig: Rig) -> None:
        assert (await rig.plan()).changes == ()
        host.say(*BRIDGE, *VNET_JAIL)
        plan = await rig.plan()
        assert [change.summary for change in plan.changes] == [
            "add route 10.17.0.0/16 via 10.17.1.1 inside jail db",
            "add route 10.99.0.0/16 via 10.17.1.1 inside jail db",
        ]
        assert "does not go through this host" in plan.changes[0].reason
        assert plan.counts == {"AddJailRoute": 2}
        assert TO_MESH[0] not in host.calls()

    play(host, scenario)


@pytest.mark.slow
def test_an_idle_cycle_asks_no_jail(host: Host) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.apply()
        start = len(host.calls())
        await rig.turn()
        assert host.calls()[start:] == [
            "ifconfig wg0",
            "netstat -rnW -f inet --libxo json",
            "netstat -rnW -f inet6 --libxo json",
            "wg show wg0 dump",
        ]
        host.elapsed += 61
        start = len(host.calls())
        await rig.turn()
        assert host.calls()[start:][-1].startswith("jls ")

    play(host, scenario)


@pytest.mark.slow
def test_a_changed_route_makes_nobody_ask_for_jails(host: Host) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.apply()
        start, looks = len(host.calls()), host.calls().count("wg show wg0 dump")
        host.news.tell(Recheck.MESH)
        await host.until(lambda: host.calls().count("wg show wg0 dump") > looks)
        assert not any(call.startswith("jls") for call in host.calls()[start:])

    play(host, scenario)


@pytest.mark.slow
def test_a_host_without_jail_networks_never_asks_for_jails(tmp_path: Path) -> None:
    host = Host(tmp_path, [])

    async def scenario(rig: Rig) -> None:
        await rig.apply()
        assert not any(call.startswith("jls") for call in host.calls())
        whole = [call for call in host.calls() if call.startswith("ifconfig -a")]
        assert len(whole) == 1  # its own interfaces under other names, once a process

    play(host, scenario)


@pytest.mark.slow
def test_with_auto_the_first_jail_announces_its_network_and_the_last_one_takes_nothing_back(
    auto: Host,
) -> None:
    async def scenario(rig: Rig) -> None:
        assert await auto.announced() == set()
        auto.say("ifconfig lo1 create", "jail -c name=web path=/ ip4.addr=lo1|10.17.11.10 persist")
        auto.news.tell()
        stored = auto.stored_record()
        await auto.until(lambda: auto.stored_record() != stored)
        assert await auto.announced() == {"10.17.11.0/24"}
        auto.say("jail -r web")
        for _ in range(2):
            auto.news.tell()
            await rig.apply()
        assert await auto.announced() == {"10.17.11.0/24"}

    play(auto, scenario)


@pytest.mark.slow
def test_with_auto_a_jail_outside_the_grant_is_said(auto: Host) -> None:
    auto.say("jail -c name=web path=/ ip4.addr=10.17.3.10 persist")

    async def scenario(rig: Rig) -> None:
        (condition,) = (await rig.status()).conditions
        assert (condition.code, condition.subject) == ("network_not_granted", "web")
        assert "10.17.3.10" in condition.text

    play(auto, scenario)


@pytest.mark.slow
def test_a_jail_that_is_a_host_of_the_mesh_is_none_of_this_host_s_jails(auto: Host) -> None:
    """Nor are the jails inside it: newton announces them, from a network stack of its own."""
    hosts = auto.rig.daemon.parts.feed.membership.hosts.values()
    newton = next(host for host in hosts if host.name == "newton")
    addresses = [
        f"ifconfig -j n wg0 {'inet6' if a.version == 6 else 'inet'} {a} alias" for a in newton.addresses
    ]
    auto.say(
        "kldload -n if_wg",
        "jail -c name=n vnet path=/ children.max=8 persist",
        "ifconfig -j n wg0 create",
        *(f"{line.replace(' alias', '')}/{32 if 'inet ' in line else 128} alias" for line in addresses),
        "ifconfig -j n wg0 up",
        "jexec n ifconfig lo1 create",
        "jexec n jail -c name=web2 path=/ ip4.addr=lo1|10.17.2.10 persist",
        "jexec n jail -c name=odd path=/ ip4.addr=lo1|10.17.11.77 persist",
        "jail -c name=n2 path=/ ip4.addr=10.17.3.10 persist",
    )

    async def scenario(rig: Rig) -> None:
        await rig.apply()
        conditions = [(one.code, one.subject) for one in (await rig.status()).conditions]
        assert conditions == [("network_not_granted", "n2")]
        assert await auto.announced() == set()

    play(auto, scenario)


@pytest.mark.slow
def test_a_jail_that_becomes_a_host_of_the_mesh_is_no_jail_any_more(auto: Host) -> None:
    auto.say("kldload -n if_wg", "jail -c name=bohr vnet path=/ persist", "ifconfig -j bohr wg0 create")
    auto.say("ifconfig -j bohr wg0 inet 10.99.0.3/32 alias", "ifconfig -j bohr wg0 up")

    async def scenario(rig: Rig) -> None:
        assert await rig.codes() == {"network_not_granted"}
        auto.mesh.add("bohr")
        auto.mesh.publish(auto.store)
        await rig.news_and_turn()
        assert await rig.codes() == set()

    play(auto, scenario)


@pytest.mark.slow
def test_jls_that_hangs_is_said_and_the_mesh_is_as_it_should_be(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freebsd_jails, "TIMEOUT_SECONDS", 0.5)
    host.say(*BRIDGE, *VNET_JAIL)
    host.bsd.hang("jls")

    async def scenario(rig: Rig) -> None:
        assert await rig.codes() == {"jails_unknown"}
        assert {route.destination for route in rig.kernel().routes} >= {ip_network("10.17.2.0/24")}
        start = len(host.calls())
        await rig.turn()  # and the next cycle does not wait for it again
        assert not any(call.startswith("jls") for call in host.calls()[start:])
        host.bsd.hang("")
        monkeypatch.setattr(freebsd_jails, "TIMEOUT_SECONDS", 120.0)
        host.elapsed += 11
        await rig.turn()
        assert await rig.codes() == set() and TO_MESH[1] in host.calls()

    play(host, scenario)


@pytest.mark.slow
def test_a_jail_that_ends_before_its_route_is_set_costs_one_condition_until_the_next_look(host: Host) -> None:
    host.say(*BRIDGE, *VNET_JAIL)
    # Two routes in each of two turns: the first one, and that of the rig.
    host.bsd.fail("route -j db", stderr="route: Jail not found\n", times=4)

    async def scenario(rig: Rig) -> None:
        (condition,) = (await rig.status()).conditions
        assert (condition.code, condition.subject) == ("jail_route_failed", "db")
        assert "it has ended" in condition.text
        host.elapsed += 11
        await rig.turn()
        assert await rig.codes() == set() and host.calls().count(TO_MESH[1]) >= 1

    play(host, scenario)


@pytest.mark.slow
def test_without_the_module_jails_are_looked_after_all_the_same(host: Host) -> None:
    host.say(*BRIDGE, *VNET_JAIL)
    host.bsd.without_module()

    async def scenario(rig: Rig) -> None:
        assert await rig.codes() == {"apply_failed"}
        assert TO_MESH[0] in host.calls()

    play(host, scenario)


@pytest.mark.slow
def test_a_jail_nobody_can_route_for_is_said(host: Host) -> None:
    host.say("ifconfig bridge create", *VNET_JAIL)

    async def scenario(rig: Rig) -> None:
        (condition,) = (await rig.status()).conditions
        assert (condition.code, condition.subject) == ("jail_route_failed", "db")
        assert "give the jail's bridge one" in condition.text
        host.say("ifconfig bridge0 inet 10.17.1.1/24 up")
        await rig.apply()
        assert await rig.codes() == set() and TO_MESH[0] in host.calls()

    play(host, scenario)


@pytest.mark.slow
def test_bastille_goes_on_finding_the_gateway_of_this_hosts_own_jails(host: Host) -> None:
    """It gives a jail NAT only then; asked before the jail's address exists."""
    host.say("ifconfig epair create", "ifconfig epair0a inet 192.0.2.2/24 up")
    host.say("route -n add default 192.0.2.1")

    async def scenario(rig: Rig) -> None:
        await rig.apply()
        for address, gateway in (("10.17.1.10", True), ("10.17.11.10", True), ("10.17.2.10", False)):
            said = host.bsd.answer(["route", "-n", "get", "-inet", address]).stdout
            assert ("gateway: 192.0.2.1" in said) is gateway, said
        assert not any("-blackhole" in call or "-reject" in call for call in host.calls())

    play(host, scenario)
