"""Which settings a reload may change; all others need a restart."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from meshd.errors import ConfigError
from meshd.settings import Settings, setting_values

LIVE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "host.endpoints": "this host's record",
        "host.behind_nat": "this host's record, and who keeps sessions alive",
        "host.reflection": "this host's record",
        "wireguard.listen_port": "the next plan, and this host's record",
        "wireguard.mtu_bytes": "the next plan",
        "wireguard.boot_file": "the next turn writes it",
        "wireguard.persistent_keepalive_seconds": "the next plan",
        "wireguard.key_lifetime_days": "the next turn",
        "registry.poll_seconds": "the pause before the next poll",
        "registry.stale_after_seconds": "the next poll",
        "jails.networks": "this host's record",
        "jails.routes": "the next turn",
        "metrics.listen": "the listener moves after the next turn",
        "relay.enabled": "the next turn; pairs that are carried find somebody else",
        "relay.use": "the next turn; pairs that are relayed go back at once",
        "relay.pairs": "the next pair",
        "relay.bytes_per_second": "the next turn",
        "relay.loss_ratio": "the next turn",
        "relay.latency": "the next turn; pairs that go a shorter way stay until it is shorter no more",
        "relay.latency_margin_ms": "the next comparison",
        "relay.latency_share": "the next comparison",
        "relay.latency_minutes": "the next comparison",
        "safety.max_removed_share": "the next plan",
        "safety.confirm_seconds": "the change on trial, and the next one",
        "log.level": "at once",
        "log.format": "at once",
    }
)
"""The key and what takes it up. A key that is not here names something that lives as long as the process
does, or nobody has shown yet that a reload carries it out: tests/daemon/test_reload.py does so for each."""


def refuse_fixed(old: Settings, new: Settings) -> None:
    """ConfigError names the first key that only a restart may change, and its two values."""
    before, after = setting_values(old), setting_values(new)
    for key in before:
        if key not in LIVE and before[key] != after[key]:
            raise ConfigError(f"{key}: {before[key]} before, {after[key]} now: restart meshd for this one")
