"""ZFS replication by zrepl: who sends to whom, and who may connect, known by mesh addresses.

zrepl's plain ``tcp`` transport takes a client's address for its identity, and names WireGuard as what makes
that sound. What is kept and for how long stays the operator's: meshd hands ``pruning`` on as it stands.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

import msgspec

from meshd.errors import ConfigError
from meshd.services.module import MODULE_API
from meshd.services.plan import Command, File, HttpGet, ServicePlan
from meshd.services.replication import (
    Topology,
    addresses_of,
    check_dataset,
    near_copies,
    own_placement,
    sources_of,
    targets_of,
)
from meshd.services.view import PlacementView, ServiceView

KIND: Final = "zrepl"
KEEP_ALL: Final = {"type": "regex", "regex": ".*"}
"""A snapshot that no rule keeps is destroyed: without a word of the operator's, none is."""


class ZreplConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``replicate``: the service, of kind zrepl. ``included``: zrepl's own file includes ``file``, which
    holds jobs alone. ``root_fs``: where copies of others go. ``filesystems``: what is sent, as zrepl's
    filter. ``send``, ``receive``, ``snapshotting``, ``keep_sender``, ``keep_receiver`` and ``settings``
    (zrepl's ``global``) are handed on. ``metrics``: ADDRESS:PORT of zrepl's monitoring, for a look.
    """

    file: str
    filesystems: dict[str, bool]
    replicate: str = "zrepl"
    topology: Topology = "ring"
    included: bool = False
    root_fs: str = ""
    snapshotting: dict[str, Any] = msgspec.field(default_factory=lambda: {"type": "manual"})
    keep_sender: tuple[dict[str, Any], ...] = (KEEP_ALL,)
    keep_receiver: tuple[dict[str, Any], ...] = (KEEP_ALL,)
    send: dict[str, Any] = {}
    receive: dict[str, Any] = msgspec.field(
        default_factory=lambda: {"placeholder": {"encryption": "inherit"}}
    )
    settings: dict[str, Any] = {}
    metrics: str = ""


class Zrepl:
    name: ClassVar[str] = "zrepl"
    api: ClassVar[int] = MODULE_API
    config_model: ClassVar[type[msgspec.Struct]] = ZreplConfig

    def render(self, view: ServiceView, config: ZreplConfig) -> ServicePlan:
        service, own = own_placement(view, config.replicate, KIND, "zrepl")
        targets = targets_of(service, own, config.topology)
        sources = sources_of(service, own, config.topology)
        jobs = [_push(config, each) for each in targets]
        if sources:
            jobs.insert(0, _sink(view, config, own, sources))
        if not jobs:
            raise ConfigError(f"{own.id}: nobody to send to or to receive from; place another one")
        document: dict[str, Any] = {"jobs": jobs}
        if not config.included:
            document = {**_global(config), **document}
        elif config.settings or config.metrics:
            raise ConfigError("zrepl.settings, zrepl.metrics: an included file holds jobs alone")
        text = msgspec.json.format(msgspec.json.encode(document)).decode() + "\n"
        return ServicePlan(
            files=(File(path=config.file, text=text, mode=0o640),),
            checks=(Command(argv=("zrepl", "--config", f"{{staged:{config.file}}}", "configcheck")),),
            reload="restart",
            restart_why="zrepl reads its file at its start alone; a transfer under way goes on after it",
            verify=_probes(config),
            verify_seconds=30.0,
            endpoints=tuple(each.id for each in (own, *targets, *sources)),
            services=(service.name,),
            notes=near_copies(view, own, targets),
        )


def _sink(
    view: ServiceView, config: ZreplConfig, own: PlacementView, sources: tuple[PlacementView, ...]
) -> dict[str, Any]:
    """Each client's copies have a subtree of their own, under its identity."""
    if not config.root_fs:
        senders = ", ".join(each.host for each in sources)
        raise ConfigError(f"zrepl.root_fs: needed, as {senders} sends here")
    check_dataset(config.root_fs, "zrepl.root_fs")
    clients = {address: _identity(each) for each in sources for address in addresses_of(view, each)}
    return {
        "name": "mesh_sink",
        "type": "sink",
        "root_fs": config.root_fs,
        "serve": {"type": "tcp", "listen": own.at, "listen_freebind": True, "clients": clients},
        "recv": config.receive,
    }


def _push(config: ZreplConfig, target: PlacementView) -> dict[str, Any]:
    """A job's name is part of zrepl's own marks on snapshots, so it names the target and nothing else."""
    if not config.filesystems:
        raise ConfigError('zrepl.filesystems: empty, as {"zroot/data<" = true} expected')
    sent = {"send": config.send} if config.send else {}
    return {
        "name": f"mesh_to_{_identity(target)}",
        "type": "push",
        "connect": {"type": "tcp", "address": target.at},
        "filesystems": config.filesystems,
        **sent,
        "snapshotting": config.snapshotting,
        "pruning": {
            "keep_sender": [*config.keep_sender, {"type": "not_replicated"}],
            "keep_receiver": list(config.keep_receiver),
        },
    }


def _global(config: ZreplConfig) -> dict[str, Any]:
    settings = dict(config.settings)
    if config.metrics:
        settings.setdefault("monitoring", [{"type": "prometheus", "listen": config.metrics}])
    return {"global": settings} if settings else {}


def _probes(config: ZreplConfig) -> tuple[HttpGet, ...]:
    """It runs again, and counts by itself. Which jobs it has it tells on a socket of its own alone."""
    if not config.metrics:
        return ()
    return (HttpGet(url=f"http://{config.metrics}/metrics", expect=("zrepl_start_time",)),)


def _identity(place: PlacementView) -> str:
    """A part of a dataset's name: lower-case letters, digits, ``-``, and of a jail ``_``."""
    jail = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in place.jail)
    return place.host + (f"_{jail}" if jail else "")
