"""How a host gets into the mesh: it asks with its own keys, and joins with a verified bundle."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Final

import msgspec

from meshd.errors import ConfigError
from meshd.host.comparison import find_replaced_root, require_compared
from meshd.host.state import HostState
from meshd.model.host import ENROLLMENT_VERSION
from meshd.registry.bundle import build_request, open_bundle
from meshd.registry.record import build_record
from meshd.registry.signing import SigningKey, render_fingerprint
from meshd.registry.statement import HOST_NAME
from meshd.settings import Settings
from meshd.text_files import read_standard_input, read_text_file
from meshd.version import VERSION

MAX_BUNDLE_FILE_BYTES: Final = 96 * 1024 * 1024


def build_enrollment(
    settings: Settings, name: str | None, *, new_identity: bool = False
) -> tuple[str, str, str]:
    """Make the host's keys if there are none; -> (the request's text, the identity's fingerprint, the
    name that it asks for).

    ``new_identity``: ask for the next identity of a host that keeps its id; the present one stays in
    use until a grant names the other. Asking again gives the same keys. ``name`` None: the one that it has
    in the mesh, else the system's own. ConfigError when that is no DNS label.
    """
    state = HostState(settings.state_dir)
    if new_identity or (state.enrolled and state.read_hid() != state.read_identity().kid):
        hid, gen, identity, granted = _later_identity(state, new_identity=new_identity)
        if name not in (None, granted):
            raise ConfigError(f"--name: {name!r} seen, this host is called {granted}")
        return _build(settings, state, hid, gen, identity, granted)
    if name is None:
        name = _granted_name(state) or _system_name()
    if HOST_NAME.fullmatch(name) is None:
        raise ConfigError(f"--name: {name[:80]!r} seen, a lower-case DNS label expected, as in newton")
    state.create()
    identity = state.create_identity()
    return _build(settings, state, identity.kid, 1, identity, name)


def _granted_name(state: HostState) -> str:
    """What the mesh calls this host, once it has joined; else empty."""
    if not (state.enrolled and state.joined):
        return ""
    found = state.open_cache().load().reduction().effective.get(state.read_hid())
    return found.grant.name if found is not None else ""


def _system_name() -> str:
    """The first label of the system's own name (hostname(1))."""
    name = socket.gethostname().partition(".")[0].lower()
    if HOST_NAME.fullmatch(name) is None or name == "localhost":
        raise ConfigError(f"--name: a name is needed, as this host calls itself {name[:80]!r}: as in newton")
    return name


def _later_identity(state: HostState, *, new_identity: bool) -> tuple[str, int, SigningKey, str]:
    """Id, generation, key and name of a host that is a member already."""
    if not state.joined:
        raise ConfigError(f"{state.directory}: this host has not joined a mesh: no identity to replace")
    hid = state.read_hid()
    found = state.open_cache().load().reduction().effective.get(hid)
    if found is None:
        raise ConfigError(f"host {hid[:8]}: no grant in force: a revoked host is enrolled anew")
    in_force = state.find_identity(found.ranges.identity)
    if new_identity:
        return hid, found.grant.gen + 1, state.create_next_identity(), found.grant.name
    if in_force is None:
        raise ConfigError(f"host {hid[:8]}: identity {found.grant.gen} is in force, and not on this machine")
    return hid, found.grant.gen, in_force, found.grant.name


def _build(
    settings: Settings, state: HostState, hid: str, gen: int, identity: SigningKey, name: str
) -> tuple[str, str, str]:
    key = state.create_wireguard_key()
    record = build_record(
        mesh="",
        hid=hid,
        gen=gen,
        version=ENROLLMENT_VERSION,
        private_key=key,
        listen_port=settings.wireguard.listen_port,
        endpoints=settings.endpoints,
        networks=settings.jail_networks,
        behind_nat=settings.host.behind_nat,
        software=f"meshd/{VERSION}",
    )
    return build_request(name, identity, record), render_fingerprint(identity.kid), name


def read_bundle(path: Path) -> str:
    """The text of a bundle file, ``-``: of standard input. ConfigError when it cannot be read."""
    if str(path) == "-":
        return read_standard_input("a join bundle", MAX_BUNDLE_FILE_BYTES)
    return read_text_file(path, "a join bundle", MAX_BUNDLE_FILE_BYTES)


class JoinedMesh(msgspec.Struct, frozen=True, kw_only=True):
    """``line`` says where this host is now; ``warning`` what somebody should look at, or nothing."""

    line: str
    warning: str


def join_mesh(
    settings: Settings, text: str, fingerprint: str | None, *, source: str, now: float
) -> JoinedMesh:
    """Verify a bundle and keep what it says, once somebody has compared its root. ``now``: unix seconds.

    ``fingerprint``: of its root, as typed; None: ask. ``source``: where the text is from, ``-`` for
    standard input. A host that is in this mesh already trusts a root of it: it adds what is new in the
    bundle and loses nothing.
    RegistryError when the bundle does not verify, ConfigError when it is another host's or
    this host is in another mesh.
    """
    state = HostState(settings.state_dir)
    hid = state.read_hid()
    state.read_wireguard_key()
    ledger, bundle = open_bundle(text, fingerprint)
    if bundle.hid != hid:
        raise ConfigError(
            f"join bundle: made for host {render_fingerprint(bundle.hid)}, "
            f"this host is {render_fingerprint(hid)}"
        )
    cache = state.open_cache()
    if cache.exists():
        held = cache.load()
        if held.mesh_id != ledger.mesh_id:
            raise ConfigError(
                f"{state.directory}: in mesh {held.mesh_id} already, the bundle is of {ledger.mesh_id}; "
                "a host is in one mesh: use another state_dir for a second one"
            )
        for key, body in ledger.objects():
            held.offer(key, body)
        cache.save(held)
    else:
        if fingerprint is None:
            require_compared(
                f"mesh {ledger.chain.root.mesh_name}",
                ledger.chain.fingerprint,
                (),
                shown_by="wgctl root list",
                source=source,
            )
        cache.create(ledger)
    if bundle.s3 is not None:
        state.write_credentials(bundle.s3.access_key, bundle.s3.secret_key)
    host = ledger.membership(now).hosts.get(bundle.hid)
    if host is not None:
        state.find_identity(host.identity_key)
    name = host.name if host else bundle.hid
    line = (
        f"joined {ledger.chain.root.mesh_name} as {name}, "
        f"root fingerprint {render_fingerprint(ledger.chain.fingerprint)}; now start meshd"
    )
    return JoinedMesh(line=line, warning=find_replaced_root(ledger, fingerprint))
