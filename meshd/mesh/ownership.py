"""Whether an interface is this host's. Pure.

A name proves nothing: wg0 is the first name that anybody gives a tunnel. Two things prove it: this host's
own key on it, or this host's mark, which ``meshd`` writes on what it makes. One that carries nothing yet
belongs to whoever configures it.
"""

from __future__ import annotations

from collections.abc import Container

from meshd.model.condition import Condition, Severity
from meshd.model.device import ObservedState
from meshd.model.keys import PublicKey


def is_ours(observed: ObservedState, own_keys: Container[PublicKey]) -> bool:
    """Whether it may be changed. True where there is none. ``own_keys``: every key that this host has."""
    if is_proven(observed, own_keys) or not interface_exists(observed):
        return True
    device = observed.device
    if device is None:  # a link that is not WireGuard
        return False
    return device.public_key is None and not device.peers and not observed.addresses


def is_proven(observed: ObservedState, own_keys: Container[PublicKey]) -> bool:
    """Whether it is this host's beyond doubt, so that it may be taken away. A blank one is not."""
    device = observed.device
    return observed.marked or (device is not None and device.public_key in own_keys)


def interface_exists(observed: ObservedState) -> bool:
    """Whether there is a link of that name, WireGuard or not."""
    return observed.device is not None or observed.mtu_bytes is not None


def interface_taken(observed: ObservedState) -> Condition:
    """What an operator is told of one that is not. No word of --force: that would end the other tunnel."""
    name, device = observed.interface, observed.device
    kind = "is no WireGuard interface"
    if device is not None:
        peers = f"{len(device.peers)} peer{'' if len(device.peers) == 1 else 's'}"
        kind = f"has a key that is not this host's ({device.public_key or 'none'}), {peers}"
    return Condition(
        code="interface_taken",
        severity=Severity.CRITICAL,
        subject=name,
        text=f"{name} {kind}, and meshd did not make it: it is somebody else's (wg-quick@{name}?) and "
        "was not touched, so this host is not in the mesh; give meshd a name of its own "
        f"(wireguard.interface, and another wireguard.listen_port where that one has it), "
        f"or remove {name} if nobody needs it",
    )
