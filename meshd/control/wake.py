"""Everything that can wake a turn, as one type: the log and ``wgctl status`` show why the last one ran."""

from __future__ import annotations

from enum import StrEnum


class Wake(StrEnum):
    """A reason for a turn. Several that come together are one turn."""

    START = "start"
    INTERVAL = "interval"
    """Nothing asked for one for so long."""
    APPLY = "apply"
    """``wgctl apply``."""
    ROLLBACK = "rollback"
    """``wgctl rollback``."""
    REGISTRY = "registry"
    """The verified membership is another one."""
    SETTINGS = "settings"
    """A reload."""
    KERNEL = "kernel"
    """Somebody changed interfaces, addresses, routes or jails."""
    NAMES = "names"
    """The name of an endpoint resolves to something else, or does not resolve any more."""
    PATH_DOWN = "path_down"
    """A path is dead: its candidate endpoints may be due soon."""
    PATH_MTU = "path_mtu"
    """A path carries less than it did, or more."""
    RELAY = "relay"
    """A pair is to go through another host, or directly again."""
    PAUSE = "pause"
    """The process or the machine stood still."""
    ROTATION = "rotation"
    """Recheck: pairs migrate between two interfaces."""
    TRIAL = "trial"
    """Recheck: a change has to prove itself."""
    DEFERRED = "deferred"
    """Recheck: a peer that was to begin the handshake has not done so in its time."""
    CANDIDATE = "candidate"
    """Recheck: the time of a candidate endpoint is over."""
