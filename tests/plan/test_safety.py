"""A plan that would cut the mesh is refused, and one that a signature explains is not."""

from __future__ import annotations

from ipaddress import ip_network

from msgspec.structs import replace

from meshd.apply import apply_changes
from meshd.backend.memory import MemoryBackend
from meshd.mesh.desired import DesiredPeer, DesiredState
from meshd.mesh.endpoints import REJECT_AFTER_SECONDS
from meshd.model.device import PeerConfig, PeerStats
from meshd.model.keys import PrivateKey, PublicKey
from meshd.plan.diff import diff_state
from meshd.plan.plan import Plan, build_plan
from meshd.plan.safety import SafetyLimits

LIMITS = SafetyLimits(max_removed_share=0.2, view_generation=5, applied_generation=5)
OWN = PrivateKey(bytes([9]) * 32)


def key_of(number: int) -> PublicKey:
    return PublicKey(bytes([number]) * 32)


def mesh_of(*numbers: int, admins: tuple[int, ...] = ()) -> DesiredState:
    peers = {
        key_of(number): DesiredPeer(
            config=PeerConfig(
                public_key=key_of(number), allowed_ips=frozenset({ip_network(f"10.99.0.{number}/32")})
            ),
            hid=str(number),
            label=f"host{number}",
            reason="granted",
            is_admin=number in admins,
        )
        for number in numbers
    }
    return DesiredState(
        interface="wg0",
        private_key=OWN,
        public_key=OWN.public(),
        listen_port=51820,
        mtu_bytes=1420,
        addresses=frozenset(),
        peers=peers,
        routes=frozenset(),
    )


def plan_between(before: DesiredState, after: DesiredState, limits: SafetyLimits = LIMITS) -> Plan:
    backend = MemoryBackend()
    assert apply_changes(backend, "wg0", diff_state(backend.observe("wg0"), before)).error is None
    return build_plan(backend.observe("wg0"), after, limits)


def test_a_registry_that_suddenly_lists_nobody_is_refused() -> None:
    plan = plan_between(mesh_of(1, 2, 3, 4, 5), mesh_of())
    assert len(plan.objections) == 1
    assert "5 of 5 peers would be removed without a signed revoke" in plan.objections[0]


def test_half_the_mesh_going_is_refused_and_one_host_going_is_not() -> None:
    assert plan_between(mesh_of(1, 2, 3, 4), mesh_of(1, 2)).objections
    assert not plan_between(mesh_of(1, 2, 3, 4), mesh_of(1, 2, 3)).objections


def test_a_fifth_of_a_large_mesh_may_go_and_no_more() -> None:
    everyone = mesh_of(*range(1, 31))
    assert not plan_between(everyone, mesh_of(*range(1, 25))).objections
    assert plan_between(everyone, mesh_of(*range(1, 24))).objections


def test_removals_that_signed_revokes_explain_are_safe() -> None:
    after = replace(mesh_of(1), explained={key_of(n): "revoked by admin 1234" for n in (2, 3, 4)})
    plan = plan_between(mesh_of(1, 2, 3, 4), after)
    assert not plan.objections
    assert {change.reason for change in plan.changes} == {"revoked by admin 1234"}


def test_the_last_path_to_an_administrators_host_is_kept() -> None:
    limits = replace(LIMITS, admin_keys=frozenset({key_of(1)}))
    plan = plan_between(mesh_of(1, 2, 3, admins=(1,)), mesh_of(2, 3), limits)
    assert "administrator" in plan.objections[0]
    assert not plan_between(mesh_of(1, 2, 3, admins=(1, 2)), mesh_of(2, 3, admins=(2,)), limits).objections


def test_a_registry_older_than_the_applied_one_is_refused() -> None:
    older = replace(LIMITS, view_generation=4)
    (objection,) = plan_between(mesh_of(1, 2), mesh_of(1, 2, 3), older).objections
    assert "generation 4" in objection and "generation 5" in objection


def test_a_key_is_never_replaced_under_living_sessions() -> None:
    other = PrivateKey(bytes([8]) * 32)
    after = replace(mesh_of(1), private_key=other, public_key=other.public())
    published = replace(LIMITS, published_keys=frozenset({OWN.public()}))
    (objection,) = plan_between(mesh_of(1), after, published).objections
    assert "ends the sessions" in objection


def test_a_key_that_no_record_of_this_host_names_has_no_session_to_protect() -> None:
    """Somebody typed ``wg set wg0 private-key``: nobody talks to that key, and ours has to come back."""
    stranger = PrivateKey(bytes([8]) * 32)
    before = replace(mesh_of(1), private_key=stranger, public_key=stranger.public())
    published = replace(LIMITS, published_keys=frozenset({OWN.public()}))
    assert not plan_between(before, mesh_of(1), published).objections


def test_a_key_with_living_sessions_is_not_replaced_by_an_older_one_from_disk() -> None:
    """A state directory from before a rotation was put back, and the registry in it is as old."""
    newer, now = PrivateKey(bytes([8]) * 32), 1_800_000_000.0
    before = replace(mesh_of(1), private_key=newer, public_key=newer.public())
    for age, is_held in ((10.0, True), (REJECT_AFTER_SECONDS + 1, False)):
        backend = MemoryBackend()
        assert apply_changes(backend, "wg0", diff_state(backend.observe("wg0"), before)).error is None
        backend.peer_counts("wg0", key_of(1), PeerStats(latest_handshake_at=now - age))
        limits = replace(LIMITS, published_keys=frozenset({OWN.public()}), now=now)
        assert bool(build_plan(backend.observe("wg0"), mesh_of(1), limits).objections) == is_held


def test_nothing_to_do_is_never_held() -> None:
    older = replace(LIMITS, view_generation=0)
    assert not plan_between(mesh_of(1, 2), mesh_of(1, 2), older).objections
