"""Documents about services, and about the Garage that holds a registry."""

from __future__ import annotations

from meshd.observe.protocol import ModuleReport
from meshd.observe.status import ModuleStatus, ServicesStatus
from meshd.services.distance import Traffic
from meshd.store.garage_layout import Preview, StagedChange
from wgctl.admin.garage_layout import LayoutRow
from wgctl.documents.base import Document
from wgctl.views.discovery import Proposal
from wgctl.views.services import ServiceRow


class ServiceList(Document, frozen=True, kw_only=True, tag="wgctl-service-list/1"):
    """``wgctl service list``. ``host``: the modules of this host's meshd; null where none answers."""

    services: tuple[ServiceRow, ...]
    host: ServicesStatus | None


class ServiceShown(Document, frozen=True, kw_only=True, tag="wgctl-service-show/1"):
    """``wgctl service show``: what has the name. ``traffic``: where each region finds the service."""

    services: tuple[ServiceRow, ...]
    modules: tuple[ModuleStatus, ...]
    traffic: tuple[Traffic, ...]


class WordsSigned(Document, frozen=True, kw_only=True, tag="wgctl-service/1"):
    """``wgctl service declare``, ``place`` and the like. ``waiting``: hashes that others have to endorse."""

    said: tuple[str, ...]
    statements: tuple[int, ...]
    changed: bool
    waiting: tuple[str, ...]


class Advised(Document, frozen=True, kw_only=True, tag="wgctl-service-advice/1"):
    """``wgctl service advise``. ``placement``: a line for each placement that is far from who uses it."""

    modules: tuple[ModuleReport, ...]
    placement: tuple[str, ...]


class Discovered(Document, frozen=True, kw_only=True, tag="wgctl-service-discover/1"):
    """``wgctl service discover``: jails of this host as placements that could be signed."""

    host: str
    jails: tuple[Proposal, ...]


class LayoutShown(Document, frozen=True, kw_only=True, tag="wgctl-garage-layout/1"):
    """``wgctl service garage layout show`` and ``stage``. ``preview``: null where nothing is staged."""

    version: int
    nodes: tuple[LayoutRow, ...]
    staged: tuple[StagedChange, ...]
    preview: Preview | None


class LayoutApplied(Document, frozen=True, kw_only=True, tag="wgctl-garage-layout-apply/1"):
    """``wgctl service garage layout apply``. ``applied``: the new version; null: nothing was staged.
    ``message``: what Garage says of it."""

    applied: int | None
    message: tuple[str, ...]


class GarageSynced(Document, frozen=True, kw_only=True, tag="wgctl-garage-sync/1"):
    """``wgctl garage-sync``: hosts by name; ``without_key``: who has to be given one."""

    buckets_created: tuple[str, ...]
    own_key_created: bool
    keys_created: tuple[str, ...]
    keys_deleted: tuple[str, ...]
    without_key: tuple[str, ...]
