"""What is noted of the plan that was carried out last, for the next process. Pure."""

from __future__ import annotations

import msgspec

from meshd.control.sense import Sensed
from meshd.control.turn import Inputs
from meshd.host.state import AppliedNote
from meshd.model.host import Membership
from meshd.model.keys import PublicKey
from meshd.plan.safety import SafetyLimits


def next_note(before: AppliedNote, membership: Membership, admin_keys: tuple[str, ...]) -> AppliedNote:
    """The note after a turn that left nothing to do.

    An older registry leaves it as it is, also where it asks for no change: whoever put a cache back could
    else make the host forget, by one turn without changes, that it has seen more.
    """
    if membership.generation < before.generation:
        return before
    return AppliedNote(
        generation=membership.generation, admin_keys=admin_keys, revoked=tuple(sorted(membership.revoked))
    )


def accept_older(before: AppliedNote, membership: Membership) -> AppliedNote:
    """The same where an operator says that this registry counts although it is older: it counts anew."""
    if membership.generation >= before.generation:
        return before
    return msgspec.structs.replace(before, generation=0)


def safety_limits(
    sensed: Sensed, inputs: Inputs, applied: AppliedNote, clock_step_seconds: float, damages: tuple[str, ...]
) -> SafetyLimits:
    """What a plan may not do, by what is noted of the one before. ``damages``: of notes that were lost."""
    own = sensed.view.own.record if sensed.view.own else None
    named = (own.public_key, own.next_public_key) if own else ()
    return SafetyLimits(
        max_removed_share=inputs.max_removed_share,
        view_generation=inputs.membership.generation,
        applied_generation=applied.generation,
        admin_keys=frozenset(PublicKey.parse(text) for text in applied.admin_keys),
        clock_step_seconds=clock_step_seconds,
        published_keys=frozenset(key for key in named if key is not None),
        unknown_past=damages,
        now=sensed.observation.at,
    )
