"""What a host says of its own placements reaches the others, with its age, and nobody else's word does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from daemon_rig import Rig
from exchange_host import ExchangeHost, client_for, partner_for
from exchange_rig import Loopback, all_running, build_exchanging
from meshes import NOW, SignedHost, SignedMesh
from until import until

from meshd.control import placement_health
from meshd.errors import RegistryError, StoreError
from meshd.exchange import health as health_module
from meshd.exchange import health_exchange
from meshd.exchange.health import (
    CHANGE_SECONDS,
    MAX_REPORT_BYTES,
    RESULT_SECONDS,
    RETRY_SECONDS,
    TELL_SECONDS,
    HealthReport,
    HeardHealth,
    PlacementReport,
    Telling,
    build_report,
)
from meshd.exchange.partner import Partner
from meshd.model.network import IPAddress
from meshd.model.path import PathStats
from meshd.model.service import MAX_CHECKED_PLACEMENTS, CheckResult, HealthCheck
from meshd.registry.statement import Place, Service

NAMES = ("tesla", "newton", "bohr")


@pytest.fixture
def mesh() -> SignedMesh:
    """``db`` lives on tesla and on bohr."""
    mesh = SignedMesh.create()
    for name in NAMES:
        mesh.add(name)
    declared = Service(
        name="db", kind="x", port=5432, scope="mesh", min_endpoints=1, check="tcp", state="active"
    )
    key, envelope = mesh.signer.service(declared, now=NOW)
    mesh.objects[key] = envelope
    for name in ("tesla", "bohr"):
        hid = mesh.hosts[name].hid
        address = str(mesh.ledger.membership(NOW).hosts[hid].addresses[0])
        body = Place(hid=hid, service="db", jail="", address=address, tags={}, state="active")
        key, envelope = mesh.signer.place(body, now=NOW)
        mesh.objects[key] = envelope
    return mesh


def a_result(**changes: object) -> PlacementReport:
    result = PlacementReport(service="db", jail="", works=True, age_seconds=1.0)
    return msgspec.structs.replace(result, **changes)


def report(*results: PlacementReport) -> HealthReport:
    return HealthReport(placements=results or (a_result(),))


# --- daemons


class _Checks:
    """What the check of each host's placements finds, in place of a service that listens in the mesh."""

    def __init__(self, rigs: dict[str, Rig]) -> None:
        self.works = dict.fromkeys(rigs, True)
        for name, rig in rigs.items():
            rig.daemon.parts.services.follower.health._ask = self._of(name)

    def _of(self, name: str) -> Callable[[HealthCheck, str, int], bool]:
        def ask(check: HealthCheck, address: str, port: int) -> bool:
            return self.works[name]

        return ask


async def elsewhere(rig: Rig) -> dict[tuple[str, str], str]:
    """By host and service, after a turn: what this host knows of the others' placements."""
    await rig.turn()
    return {(each.hid, each.service): each.health for each in (await rig.status()).services.elsewhere}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement_health, "CHECK_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(health_exchange, "REPORT_CHECK_SECONDS", 0.02)
    monkeypatch.setattr(health_module, "CHANGE_SECONDS", 0.0)


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_what_a_host_finds_of_its_own_placement_is_known_to_the_others(
    tmp_path: Path, mesh: SignedMesh
) -> None:
    loopback = Loopback.of(mesh.hosts.values())
    rigs = {name: build_exchanging(tmp_path, mesh, mesh.hosts[name], loopback) for name in NAMES}
    checks = _Checks(rigs)
    tesla, bohr = (mesh.hosts[name].hid for name in ("tesla", "bohr"))

    async def found(name: str, expected: dict[tuple[str, str], str]) -> None:
        async def agrees() -> bool:
            for each in ("tesla", "bohr"):
                await rigs[each].turn()  # its own checks are asked after each turn
            return await elsewhere(rigs[name]) == expected

        await until(agrees)

    async def scenario() -> None:
        async with all_running(rigs.values()):
            await found("newton", {(tesla, "db"): "pass", (bohr, "db"): "pass"})
            await found("tesla", {(bohr, "db"): "pass"})
            checks.works["bohr"] = False
            await found("newton", {(tesla, "db"): "pass", (bohr, "db"): "fail"})
            checks.works["bohr"] = True
            await found("newton", {(tesla, "db"): "pass", (bohr, "db"): "pass"})
            view = rigs["newton"].daemon.parts.services.follower._view
            assert view is not None
            for place in view.services["db"].placements:
                assert place.health == "pass"
                assert place.health_age_seconds is not None and place.health_age_seconds < RESULT_SECONDS

    asyncio.run(scenario())


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_a_host_that_was_out_of_reach_is_told_when_it_answers_again(
    tmp_path: Path, mesh: SignedMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    loopback = Loopback.of(mesh.hosts.values())
    rigs = {name: build_exchanging(tmp_path, mesh, mesh.hosts[name], loopback) for name in NAMES}
    _Checks(rigs)
    newton = mesh.hosts["newton"].hid
    paths = rigs["tesla"].prober.stats
    paths[newton] = PathStats(up=False)
    rigs["bohr"].prober.stats[newton] = PathStats(up=False)

    async def scenario() -> None:
        async with all_running(rigs.values()):
            await until(lambda: elsewhere(rigs["bohr"]))  # so tesla has spoken to whom it reaches
            assert await elsewhere(rigs["newton"]) == {}
            paths[newton] = PathStats(up=True)
            await until(lambda: elsewhere(rigs["newton"]))
            assert await elsewhere(rigs["newton"]) == {(mesh.hosts["tesla"].hid, "db"): "pass"}

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_member_that_speaks_of_other_hosts_placements_changes_nothing(
    tmp_path: Path, mesh: SignedMesh
) -> None:
    loopback = Loopback.of(mesh.hosts.values())
    rig = build_exchanging(tmp_path, mesh, mesh.hosts["tesla"], loopback)
    newton, bohr = mesh.hosts["newton"], mesh.hosts["bohr"]

    def partner(asker: SignedHost) -> Partner:
        address: IPAddress = loopback.addresses[mesh.hosts["tesla"].hid]
        source: IPAddress = loopback.addresses[asker.hid]
        identity = mesh.hosts["tesla"].identity.public
        return Partner(hid="", name="tesla", identity_key=identity, address=address, source=source)

    async def say(asker: SignedHost, said: HealthReport) -> None:
        client = client_for(mesh, loopback.port, asker)
        await asyncio.to_thread(client.health, partner(asker), said)

    async def scenario() -> None:
        async with all_running([rig]):
            await say(newton, report(a_result(works=False), a_result(service="made-up")))
            assert await elsewhere(rig) == {}, "newton has no placement, and bohr's is not its to judge"
            await say(bohr, report())
            await say(newton, report(a_result(works=False)))
            assert await elsewhere(rig) == {(bohr.hid, "db"): "pass"}

    asyncio.run(scenario())


# --- one server, and members that mean no good


def test_a_report_is_of_the_host_that_sent_it(mesh: SignedMesh, tesla: ExchangeHost, port: int) -> None:
    newton = mesh.hosts["newton"]
    client_for(mesh, port, newton).health(partner_for(tesla, newton), report())
    assert tesla.heard == [(newton.hid, report())]


def test_a_process_without_the_hosts_key_says_nothing_of_its_placements(
    mesh: SignedMesh, tesla: ExchangeHost, port: int
) -> None:
    newton = mesh.hosts["newton"]
    with pytest.raises(StoreError, match="401 a host alone speaks of its placements"):
        client_for(mesh, port).health(partner_for(tesla, newton), report())
    assert tesla.heard == []


def test_reports_without_end_are_limited_and_other_hosts_are_heard(
    mesh: SignedMesh, tesla: ExchangeHost, port: int
) -> None:
    newton, bohr = mesh.hosts["newton"], mesh.hosts["bohr"]
    client, partner = client_for(mesh, port, newton), partner_for(tesla, newton)
    with pytest.raises(StoreError, match="429"):
        for _ in range(100):
            client.health(partner, report())
    client_for(mesh, port, bohr).health(partner_for(tesla, bohr), report())
    assert {hid for hid, _ in tesla.heard} == {newton.hid, bohr.hid}


MANY = tuple(a_result(jail=f"jail{number}") for number in range(MAX_CHECKED_PLACEMENTS + 1))


@pytest.mark.parametrize(
    ("said", "word"),
    [
        (report(a_result(age_seconds=-1.0)), "age_seconds -1 seen, 0 to 90 expected"),
        (report(a_result(age_seconds=-1e308)), "expected"),
        (report(a_result(age_seconds=RESULT_SECONDS + 1)), "age_seconds 91 seen, 0 to 90 expected"),
        (report(a_result(), a_result(works=False)), "one placement twice"),
        (report(*MANY), "51 placements seen, at most 50 expected"),
        (report(a_result(jail="x" * MAX_REPORT_BYTES)), f"at most {MAX_REPORT_BYTES} expected"),
    ],
)
def test_a_report_outside_its_bounds_is_refused_whole(
    mesh: SignedMesh, tesla: ExchangeHost, port: int, said: HealthReport, word: str
) -> None:
    newton = mesh.hosts["newton"]
    with pytest.raises(StoreError, match=word):
        client_for(mesh, port, newton).health(partner_for(tesla, newton), said)
    assert tesla.heard == []


@pytest.mark.parametrize("age", ["1e999", "-1e999", "NaN", "null", '"1"', "true"])
def test_an_age_that_is_no_number_of_seconds_is_refused(age: str) -> None:
    body = f'{{"placements": [{{"service": "db", "jail": "", "works": true, "age_seconds": {age}}}]}}'
    with pytest.raises(RegistryError, match="HealthReport"):
        health_module.parse_report(body.encode())


# --- how old, and how often


def test_what_was_heard_grows_old_and_is_forgotten_unless_it_is_said_again() -> None:
    heard, key = HeardHealth(), ("a", "db", "")
    heard.hear("a", report(a_result(age_seconds=5.0)), now=100.0)
    assert heard.results(130.0) == {key: CheckResult(works=True, age_seconds=35.0)}
    assert heard.results(100.0 + RESULT_SECONDS - 5.0).keys() == {key}
    assert heard.results(100.0 + RESULT_SECONDS - 4.9) == {}
    heard.hear("a", report(a_result(works=False, age_seconds=0.0)), now=150.0)
    assert heard.results(151.0) == {key: CheckResult(works=False, age_seconds=1.0)}
    heard.hear("a", HealthReport(placements=()), now=152.0)
    assert heard.results(152.0) == {}, "the newest report is all that counts"


def test_a_host_that_is_none_any_more_is_forgotten() -> None:
    heard = HeardHealth()
    heard.hear("a", report(), now=0.0)
    heard.hear("b", report(), now=0.0)
    heard.keep_only({"b", "c"})
    assert heard.results(0.0).keys() == {("b", "db", "")}


def test_a_check_that_hangs_is_not_told_as_if_it_were_news() -> None:
    found = {
        ("db", ""): CheckResult(works=True, age_seconds=RESULT_SECONDS + 1),
        ("db", "pg"): CheckResult(works=True, age_seconds=1.0),
    }
    assert build_report(found) == report(a_result(jail="pg"))


def test_hosts_are_told_at_once_when_something_changes_and_now_and_then_when_not() -> None:
    telling, good, bad = Telling(), report(), report(a_result(works=False))
    assert telling.due(report(a_result(age_seconds=9.0)), {"a", "b"}, 0.0) == ["a", "b"]
    for hid in ("a", "b"):
        telling.told(hid, good, 0.0, taken=True)
    assert telling.due(report(a_result(age_seconds=20.0)), {"a", "b"}, TELL_SECONDS - 1) == []
    assert telling.due(good, {"a", "b"}, TELL_SECONDS) == ["a", "b"]
    assert telling.due(bad, {"a", "b"}, CHANGE_SECONDS - 1) == []
    assert telling.due(bad, {"a", "b"}, CHANGE_SECONDS) == ["a", "b"]
    telling.told("a", bad, CHANGE_SECONDS, taken=False)
    assert telling.due(bad, {"a"}, CHANGE_SECONDS + RETRY_SECONDS - 1) == []
    assert telling.due(bad, {"a"}, CHANGE_SECONDS + RETRY_SECONDS) == ["a"]
    assert telling.due(good, {"b"}, 1.0) == ["b"], "out of reach in between"


def test_a_host_without_placements_says_nothing_but_that_they_are_gone() -> None:
    telling, nothing = Telling(), HealthReport(placements=())
    assert telling.due(nothing, {"a"}, 0.0) == []
    telling.told("a", report(), 0.0, taken=True)
    assert telling.due(nothing, {"a"}, CHANGE_SECONDS) == ["a"]
    telling.told("a", nothing, CHANGE_SECONDS, taken=True)
    assert telling.due(nothing, {"a"}, 10 * TELL_SECONDS) == []
