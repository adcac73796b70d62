"""The door to what runs beside the daemon on this host: jails, or containers behind bridges."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from meshd.model.jail import JailRoute, Survey
from meshd.model.network import IPNetwork


class JailHost(Protocol):
    """Every method is blocking, bounded in time and raises BackendError."""

    @property
    def has_stacks(self) -> bool:
        """Whether jails can have network stacks whose routes are this program's to set."""

    def survey(self, networks: Collection[IPNetwork], *, afresh: bool = True) -> Survey:
        """Who runs, and at which addresses. Only the tables of VNET jails with an address in
        ``networks`` are read. ``afresh`` False: of these jails only those that have just started; of the
        others, what was read before holds."""

    def add_route(self, jail: str, route: JailRoute) -> None:
        """Already there: no error, the next look tells. A jail that has ended is one."""

    def close(self) -> None: ...
