"""From signed statements and records to the members, and how little a change costs."""

from __future__ import annotations

from typing import Any

import fakemesh as fm
import pytest

from meshd.errors import RegistryError
from meshd.registry.ledger import Ledger
from meshd.registry.record import next_version
from meshd.registry.signer import LogSigner, create_mesh
from meshd.registry.statement import Body, Endorse, Place, RawBody, Rotate, Service

ADMIN, OTHER = fm.key("admin0"), fm.key("admin1")

DAY = 86400


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(fm.make_chain(2))


def test_a_granted_host_with_a_record_is_whole(ledger: Ledger) -> None:
    fm.grant(
        ledger,
        ADMIN,
        "tesla",
        networks=["10.128.1.0/24"],
        region="west-europe",
        roles=["db", "admin"],
        tags=["rack=7"],
        expires_at=int(fm.NOW) + 60,
    )
    fm.fill(ledger, [fm.record("tesla", networks=["10.128.1.0/24"], behind_nat=True)])
    membership = ledger.membership(fm.NOW)
    host = membership.hosts[fm.key("tesla").kid]
    assert (host.name, host.region) == ("tesla", "west-europe")
    assert host.roles == {"db", "admin"} and host.tags == {"rack=7"}
    assert str(host.addresses[0]) == "10.77.0.1"
    assert host.link_address in fm.OVERLAY[1] and host.link_address.version == 6
    assert host.networks == host.granted_networks == {fm.network("10.128.1.0/24")}
    assert host.record is not None and host.record.behind_nat and host.record.listen_port == 51820
    provenance = host.provenance
    assert (provenance.kid, provenance.seq, provenance.signed_at) == (ADMIN.kid, 1, int(fm.NOW))
    assert membership.mesh_ranges == (*fm.OVERLAY, *fm.JAIL)
    assert (membership.mesh_id, membership.generation) == (fm.MESH, 2)
    assert membership.newest_signed_at == int(fm.NOW)
    assert membership.conditions == ()


def test_a_granted_host_without_a_record_is_a_member(ledger: Ledger) -> None:
    fm.grant(ledger, ADMIN, "tesla")
    assert ledger.membership(fm.NOW).hosts[fm.key("tesla").kid].record is None


def test_enrollment_record_serves_until_a_newer_one_comes(ledger: Ledger) -> None:
    enrollment = fm.record("tesla", version=0, mesh="")
    assert ledger.offer(*enrollment).outcome == "pending"
    fm.grant(ledger, ADMIN, "tesla")
    assert ledger.record_bytes(fm.key("tesla").kid) == enrollment[1]
    newer = fm.record("tesla", version=1)
    assert [item.outcome for item in fm.fill(ledger, [newer, enrollment])] == ["new", "refused"]
    assert ledger.refusals() == ()
    with pytest.raises(RegistryError, match="mesh"):
        fm.record("tesla", version=1, mesh="")


def test_one_changed_record_changes_one_host_value(ledger: Ledger) -> None:
    for name in ("tesla", "newton", "bohr"):
        fm.grant(ledger, ADMIN, name)
        fm.fill(ledger, [fm.record(name)])
    before = ledger.membership(fm.NOW)
    assert ledger.membership(fm.NOW + 5) is before
    fm.fill(ledger, [fm.record("bohr", version=2)])
    after = ledger.membership(fm.NOW)
    changed = {host.name for hid, host in after.hosts.items() if before.hosts[hid] is not host}
    assert changed == {"bohr"} and after.generation == before.generation
    fm.grant(ledger, ADMIN, "curie")
    more = ledger.membership(fm.NOW)
    assert [hid for hid, host in after.hosts.items() if more.hosts[hid] is not host] == []


def test_a_grant_ends_and_is_renewed(ledger: Ledger) -> None:
    fm.grant(ledger, ADMIN, "tesla", expires_at=int(fm.NOW) + 60)
    assert fm.names(ledger, fm.NOW + 59) == {"tesla"}
    assert fm.names(ledger, fm.NOW + 60) == set() and fm.codes(ledger, fm.NOW + 60) == {"grant_expired"}
    assert fm.key("tesla").kid in ledger.membership(fm.NOW + 60).unplaced
    assert fm.names(ledger, fm.NOW + 1) == {"tesla"}
    fm.grant(ledger, ADMIN, "tesla", expires_at=int(fm.NOW) + 600)
    assert fm.names(ledger, fm.NOW + 60) == {"tesla"}


def test_the_end_of_a_grant_is_announced_before_it_comes(ledger: Ledger) -> None:
    """Two weeks before, or in the last quarter of a short life. A grant without an end lifts it."""
    end = int(fm.NOW) + 90 * DAY
    fm.grant(ledger, ADMIN, "tesla", expires_at=end)
    assert fm.codes(ledger, end - 14 * DAY - 1) == set()
    assert fm.codes(ledger, end - 14 * DAY) == {"grant_expires_soon"}
    (condition,) = ledger.membership(end - 1).conditions
    assert "2024-02-12 22:13:20Z" in condition.text and "--expires never" in condition.text
    assert fm.names(ledger, end - 1) == {"tesla"}
    assert fm.codes(ledger, fm.NOW) == set()  # the clock was set back
    fm.grant(ledger, ADMIN, "newton", expires_at=int(fm.NOW) + DAY)
    assert fm.codes(ledger, fm.NOW + DAY * 0.75 - 1) == set()
    assert fm.codes(ledger, fm.NOW + DAY * 0.75) == {"grant_expires_soon"}
    fm.grant(ledger, ADMIN, "tesla", expires_at=0)
    assert fm.codes(ledger, end) == {"grant_expired"}  # newton's


def test_another_admin_changes_a_host_with_its_owners_signature(ledger: Ledger) -> None:
    fm.grant(ledger, ADMIN, "tesla", networks=["10.128.1.0/24"])
    before = ledger.membership(fm.NOW).hosts[fm.key("tesla").kid]
    wish = fm.grant(ledger, OTHER, "tesla", networks=["10.128.1.0/24"], region="usa")
    assert ledger.membership(fm.NOW).hosts[fm.key("tesla").kid] == before
    (condition,) = ledger.membership(fm.NOW).conditions
    assert condition.code == "grant_outside_pool" and "admin must endorse it" in condition.text
    LogSigner(ledger, ADMIN).endorse(fm.hash_of(wish), now=fm.NOW)
    after = ledger.membership(fm.NOW).hosts[fm.key("tesla").kid]
    assert (after.addresses, after.granted_networks, after.region) == (
        before.addresses,
        before.granted_networks,
        "usa",
    )
    assert fm.codes(ledger) == set()


def test_placement_ends_at_max_hosts() -> None:
    made = create_mesh(
        name="small", overlay=fm.OVERLAY, now=fm.NOW, max_hosts=2, admin_key=ADMIN, mesh_id=fm.MESH
    )
    ledger = Ledger(made.chain)
    for name in ("a", "b"):
        fm.grant(ledger, ADMIN, name)
    with pytest.raises(RegistryError, match="no effect: the mesh holds 2 hosts"):
        fm.grant(ledger, ADMIN, "c")
    head = ledger.own_log(ADMIN.kid)[-1]
    third = fm.forge_statement(ADMIN, fm.grant_body("c", "10.77.0.9"), seq=3, prev=head.hash)
    ledger.offer(*third)
    assert fm.names(ledger) == {"a", "b"} and fm.codes(ledger) == {"mesh_full"}


def test_a_grant_waits_for_the_threshold_of_admins() -> None:
    ledger = Ledger(fm.make_chain(3, admin_threshold=2))
    granted = fm.grant(ledger, ADMIN, "tesla")
    assert fm.names(ledger) == set() and fm.codes(ledger) == {"grant_not_endorsed"}
    LogSigner(ledger, ADMIN).append(Endorse(hash=fm.hash_of(granted)), now=fm.NOW)
    assert fm.names(ledger) == set()
    LogSigner(ledger, OTHER).endorse(fm.hash_of(granted), now=fm.NOW)
    assert fm.names(ledger) == {"tesla"} and fm.codes(ledger) == set()


def test_an_agreement_that_would_change_nothing_is_refused_and_named() -> None:
    """Nobody hears of such a statement afterwards, so whoever signs it hears of it before."""
    ledger = Ledger(fm.make_chain(3, admin_threshold=2))
    other = LogSigner(ledger, OTHER)

    def refused(item: fm.StoreObject, reason: str) -> None:
        before = dict(ledger.objects())
        with pytest.raises(RegistryError, match=reason):
            other.endorse(fm.hash_of(item), now=fm.NOW)
        assert dict(ledger.objects()) == before

    first, own = fm.grant(ledger, ADMIN, "tesla"), fm.grant(ledger, OTHER, "newton")
    refused(own, "signed by this very key")
    other.endorse(fm.hash_of(first), now=fm.NOW)
    refused(first, "endorsed by this key already")
    second = fm.grant(ledger, ADMIN, "bohr")
    revoke = LogSigner(ledger, ADMIN).revoke(fm.key("bohr").kid, "sold", now=fm.NOW)
    refused(second, "no effect: .*revoke")
    refused(revoke, "needs nobody's agreement")
    refused(("log/x-" + "e" * 64 + ".json", b""), "not held")
    older, newer = fm.grant(ledger, ADMIN, "curie"), fm.grant(ledger, ADMIN, "curie", region="eu")
    other.endorse(fm.hash_of(newer), now=fm.NOW)
    refused(older, "no effect: a later statement")
    taken = fm.forge_statement(
        ADMIN, fm.grant_body("dirac", "10.77.0.1"), seq=6, prev=ledger.own_log(ADMIN.kid)[-1].hash
    )
    fm.fill(ledger, [taken])
    refused(taken, "no effect: .*overlaps")


def test_statements_of_other_kinds_are_kept_and_passed_on(ledger: Ledger) -> None:
    signer = LogSigner(ledger, ADMIN)
    hid = fm.key("tesla").kid
    bodies: list[Body] = [
        Rotate(hids=(), not_before=int(fm.NOW)),
        Service(
            name="postgres",
            kind="patroni",
            port=5432,
            scope="mesh",
            min_endpoints=2,
            check="http=:8008/health",
            state="active",
        ),
        Place(
            hid=hid,
            service="postgres",
            jail="pg",
            address="10.128.1.5",
            tags={"failover_priority": "100"},
            state="active",
        ),
        RawBody(kind="teleport", fields={"to": ["mars"]}),
    ]
    made = [signer.append(body, now=fm.NOW) for body in bodies]
    reader = Ledger(ledger.chain)
    assert {item.outcome for item in fm.fill(reader, made)} == {"new"}
    assert [entry.body for entry in reader.own_log(ADMIN.kid)] == bodies
    assert list(reader.objects()) == list(ledger.objects())
    conditions = reader.membership(fm.NOW).conditions
    assert [(item.code, item.subject) for item in conditions] == [("registry_unknown_kind", "teleport")]


def test_signer_refuses_what_collides(ledger: Ledger) -> None:
    fm.grant(ledger, ADMIN, "tesla", networks=["10.128.1.0/24"])
    address = ledger.membership(fm.NOW).hosts[fm.key("tesla").kid].addresses[0]
    identity = fm.key("newton")
    cases: list[tuple[dict[str, Any], str]] = [
        ({"name": "tesla"}, "name belongs"),
        ({"name": "newton", "addresses": [address]}, "overlaps"),
        ({"name": "newton", "networks": [fm.network("10.128.1.64/26")]}, "overlaps"),
        ({"name": "newton", "networks": [fm.network("10.129.1.0/24")]}, "outside the pools"),
        ({"name": "newton", "networks": [fm.network("10.77.3.0/24")]}, "outside the pools"),
        ({"name": "Newton"}, "DNS label"),
        ({"name": "newton", "roles": ["a b"]}, "label"),
        ({"name": "newton", "networks": [fm.network(f"10.128.{n}.0/24") for n in range(2, 90)]}, "networks"),
    ]
    for arguments, message in cases:
        with pytest.raises(RegistryError, match=message):
            LogSigner(ledger, ADMIN).grant(
                now=fm.NOW, hid=identity.kid, identity=identity.public, **arguments
            )
    with pytest.raises(RegistryError, match="first key's id"):
        LogSigner(ledger, ADMIN).grant(
            now=fm.NOW, hid=identity.kid, identity=fm.key("x").public, name="newton"
        )
    assert len(ledger.own_log(ADMIN.kid)) == 1


def test_addresses_of_revoked_hosts_are_not_given_again(ledger: Ledger) -> None:
    fm.grant(ledger, ADMIN, "tesla")
    LogSigner(ledger, ADMIN).revoke(fm.key("tesla").kid, "sold", now=fm.NOW)
    fm.grant(ledger, ADMIN, "newton")
    host = ledger.membership(fm.NOW).hosts[fm.key("newton").kid]
    assert str(host.addresses[0]) == "10.77.0.2"
    with pytest.raises(RegistryError, match="already revoked"):
        LogSigner(ledger, ADMIN).revoke(fm.key("tesla").kid, "again", now=fm.NOW)


def test_a_full_pool_says_so() -> None:
    made = create_mesh(
        name="tiny", overlay=fm.OVERLAY, now=fm.NOW, pools=[fm.network("10.77.0.0/30")], admin_key=ADMIN
    )
    ledger = Ledger(made.chain)
    fm.grant(ledger, ADMIN, "a")
    fm.grant(ledger, ADMIN, "b")
    with pytest.raises(RegistryError, match="no free IPv4 address"):
        fm.grant(ledger, ADMIN, "c")


def test_ipv6_alone_needs_no_allocation() -> None:
    made = create_mesh(name="six", overlay=fm.OVERLAY[1:], now=fm.NOW, admin_key=ADMIN)
    ledger = Ledger(made.chain)
    fm.grant(ledger, ADMIN, "a")
    (host,) = ledger.membership(fm.NOW).hosts.values()
    assert host.addresses[0] == host.link_address and host.link_address in fm.OVERLAY[1]


def test_record_versions_are_counted_and_end() -> None:
    assert [next_version(0), next_version(41)] == [1, 42]
    with pytest.raises(RegistryError, match="enroll --new-identity"):
        next_version(2**53 - 1)


def test_heads_and_generation_grow_with_what_is_held(ledger: Ledger) -> None:
    assert (ledger.generation, dict(ledger.heads())) == (1, {})
    granted = fm.grant(ledger, ADMIN, "tesla")
    assert (ledger.generation, dict(ledger.heads())) == (2, {ADMIN.kid: (1, fm.hash_of(granted))})
    assert ledger.body(granted[0]) == granted[1]
