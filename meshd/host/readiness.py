"""How far this host is on its way into a mesh, as one document: what ``wgctl add-host --ssh`` goes by."""

from __future__ import annotations

import msgspec

from meshd.errors import StateClaimedError
from meshd.host.state import HostState
from meshd.registry.signing import render_fingerprint
from meshd.version import VERSION


class Readiness(msgspec.Struct, frozen=True, kw_only=True, tag_field="format", tag="meshd-check-config/1"):
    """``meshd check-config``. ``config``: the settings file, which is right: there is no document otherwise.

    ``fingerprint``: of this host's identity, empty before ``meshd enroll``. ``mesh_id``: of the mesh that
    it has joined, empty before. ``is_running``: a meshd works on the state directory.
    """

    config: str
    version: str
    state_dir: str
    fingerprint: str = ""
    mesh_id: str = ""
    is_running: bool = False


def read_readiness(config: str, state: HostState) -> Readiness:
    """Reads this host's own files. TrustStateError for one that cannot be read."""
    return Readiness(
        config=config,
        version=VERSION,
        state_dir=str(state.directory),
        fingerprint=render_fingerprint(state.read_identity().kid) if state.enrolled else "",
        mesh_id=state.open_cache().load().mesh_id if state.joined else "",
        is_running=state.enrolled and is_claimed(state),
    )


def is_claimed(state: HostState) -> bool:
    """Whether another process works on the state directory."""
    try:
        with state.claimed():
            return False
    except StateClaimedError:
        return True
