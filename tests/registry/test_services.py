"""Signed services and placements: what counts, and what no signature can do."""

from __future__ import annotations

import itertools

import fakemesh as fm
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.errors import RegistryError
from meshd.model.service import Placement, Service
from meshd.registry.ledger import Ledger
from meshd.registry.root_changes import retired_entry
from meshd.registry.signer import LogSigner
from meshd.registry.signing import SigningKey
from meshd.registry.statement import Endorse, Place
from meshd.registry.statement import Service as Declaration

ADA, BOB = fm.key("admin0"), fm.key("admin1")


def declare(name: str = "postgres", *, kind: str = "patroni", state: str = "active") -> Declaration:
    return Declaration(
        name=name, kind=kind, port=5432, scope="mesh", min_endpoints=1, check="tcp", state=state
    )


def place(host: str, address: str, *, state: str = "active", jail: str = "", **tags: str) -> Place:
    return Place(hid=fm.key(host).kid, service="postgres", jail=jail, address=address, tags=tags, state=state)


def a_mesh(threshold: int = 1) -> Ledger:
    """tesla has 10.77.0.1 and the jails of 10.128.1.0/24, newton 10.77.0.2."""
    ledger = Ledger(fm.make_chain(3, admin_threshold=threshold))
    for name, networks in (("tesla", ("10.128.1.0/24",)), ("newton", ())):
        item = fm.grant(ledger, ADA, name, networks=networks)
        if threshold > 1:
            LogSigner(ledger, BOB).endorse(fm.hash_of(item), now=fm.NOW)
        fm.fill(ledger, [fm.record(name)])
    return ledger


@pytest.fixture
def ledger() -> Ledger:
    return a_mesh()


def sign(ledger: Ledger, body: Declaration | Place, key: SigningKey = ADA) -> fm.StoreObject:
    signer = LogSigner(ledger, key)
    if isinstance(body, Place):
        return signer.place(body, now=fm.NOW)
    return signer.service(body, now=fm.NOW)


def force(ledger: Ledger, body: Declaration | Place, key: SigningKey = BOB) -> fm.StoreObject:
    """Signed without the signer's own checks, as whoever holds a stolen key would."""
    return LogSigner(ledger, key).append(body, now=fm.NOW)


def service(ledger: Ledger, name: str = "postgres") -> Service:
    return ledger.membership(fm.NOW).services[name]


def living(ledger: Ledger) -> dict[str, str]:
    return {str(each.address): each.state for each in service(ledger).placements if each.state != "retired"}


def one(ledger: Ledger) -> Placement:
    [placement] = service(ledger).placements
    return placement


def test_a_service_lives_where_it_was_placed_and_says_who_signed_it(ledger: Ledger) -> None:
    sign(ledger, declare())
    item = sign(ledger, place("tesla", "10.128.1.5", jail="pg", failover_priority="100"))
    found = one(ledger)
    assert (found.jail, str(found.address), found.state) == ("pg", "10.128.1.5", "active")
    assert found.tags == {"failover_priority": "100"} and found.provenance.statement == fm.hash_of(item)
    assert service(ledger).kind == "patroni" and not service(ledger).retired


def test_the_newest_word_on_a_placement_counts(ledger: Ledger) -> None:
    sign(ledger, declare())
    sign(ledger, place("tesla", "10.77.0.1"))
    sign(ledger, place("tesla", "10.128.1.5"))
    assert living(ledger) == {"10.128.1.5": "active"}
    sign(ledger, place("tesla", "10.128.1.5", state="draining"))
    assert living(ledger) == {"10.128.1.5": "draining"}
    sign(ledger, place("tesla", "10.128.1.5", state="retired"))
    assert living(ledger) == {} and one(ledger).state == "retired"


@pytest.mark.parametrize("address", ["10.77.0.2", "10.128.2.5", "192.0.2.1"])
def test_no_placement_points_outside_its_own_host(ledger: Ledger, address: str) -> None:
    sign(ledger, declare())
    with pytest.raises(RegistryError, match="an address of tesla"):
        sign(ledger, place("tesla", address))
    force(ledger, place("tesla", address), ADA)
    assert living(ledger) == {} and "placement_outside_host" in fm.codes(ledger)


def test_a_placement_outside_its_host_takes_nothing_from_the_others(ledger: Ledger) -> None:
    sign(ledger, declare())
    sign(ledger, place("newton", "10.77.0.2"))
    force(ledger, place("tesla", "10.77.0.2"), ADA)
    assert living(ledger) == {"10.77.0.2": "active"} and one(ledger).hid == fm.key("newton").kid


def test_a_placement_falls_away_with_its_host(ledger: Ledger) -> None:
    sign(ledger, declare())
    sign(ledger, place("tesla", "10.77.0.1"))
    LogSigner(ledger, ADA).revoke(fm.key("tesla").kid, "gone", now=fm.NOW)
    assert service(ledger).placements == ()


def test_a_name_stays_with_the_service_that_had_it(ledger: Ledger) -> None:
    sign(ledger, declare())
    sign(ledger, place("newton", "10.77.0.2"))
    with pytest.raises(RegistryError, match="'patroni' expected"):
        sign(ledger, declare(kind="http"), BOB)
    force(ledger, declare(kind="http"), BOB)
    force(ledger, declare(kind="http", state="retired"), BOB)
    assert service(ledger).kind == "patroni" and not service(ledger).retired
    assert living(ledger) == {"10.77.0.2": "active"} and "service_conflict" in fm.codes(ledger)


def test_a_retired_name_is_free_for_another_kind(ledger: Ledger) -> None:
    sign(ledger, declare())
    sign(ledger, declare(state="retired"))
    assert service(ledger).retired
    sign(ledger, declare(kind="http"), BOB)
    assert service(ledger).kind == "http" and not service(ledger).retired
    assert "service_conflict" not in fm.codes(ledger)


def test_of_two_placements_at_one_address_the_older_one_counts(ledger: Ledger) -> None:
    sign(ledger, declare())
    sign(ledger, place("tesla", "10.128.1.5", jail="pg"))
    with pytest.raises(RegistryError, match="in pg already"):
        sign(ledger, place("tesla", "10.128.1.5", jail="other"))
    force(ledger, place("tesla", "10.128.1.5", jail="other"), ADA)
    assert one(ledger).jail == "pg" and "service_conflict" in fm.codes(ledger)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (declare(state="retired"), "no service of that name"),
        (place("tesla", "10.77.0.1"), "not declared"),
        (
            Place(hid="ab" * 16, service="x", jail="", address="10.77.0.1", tags={}, state="active"),
            "no statement",
        ),
    ],
)
def test_what_would_have_no_effect_is_not_signed(
    ledger: Ledger, body: Declaration | Place, words: str
) -> None:
    with pytest.raises(RegistryError, match=words):
        sign(ledger, body)
    assert ledger.membership(fm.NOW).services == {}


@pytest.mark.parametrize(
    "value", ["two\nlines", "x" * 201, "\x1b[2J", "caf\N{LATIN SMALL LETTER E WITH ACUTE}"]
)
def test_words_that_would_break_a_configuration_file_are_no_statement(ledger: Ledger, value: str) -> None:
    sign(ledger, declare())
    with pytest.raises(RegistryError, match="printable ASCII"):
        force(ledger, place("tesla", "10.77.0.1", role=value), BOB)


@pytest.mark.parametrize(
    "check",
    ["ping", "tcp=:70000", 'http=:80/"$SECRET"', "http=:80/${SECRET}", "http=:80/a#b", "http=:80/\\x0aX"],
)
def test_a_check_says_where_to_look_and_nothing_to_the_program_that_reads_it(
    ledger: Ledger, check: str
) -> None:
    """HAProxy puts variables of its environment in the place of their names, and asks the thief for that."""
    with pytest.raises(RegistryError, match="tcp, tcp=:PORT or http=:PORT/PATH expected"):
        force(ledger, msgspec.structs.replace(declare(name="other"), check=check), BOB)


def test_where_two_must_agree_one_adds_nothing(ledger: Ledger) -> None:
    ledger = a_mesh(threshold=2)
    item = force(ledger, declare(), ADA)
    assert ledger.membership(fm.NOW).services == {} and "service_not_endorsed" in fm.codes(ledger)
    LogSigner(ledger, BOB).endorse(fm.hash_of(item), now=fm.NOW)
    assert service(ledger).kind == "patroni" and "service_not_endorsed" not in fm.codes(ledger)


def test_where_two_must_agree_one_takes_back_and_moves_nothing() -> None:
    ledger = a_mesh(threshold=2)
    for body in (declare(), place("tesla", "10.77.0.1", role="first")):
        LogSigner(ledger, BOB).endorse(fm.hash_of(force(ledger, body, ADA)), now=fm.NOW)
    force(ledger, place("tesla", "10.128.1.5"), BOB)
    force(ledger, place("tesla", "10.128.1.5", state="draining", role="other"), BOB)
    assert living(ledger) == {"10.77.0.1": "draining"} and one(ledger).tags == {"role": "first"}
    force(ledger, declare(state="retired"), ADA)
    assert service(ledger).retired


def test_another_admins_service_is_changed_with_that_admins_signature_alone(ledger: Ledger) -> None:
    """Whoever took the name has it. Anybody's word turned its port, its check or its end into anything."""
    sign(ledger, declare())
    other_port = msgspec.structs.replace(declare(), port=22, check="tcp=:22")
    for body in (other_port, declare(state="retired")):
        before = service(ledger)
        item = sign(ledger, body, BOB)
        assert service(ledger) == before
        [waits] = ledger.reduction().services.unendorsed
        assert (waits.entry.hash, waits.wanted, waits.needed) == (fm.hash_of(item), ("admin",), 2)
        [condition] = ledger.membership(fm.NOW).conditions
        assert condition.code == "service_not_endorsed" and "admin must endorse it" in condition.text
        LogSigner(ledger, ADA).endorse(fm.hash_of(item), now=fm.NOW)
        assert ledger.reduction().services.unendorsed == ()
        assert (service(ledger).port, service(ledger).retired) == (body.port, body.state == "retired")
    sign(ledger, declare(kind="http"), BOB)
    sign(ledger, declare(kind="http", state="retired"), ADA)
    assert service(ledger).kind == "http" and not service(ledger).retired


def test_a_placement_belongs_to_the_owners_of_its_service_and_of_its_host(ledger: Ledger) -> None:
    """A host of another administrator's poses as a replica of a database with the leave of both alone."""
    fm.grant(ledger, BOB, "bohr")
    fm.fill(ledger, [fm.record("bohr")])
    address = str(ledger.reduction().effective[fm.key("bohr").kid].ranges.addresses[0])
    sign(ledger, declare())
    for signer, other in ((BOB, ADA), (ADA, BOB)):
        item = sign(ledger, place("bohr", address), signer)
        assert living(ledger) == {}
        LogSigner(ledger, other).endorse(fm.hash_of(item), now=fm.NOW)
        assert living(ledger) == {address: "active"}
        sign(ledger, place("bohr", address, state="retired"), other)
        assert living(ledger) == {}


def test_a_move_of_another_admins_placement_waits_and_anybody_drains_it(ledger: Ledger) -> None:
    """Draining gives nobody anything, and whoever is awake at night may have to do it."""
    sign(ledger, declare())
    sign(ledger, place("tesla", "10.77.0.1", role="first"))
    sign(ledger, place("tesla", "10.128.1.5", role="evil"), BOB)
    sign(ledger, place("tesla", "10.77.0.1", state="retired"), BOB)
    assert living(ledger) == {"10.77.0.1": "active"}
    assert {each.signers for each in ledger.reduction().services.unendorsed} == {frozenset({BOB.kid})}
    sign(ledger, place("tesla", "10.128.1.5", state="draining", role="evil"), BOB)
    assert living(ledger) == {"10.77.0.1": "draining"} and one(ledger).tags == {"role": "first"}
    sign(ledger, place("tesla", "10.77.0.1", role="first"))
    assert living(ledger) == {"10.77.0.1": "active"} and ledger.reduction().services.unendorsed == ()


def test_what_a_retired_admin_declared_is_its_heirs(ledger: Ledger) -> None:
    """As with hosts: the senior of those that are left, and nobody else."""
    heir, other = sorted((ADA, fm.key("admin2")), key=lambda key: key.kid)
    sign(ledger, declare(), BOB)
    sign(ledger, msgspec.structs.replace(declare(), port=1), other)
    cut = ledger.heads()[BOB.kid]
    fm.offer_root(ledger, fm.sign_root(fm.retire(ledger.chain, BOB.kid, cut), ADA))
    assert ledger.chain.version == 2
    assert service(ledger).port == 5432
    sign(ledger, msgspec.structs.replace(declare(), port=2), heir)
    assert service(ledger).port == 2


def test_a_mesh_without_any_administrator_has_the_services_that_it_had(ledger: Ledger) -> None:
    """Nobody is left who could agree with what waits: it stays so, and nothing is raised."""
    sign(ledger, declare())
    sign(ledger, place("tesla", "10.77.0.1"))
    sign(ledger, msgspec.structs.replace(declare(), port=22), BOB)
    sign(ledger, place("tesla", "10.128.1.5"), BOB)
    old = ledger.chain
    admins = [kid for kid in old.root.keys if old.current.is_admin(kid)]
    retired = {kid: retired_entry(old, kid, ledger.heads().get(kid, (0, ""))) for kid in admins}
    keys = {kid: key for kid, key in old.root.keys.items() if kid not in admins}
    root = fm.next_root(old, keys=keys, retired=retired)
    fm.offer_root(ledger, fm.sign_root(root, fm.key("recovery"), ADA))
    assert ledger.chain.version == 2 and not any(map(ledger.chain.current.is_admin, root.keys))
    assert service(ledger).port == 5432 and living(ledger) == {"10.77.0.1": "active"}


def test_the_order_of_arrival_changes_nothing(ledger: Ledger) -> None:
    before = dict(ledger.objects())
    sign(ledger, declare())
    sign(ledger, place("tesla", "10.77.0.1"))
    force(ledger, declare(kind="http"), BOB)
    sign(ledger, place("tesla", "10.77.0.1", state="draining"), BOB)
    fresh = [item for item in ledger.objects() if item[0] not in before]
    for order in itertools.permutations(fresh):
        other = Ledger(fm.make_chain(3))
        fm.fill(other, [*before.items(), *order])
        assert other.membership(fm.NOW).services == ledger.membership(fm.NOW).services


def test_a_word_that_would_change_nothing_is_refused() -> None:
    """Where two must agree one word alone drains nothing that is not there."""
    ledger = a_mesh(threshold=2)
    LogSigner(ledger, BOB).endorse(fm.hash_of(sign(ledger, declare())), now=fm.NOW)
    with pytest.raises(RegistryError, match="no effect"):
        sign(ledger, place("tesla", "10.77.0.1", state="draining"))
    sign(ledger, place("tesla", "10.77.0.1"))
    assert [each.signers for each in ledger.reduction().services.unendorsed] == [{ADA.kid}]


WORDS = st.tuples(
    st.sampled_from([BOB, fm.key("admin2")]),
    st.sampled_from(["declare", "place", "agree"]),
    st.sampled_from(["active", "draining", "retired"]),
    st.sampled_from(["10.77.0.1", "10.128.1.5", "10.77.0.2"]),
    st.sampled_from(["patroni", "http"]),
)


@pytest.mark.slow
@given(st.lists(WORDS, max_size=8))
def test_thieves_of_all_other_keys_together_change_nothing_but_whether_it_drains(
    words: list[tuple[SigningKey, str, str, str, str]],
) -> None:
    ledger = a_mesh()
    sign(ledger, declare())
    sign(ledger, place("tesla", "10.77.0.1", role="first"))
    before, [stays] = service(ledger), service(ledger).placements
    for key, what, state, address, kind in words:
        host = "newton" if address.endswith("0.2") else "tesla"
        made: Declaration | Place = place(host, address, state=state, role="evil")
        if what == "declare":
            made = msgspec.structs.replace(
                declare(kind=kind), port=22, state=state.replace("draining", "active")
            )
        force(ledger, made, key)
        if what == "agree":
            other = fm.key("admin2") if key == BOB else BOB
            LogSigner(ledger, other).append(Endorse(hash=ledger.heads()[key.kid][1]), now=fm.NOW)
    after = service(ledger)
    assert (after.kind, after.port, after.retired) == (before.kind, before.port, False)
    [found] = after.placements
    assert (found.address, found.tags) == (stays.address, stays.tags) and found.state in (
        "active",
        "draining",
    )
