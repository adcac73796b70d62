"""The end of namespace labs whose owner was killed before it could tidy up."""

from __future__ import annotations

from meshd.lab.netns import delete_netns, end_processes, list_netns
from meshd.lab.owner import PREFIX, claim_abandoned


def cleanup_leftovers() -> tuple[str, ...]:
    """Remove the labs whose owner lives no more; the names of what was removed."""
    removed = []
    for lab in claim_abandoned(list_netns(PREFIX)):
        names = list_netns(f"{lab.name}-")
        end_processes(names)
        delete_netns(names)
        lab.close()
        removed.append(lab.name)
    return tuple(removed)
