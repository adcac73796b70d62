"""Garage: its nodes know each other by their mesh addresses. Where data lies is never changed here.

A layout that is wrong moves terabytes. So this module connects nodes and says at which address they are; what
each holds is an operator's word alone: ``wgctl service garage layout``.
"""

from __future__ import annotations

import re
from typing import ClassVar, Final

import msgspec

from meshd.errors import ConfigError
from meshd.services.module import MODULE_API
from meshd.services.placed import declared_service, own_placement
from meshd.services.plan import Call, Command, File, HttpCall, HttpGet, Probe, ServicePlan
from meshd.services.view import PlacementView, ServiceEntry, ServiceView

KIND: Final = "garage"
NODE_ID_TAG: Final = "node_id"
_NODE_ID: Final = re.compile(r"[0-9a-f]{64}")
_CONNECT_SECONDS: Final = 60.0
"""Garage tries one address after the other, and a host that is gone answers nothing."""


class GarageConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``cluster``: the service, of kind garage; its port is that of Garage's RPC. ``admin``: URL of this
    node's admin API. ``token``: name of a secret. ``file``: garage.toml; none: it is left alone.
    ``garage``: the program. ``jail_of``: which of several placements on this host.
    """

    admin: str
    cluster: str = "garage"
    token: str = "admin"
    file: str = ""
    garage: str = "garage"
    jail_of: str = ""


class Garage:
    name: ClassVar[str] = "garage"
    api: ClassVar[int] = MODULE_API
    config_model: ClassVar[type[msgspec.Struct]] = GarageConfig

    def render(self, view: ServiceView, config: GarageConfig) -> ServicePlan:
        cluster = declared_service(view, config.cluster, KIND, "garage.cluster")
        own = own_placement(view, cluster, config.jail_of)
        peers = [_at(each) for each in cluster.placements if each is not own and _node_id(each)]
        files, checks = _block(config, own, peers)
        return ServicePlan(
            files=files,
            checks=checks,
            calls=_connect(config, peers),
            verify=_probes(config, own),
            endpoints=tuple(each.id for each in cluster.placements),
            services=(cluster.name,),
            notes=tuple(_nameless(cluster)),
        )


def _block(
    config: GarageConfig, own: PlacementView, peers: list[str]
) -> tuple[tuple[File, ...], tuple[Command, ...]]:
    """Two keys at the top of the operator's file, where no table has begun yet.

    Garage reads its file at its start alone; until then the same is done over its admin API. Asked for its
    node's id, Garage reads all of the file, and says the address that it would tell others.
    """
    if not config.file:
        return (), ()
    address = own.at
    text = (
        f"rpc_public_addr = {msgspec.json.encode(address).decode()}\n"
        f"bootstrap_peers = {msgspec.json.format(msgspec.json.encode(peers), indent=2).decode()}\n"
    )
    check = Command(
        argv=(config.garage, "-c", f"{{staged:{config.file}}}", "node", "id", "-q"),
        expect=(f"{_node_id(own)}@{address}",),
        why="rpc_public_addr and bootstrap_peers stand in meshd's lines alone, above the first [table]",
    )
    return (File(path=config.file, text=text, mode=0o600, block=True, top=True),), (check,)


def _connect(config: GarageConfig, peers: list[str]) -> tuple[Call, ...]:
    """A node that is away is no failure: Garage tries again by itself, and no dead host holds others up."""
    if not peers:
        return ()
    url = f"{config.admin.rstrip('/')}/v2/ConnectClusterNodes"
    call = HttpCall(method="POST", url=url, body=peers, secret=config.token, timeout_seconds=_CONNECT_SECONDS)
    return (call,)


def _probes(config: GarageConfig, own: PlacementView) -> tuple[Probe, ...]:
    """It is the node that the registry says. Whether the cluster is healthy depends on others, and on a
    layout that nobody may have made yet."""
    url = f"{config.admin.rstrip('/')}/v2/GetNodeInfo?node=self"
    return (HttpGet(url=url, secret=config.token, expect=(f'"nodeId": "{_node_id(own)}',)),)


def _node_id(place: PlacementView) -> str:
    """As the tag says; empty: nobody has said it yet."""
    found = place.tags.get(NODE_ID_TAG, "")
    if found and _NODE_ID.fullmatch(found) is None:
        raise ConfigError(
            f"{place.id}: tag {NODE_ID_TAG}={found[:20]!r} seen, 64 hexadecimal digits expected"
        )
    return found


def _nameless(cluster: ServiceEntry) -> list[str]:
    """Nodes that cannot be connected yet; the id is made by a node's first start."""
    found = []
    for each in cluster.placements:
        if not _node_id(each):
            jail = f" --jail {each.jail}" if each.jail else ""
            found.append(
                f"{each.host} has no {NODE_ID_TAG} and is not connected: garage node id -q on it, then "
                f"wgctl service place {each.host}/{cluster.name}{jail} --tag {NODE_ID_TAG}=..."
            )
    return found


def _at(place: PlacementView) -> str:
    return f"{_node_id(place)}@{place.at}"
