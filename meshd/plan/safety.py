"""What a plan may not do on its own authority.

A signed statement that explains a removal makes it safe; a registry that suddenly lists
nobody, or a fault in this program, does not.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence

import msgspec
from msgspec.structs import replace

from meshd.mesh.desired import GRANT_ENDED, DesiredState
from meshd.mesh.endpoints import is_live
from meshd.mesh.view import MeshView
from meshd.model.device import ObservedState
from meshd.model.keys import PublicKey
from meshd.model.network import Endpoint, host_network
from meshd.plan.changes import Change, RemovePeer, SetPeer, SetPrivateKey
from meshd.plan.diff import Side


class SafetyLimits(msgspec.Struct, frozen=True, kw_only=True):
    """``max_removed_share`` of the present peers may go unexplained, and always one.

    ``view_generation`` is the registry's, ``applied_generation`` that of the last plan that
    this host carried out; an older view was lost or rolled back on this machine.
    ``admin_keys``: the peers that were administrators' hosts when that plan was carried out.
    ``clock_step_seconds``: how far this host's clock was set forward while it ran.
    ``unknown_past``: the notes that were lost of what this host did; nobody goes without a signature then.
    ``published_keys``: those that this host's newest record names. ``now``: unix seconds.
    """

    max_removed_share: float
    view_generation: int
    applied_generation: int
    admin_keys: frozenset[PublicKey] = frozenset()
    clock_step_seconds: float = 0.0
    published_keys: frozenset[PublicKey] = frozenset()
    now: float = 0.0
    unknown_past: tuple[str, ...] = ()


def check_safety(changes: Sequence[Change], sides: Sequence[Side], limits: SafetyLimits) -> tuple[str, ...]:
    """The objections to these changes, each a line for people; empty: safe to apply.

    The first of ``sides`` is the mesh's interface. What goes from the other one, which serves key
    rotations, has a peer on the first and takes nobody away.
    """
    if not changes:
        return ()
    main = sides[0]
    assert main.desired is not None
    objections = [
        *_object_to_removals(
            [change for change in changes if change.interface == main.desired.interface],
            main.observed,
            main.desired,
            limits,
        ),
    ]
    if limits.view_generation < limits.applied_generation:
        objections.append(
            f"the registry held here is older (generation {limits.view_generation}) than the one already "
            f"applied (generation {limits.applied_generation}): its cache was lost or put back"
        )
    objections += [text for side in sides for text in _object_to_key(changes, side, limits)]
    return tuple(objections)


def find_urgent(
    changes: Sequence[Change],
    view: MeshView,
    carried_out: Container[str] = frozenset(),
    detours: Container[Endpoint] = frozenset(),
) -> tuple[Change, ...]:
    """Those that wait for nothing, whatever holds the others: they take away a peer whose host was revoked,
    or send a peer's packets around a dead path.

    ``carried_out``: hids of hosts whose revoke was carried out before. A peer that has such a host's
    address today is another one's, of which a registry that was put back knows nothing. ``detours``: the
    endpoints that lead around.

    Each stands for itself: WireGuard lets nobody in through a peer that is gone, whether or not a route
    still leads there.
    """
    removals = tuple(change for change in changes if isinstance(change, RemovePeer))
    if view.own_revocation is not None:
        return removals
    revoked = {
        host_network(address)
        for hid, revocation in view.membership.revoked.items()
        if hid not in carried_out
        for address in revocation.addresses
    }
    urgent = (change for change in removals if not revoked.isdisjoint(change.old.allowed_ips))
    return (*urgent, *(change for change in changes if _is_detour(change, detours)))


def _is_detour(change: Change, detours: Container[Endpoint]) -> bool:
    """It changes nothing but where a peer's packets are sent, to one of these."""
    return (
        isinstance(change, SetPeer)
        and change.new.endpoint in detours
        and replace(change.old, endpoint=change.new.endpoint) == change.new
    )


def _object_to_removals(
    changes: Sequence[Change], observed: ObservedState, desired: DesiredState, limits: SafetyLimits
) -> Iterator[str]:
    present = observed.device.peers if observed.device else {}
    # A peer that owns no prefix carries nothing: what a replacing key, taken over before, left behind.
    removed = [change for change in changes if isinstance(change, RemovePeer) and change.old.allowed_ips]
    unexplained = [change for change in removed if change.public_key not in desired.explained]
    if unexplained and limits.unknown_past:
        yield (
            f"{len(unexplained)} of {len(present)} peers would be removed without a signed revoke, and what "
            f"this host carried out before is not known ({'; '.join(limits.unknown_past)})"
        )
    allowed = max(1, int(limits.max_removed_share * len(present)))
    if len(unexplained) > allowed:
        yield (
            f"{len(unexplained)} of {len(present)} peers would be removed without a signed revoke, "
            f"at most {allowed} expected: {', '.join(change.label for change in unexplained[:5])}"
        )
    ended = [c for c in removed if desired.explained.get(c.public_key, "").startswith(GRANT_ENDED)]
    if ended and limits.clock_step_seconds > 0:
        yield (
            f"the grants of {len(ended)} peers would have ended by a clock that was just set forward by "
            f"{limits.clock_step_seconds:.0f} s"
        )
    admins_leave = [change.label for change in unexplained if change.public_key in limits.admin_keys]
    if admins_leave and not any(peer.is_admin for peer in desired.peers.values()):
        yield f"the last path to an administrator's host ({', '.join(admins_leave)}) would be removed"


def _object_to_key(changes: Sequence[Change], side: Side, limits: SafetyLimits) -> Iterator[str]:
    """A key that this host's record does not name, and with which no session lives, was put there by
    somebody: the mesh is only back when it goes. With living sessions it is this host's, and what is on disk
    is older: a state directory was put back."""
    present = side.observed.device.peers if side.observed.device else {}
    for change in changes:
        if not isinstance(change, SetPrivateKey) or change.interface != side.observed.interface:
            continue
        retired = side.desired.retired_keys if side.desired else frozenset()
        lives = any(is_live(peer, limits.now) for peer in present.values())
        is_in_use = change.old is not None and (lives or change.old in limits.published_keys)
        if is_in_use and change.old not in retired and present:
            yield (
                f"the key of {change.interface} would be replaced in place ({change.old} by {change.new}), "
                f"which ends the sessions with all {len(present)} peers"
            )
