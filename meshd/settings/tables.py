"""The tables of meshd.toml: every key with its default, and what it means."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

FREEBSD: Final = sys.platform.startswith("freebsd")
DEFAULT_CONFIG_PATH: Final = Path("/usr/local/etc/meshd/meshd.toml" if FREEBSD else "/etc/meshd/meshd.toml")
DEFAULT_STATE_DIR: Final = "/var/db/meshd" if FREEBSD else "/var/lib/meshd"
DEFAULT_RUN_DIR: Final = "/var/run/meshd" if FREEBSD else "/run/meshd"
DEFAULT_METRICS_PORT: Final = 9891
DEFAULT_EXCHANGE_PORT: Final = 9892

BackendName = Literal["auto", "linux", "userspace", "freebsd"]


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file: no other keys than these."""


class HostSettings(Table, frozen=True, kw_only=True):
    """What this host says of itself in its record. ``endpoints``: ADDRESS:PORT or NAME:PORT, the underlay.

    ``reflection``: also say where the other hosts see it.
    """

    endpoints: tuple[str, ...] = ()
    behind_nat: bool = False
    reflection: bool = True


class WireguardSettings(Table, frozen=True, kw_only=True):
    """``boot_file``: wg-quick's form of the running mesh, kept 0600; empty: not written.

    Key rotations use ``rotation_interface`` (empty: the interface's number plus 100) and UDP port
    ``listen_port`` + 1. ``key_lifetime_days`` 0: the key stays until an administrator asks.
    ``fibs``: FreeBSD's routing tables that get the routes, the first one counts; none: that of meshd.
    """

    interface: str = "wg0"
    listen_port: int = 51820
    mtu_bytes: int = 1420
    backend: BackendName = "auto"
    userspace_program: str = ""
    boot_file: str = ""
    persistent_keepalive_seconds: int = 25
    rotation_interface: str = ""
    key_lifetime_days: float = 0.0
    fibs: tuple[int, ...] = ()


class RegistrySettings(Table, frozen=True, kw_only=True):
    """``stores`` empty: those of the signed root. ``poll_seconds`` 0: by the number of hosts."""

    stores: tuple[str, ...] = ()
    poll_seconds: float = 0.0
    stale_after_seconds: float = 900.0


class JailSettings(Table, frozen=True, kw_only=True):
    """The jail networks that this host announces, each within its grant; ``auto``: those in which its
    jails are. ``routes``: VNET jails get a route to the mesh where they need one."""

    networks: tuple[str, ...] | Literal["auto"] = ()
    routes: bool = True

    @property
    def is_auto(self) -> bool:
        return self.networks == "auto"


class ProbeSettings(Table, frozen=True, kw_only=True):
    """``interval_seconds`` 0: a second per hundred peers, 1 to 10. ``window``: probes kept for loss.
    ``path_mtu``: search each path's MTU and give it to the routes."""

    interval_seconds: float = 0.0
    window: int = 60
    path_mtu: bool = True


class MetricsSettings(Table, frozen=True, kw_only=True):
    """``listen``: ADDRESS:PORT each; the address ``mesh`` stands for the host's first mesh address."""

    listen: tuple[str, ...] = (f"mesh:{DEFAULT_METRICS_PORT}",)


class ExchangeSettings(Table, frozen=True, kw_only=True):
    """``port``: the same on every host of a mesh. ``witness_seconds``: between two rounds of witnesses."""

    enabled: bool = True
    port: int = DEFAULT_EXCHANGE_PORT
    witness_seconds: float = 60.0


class RelaySettings(Table, frozen=True, kw_only=True):
    """``enabled``: this host forwards for pairs of others, on UDP port ``wireguard.listen_port`` + 2, at most
    ``pairs`` and ``bytes_per_second``. ``use``: pairs of this host may go through others. ``loss_ratio``:
    of probes, from which they do although the direct path lives; 0: never for that. ``latency``: they do also
    where that is shorter by ``latency_margin_ms`` and ``latency_share`` for ``latency_minutes``."""

    enabled: bool = True
    use: bool = True
    pairs: int = 32
    bytes_per_second: int = 12_500_000
    loss_ratio: float = 0.2
    latency: bool = False
    latency_margin_ms: float = 20.0
    latency_share: float = 0.25
    latency_minutes: float = 5.0


class SafetySettings(Table, frozen=True, kw_only=True):
    """``max_removed_share``: a plan that removes more than max(1, this share) of the peers unexplained is
    held. ``confirm_seconds``: a change of more than one peer is rolled back when half of those that it
    touched are silent for so long; 0: never."""

    max_removed_share: float = 0.2
    confirm_seconds: float = 120.0


class ControlSettings(Table, frozen=True, kw_only=True):
    """``group``: its members may ask meshd how it is (``wgctl status``, ``plan``); empty: root alone."""

    group: str = ""


class LogSettings(Table, frozen=True, kw_only=True):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


class SettingsFile(Table, frozen=True, kw_only=True):
    """The whole file, as it is written."""

    state_dir: str = DEFAULT_STATE_DIR
    run_dir: str = DEFAULT_RUN_DIR
    host: HostSettings = HostSettings()
    wireguard: WireguardSettings = WireguardSettings()
    registry: RegistrySettings = RegistrySettings()
    jails: JailSettings = JailSettings()
    probe: ProbeSettings = ProbeSettings()
    metrics: MetricsSettings = MetricsSettings()
    exchange: ExchangeSettings = ExchangeSettings()
    relay: RelaySettings = RelaySettings()
    safety: SafetySettings = SafetySettings()
    log: LogSettings = LogSettings()
    control: ControlSettings = ControlSettings()
    services: dict[str, dict[str, Any]] = {}
