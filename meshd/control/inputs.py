"""Takes the inputs of a turn together, from the parts that know them."""

from __future__ import annotations

from typing import Final

from meshd.control.endpoints import EndpointController
from meshd.control.own_endpoints import OwnEndpoints
from meshd.control.paths import PathWatch
from meshd.control.registry_feed import RegistryFeed
from meshd.control.relays import RelayKeeper
from meshd.control.turn import Inputs
from meshd.host.keyring import KeyRing
from meshd.host.local import boot_file, local_device
from meshd.settings import Settings

DAY_SECONDS: Final = 86400.0


class InputGatherer:
    """Lives on the event loop, and is asked when a turn begins."""

    def __init__(
        self,
        *,
        feed: RegistryFeed,
        keys: KeyRing,
        own_endpoints: OwnEndpoints,
        endpoints: EndpointController,
        paths: PathWatch,
        relays: RelayKeeper,
    ) -> None:
        self._feed = feed
        self._keys = keys
        self._own_endpoints = own_endpoints
        self._endpoints = endpoints
        self._paths = paths
        self._relays = relays

    def gather(self, settings: Settings) -> Inputs:
        """The inputs of a turn that goes by these settings and begins now."""
        return Inputs(
            membership=self._feed.membership,
            local=local_device(settings, self._keys.key, self._own_endpoints.learned),
            max_removed_share=settings.safety.max_removed_share,
            boot_file=boot_file(settings),
            key_lifetime_seconds=settings.wireguard.key_lifetime_days * DAY_SECONDS,
            confirm_seconds=settings.safety.confirm_seconds,
            path_mtus=self._paths.route_mtus(),
            paths=self._paths.stats(),
            resolved=self._endpoints.resolved,
            pinned=self._relays.pins(),
        )
