"""Every condition code there is. docs/conditions.md has the same list with what to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from meshd.model.condition import Severity

CODES: Final[Mapping[str, Severity]] = {
    # the registry
    "store_down": Severity.WARNING,
    "registry_stale": Severity.WARNING,
    "registry_object_refused": Severity.WARNING,
    "registry_fork": Severity.CRITICAL,
    "registry_gap": Severity.WARNING,
    "registry_split_view": Severity.CRITICAL,
    "store_split_view": Severity.WARNING,
    "store_object_unusable": Severity.WARNING,
    "store_overfull": Severity.WARNING,
    "store_withholds": Severity.WARNING,
    "witness_refuted": Severity.WARNING,
    "exchange_object_refused": Severity.WARNING,
    "registry_conflict": Severity.WARNING,
    "registry_unknown_kind": Severity.INFO,
    "network_not_granted": Severity.WARNING,
    "endpoint_unusable": Severity.WARNING,
    "grant_outside_pool": Severity.WARNING,
    "grant_not_endorsed": Severity.INFO,
    "grant_expired": Severity.WARNING,
    "service_conflict": Severity.WARNING,
    "service_not_endorsed": Severity.INFO,
    "placement_outside_host": Severity.WARNING,
    "mesh_full": Severity.WARNING,
    "record_refused": Severity.WARNING,
    "wireguard_key_conflict": Severity.CRITICAL,
    "wireguard_key_unproven": Severity.WARNING,
    # this host
    "not_granted": Severity.CRITICAL,
    "self_revoked": Severity.CRITICAL,
    "identity_replaced": Severity.CRITICAL,
    "own_record_missing": Severity.WARNING,
    "plan_held": Severity.CRITICAL,
    "apply_failed": Severity.CRITICAL,
    "change_unconfirmed": Severity.WARNING,
    "change_rolled_back": Severity.CRITICAL,
    "route_conflict": Severity.WARNING,
    "jails_unknown": Severity.WARNING,
    "jail_route_failed": Severity.WARNING,
    "fib_unusable": Severity.WARNING,
    "forwarding_off": Severity.WARNING,
    "rotation_waits": Severity.WARNING,
    "rotation_endless": Severity.WARNING,
    "interface_taken": Severity.CRITICAL,
    "address_family_off": Severity.WARNING,
    "no_usable_endpoint": Severity.WARNING,
    "rotation_interface_taken": Severity.WARNING,
    "disk_failed": Severity.CRITICAL,
    "clock_stepped": Severity.WARNING,
    "settings_refused": Severity.WARNING,
    "exchange_down": Severity.WARNING,
    "part_failed": Severity.WARNING,
    # services of this host
    "service_held": Severity.WARNING,
    "service_failed": Severity.WARNING,
    "service_refused": Severity.WARNING,
    "service_broken": Severity.CRITICAL,
    "service_unheard": Severity.WARNING,
    "placement_down": Severity.WARNING,
    # measuring and showing
    "name_unresolved": Severity.WARNING,
    "peer_unreachable": Severity.WARNING,
    "probe_failed": Severity.WARNING,
    "path_mtu_low": Severity.INFO,
    "path_mtu_shrunk": Severity.WARNING,
    "path_mtu_too_low": Severity.WARNING,
    "no_metrics": Severity.WARNING,
}
