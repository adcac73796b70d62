"""What is noted of the plan that was carried out last, for the next process. Pure."""

from __future__ import annotations

import msgspec

from meshd.host.state import AppliedNote
from meshd.model.host import Membership


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
