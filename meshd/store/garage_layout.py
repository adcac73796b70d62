"""Garage's layout by its admin API, version 2: which node holds how much, now and as it is staged.

What is staged moves nothing. ``apply`` does, and Garage takes it only for the version that comes next: two
operators at once cannot both have their way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from meshd.errors import StoreError
from meshd.store.garage_http import TIMEOUTS, AdminToken, AdminTransport

T = TypeVar("T")
COMPUTE_SECONDS: Final = 20.0
"""Garage computes the new partitions before it answers."""


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """``capacity``: bytes; None: a gateway, which holds no data."""

    id: str
    zone: str
    capacity: int | None = None
    tags: tuple[str, ...] = ()


class StagedChange(msgspec.Struct, frozen=True, kw_only=True):
    """A role that is staged, or with ``remove`` one that goes."""

    id: str
    remove: bool = False
    zone: str = ""
    capacity: int | None = None
    tags: tuple[str, ...] = ()


class Layout(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``roles``: in force, in ``version``. ``staged_role_changes``: not yet."""

    version: int
    roles: tuple[Role, ...] = ()
    staged_role_changes: tuple[StagedChange, ...] = ()

    def next_roles(self) -> dict[str, Role]:
        """By node id, as they would be once all that is staged is applied."""
        roles = {role.id: role for role in self.roles}
        for change in self.staged_role_changes:
            roles.pop(change.id, None)
            if not change.remove:
                roles[change.id] = Role(
                    id=change.id, zone=change.zone, capacity=change.capacity, tags=change.tags
                )
        return roles


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """``message``: Garage's own words for what would move. ``error``: why it cannot be."""

    message: tuple[str, ...] = ()
    error: str | None = None


class LayoutAdmin:
    """One cluster's layout. StoreDeniedError for a bad token, StoreError for all else that goes wrong."""

    def __init__(self, urls: Sequence[str], token: AdminToken) -> None:
        self._http = AdminTransport(urls, token, TIMEOUTS)

    def close(self) -> None:
        self._http.close()

    def read(self) -> Layout:
        return self._ask("GET", "GetClusterLayout", Layout)

    def stage(self, changes: Sequence[StagedChange]) -> Layout:
        """Add to what is staged; -> the layout with it."""
        return self._ask("POST", "UpdateClusterLayout", Layout, {"roles": [*map(_body, changes)]})

    def revert(self) -> Layout:
        """Forget all that is staged."""
        return self._ask("POST", "RevertClusterLayout", Layout)

    def preview(self) -> Preview:
        return self._ask("POST", "PreviewClusterLayoutChanges", Preview)

    def apply(self, version: int) -> Preview:
        """Make what is staged the layout of this version; data begins to move. RefusedError: not the next."""
        return self._ask("POST", "ApplyClusterLayout", Preview, {"version": version})

    def _ask(self, method: str, call: str, kind: type[T], body: Mapping[str, Any] | None = None) -> T:
        answer = self._http.ask(method, call, body=body, seconds=COMPUTE_SECONDS)
        try:
            return msgspec.json.decode(answer, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StoreError(f"{call}: not an answer of Garage's admin API, version 2: {error}") from None


def _body(change: StagedChange) -> dict[str, Any]:
    if change.remove:
        return {"id": change.id, "remove": True}
    return {"id": change.id, "zone": change.zone, "capacity": change.capacity, "tags": list(change.tags)}
